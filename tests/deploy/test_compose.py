"""The compose stack for real: images, health, and accuracy by BER bucket from Prometheus."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator

import grpc
import httpx
import pytest
import yaml

from semantic_codec.bundle import find_bundle
from tests.conftest import ROOT
from tests.deploy import compose_stack
from weaklink.v1 import edge_pb2, edge_pb2_grpc

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]

BASE_IMAGE = re.search(r"^FROM (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)[1]
PROMETHEUS_IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
LIMITS_BYTES = {"weaklink-device": 250e6, "weaklink-emulator": 250e6, "weaklink-edge": 1.5e9}
SECRETS = "/var/lib/weaklink/secrets"
OURS = ("edge", "emulator", "device")
CODEC = os.environ.get("WEAKLINK_CODEC", "cifar10")
WATCHED = 100  # judged predictions in a bucket before its accuracy says anything


@pytest.fixture(scope="module")
def stack() -> Iterator[compose_stack.Stack]:
    try:
        started = compose_stack.start_engine([PROMETHEUS_IMAGE])
    except compose_stack.NoEngine as reason:
        pytest.skip(f"docker compose was not tested: {reason}")
    try:
        stack = compose_stack.Stack()
        try:
            stack.compose("build", timeout=1200)
            stack.compose("up", "--detach", timeout=300)
            yield stack
        finally:
            stack.compose("down", "--volumes", "--timeout", "10")
    finally:
        if started:
            compose_stack.stop_engine()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(2)
    return False


def judged_by_bucket(stack: compose_stack.Stack) -> dict[str, tuple[float, float]]:
    """BER bucket -> (judged predictions, share of right ones), of the buckets that have seen enough."""
    counted = stack.query("sum by (ber_bucket) (weaklink_predictions_total)")
    ratio = "sum by (ber_bucket) (weaklink_correct_predictions_total) / sum by (ber_bucket) (weaklink_predictions_total)"
    share = {labels["ber_bucket"]: value for labels, value in stack.query(ratio)}
    return {labels["ber_bucket"]: (count, share.get(labels["ber_bucket"], 0.0)) for labels, count in counted
            if count >= WATCHED}  # fmt: skip


def published_shares() -> list[float]:
    """Shares of right answers in the codec's own table, at its longest level and the BERs of the demo's link."""
    manifest = find_bundle(CODEC).manifest
    longest = manifest.levels[-1].number
    return [row["accuracy_percent"] / 100 for row in manifest.accuracy if row["level"] == longest and row["ber"] <= 0.1]


def test_prometheus_knows_the_accuracy_by_ber_bucket(stack):
    assert wait_for(lambda: len(judged_by_bucket(stack)) >= 4, 240), judged_by_bucket(stack)
    judged, published = judged_by_bucket(stack), published_shares()
    for bucket, (count, share) in sorted(judged.items()):
        print(f"BER up to {bucket}: accuracy {100 * share:.1f} % of {count:.0f}")
        # Four standard deviations of so few.
        margin = 2 / math.sqrt(count)
        assert min(published) - margin < share < max(published) + margin


def test_every_service_becomes_healthy(stack):
    services = (*OURS, "prometheus")
    assert wait_for(lambda: all(stack.health(name) == "healthy" for name in services), 90), {
        name: stack.container(name)["State"]["Health"] for name in services
    }


def test_prometheus_reaches_its_targets_and_the_dashboards_queries_have_answers(stack):
    assert {labels["job"]: value for labels, value in stack.query("up")} == {"edge": 1, "emulator": 1}
    flipped = 'rate(weaklink_link_bits_flipped_total{link="radio",direction="up"}[2m])'
    assert stack.query(flipped)[0][1] > 0
    [(_, p99)] = stack.query(
        'histogram_quantile(0.99, sum by (le) (rate(weaklink_latency_seconds_bucket{stage="total"}[2m])))'
    )
    assert math.isfinite(p99)


def test_strangers_are_refused_and_the_admin_is_not(stack):
    address = f"http://{stack.address('edge', 8080)}"
    token = stack.compose("run", "--rm", "--entrypoint", "cat", "keys", f"{SECRETS}/admin/admin.token").strip()
    with httpx.Client(base_url=address, trust_env=False) as client:
        for path in ("/", "/metrics", "/v1/codecs"):
            assert client.get(path).status_code == 401
            assert client.get(path, auth=("anybody", token)).status_code == 200
    with grpc.insecure_channel(stack.address("edge", 50051), options=[("grpc.enable_http_proxy", 0)]) as channel:
        with pytest.raises(grpc.RpcError) as error:
            edge_pb2_grpc.EdgeInferenceStub(channel).ListCodecs(edge_pb2.ListCodecsRequest(), timeout=30)
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_new_device_is_known_without_a_restart_and_nothing_else_changes(stack):
    before = stack.compose("run", "--rm", "--entrypoint", "cat", "keys", f"{SECRETS}/devices/1.key")
    stack.compose("run", "--rm", "keys", "keys", "init", SECRETS, "--devices", "1,2,7")
    assert stack.compose("run", "--rm", "--entrypoint", "cat", "keys", f"{SECRETS}/devices/1.key") == before
    assert wait_for(lambda: stack.query("weaklink_keys")[0][1] == 3, 60)


@pytest.mark.parametrize("service", OURS)
def test_a_container_runs_unprivileged_on_a_read_only_root(stack, service):
    assert stack.compose("exec", "-T", service, "id", "-u").strip() == "10001"
    container = stack.container(service)
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["RestartCount"] == 0


@pytest.mark.parametrize("image", LIMITS_BYTES)
def test_an_image_stays_within_its_size(stack, image):
    over_base = compose_stack.image_bytes(image) - compose_stack.image_bytes(BASE_IMAGE)
    print(f"{image}: {over_base / 1e6:.0f} MB over {BASE_IMAGE}")
    assert over_base <= LIMITS_BYTES[image]


def test_stopping_ends_every_service_of_ours_cleanly(stack):
    for service in reversed(OURS):
        stack.compose("stop", "--timeout", "30", service)
        assert stack.container(service)["State"]["ExitCode"] == 0
