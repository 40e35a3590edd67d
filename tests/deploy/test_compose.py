"""The compose stack for real: images, health, and accuracy by BER bucket from Prometheus."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy import compose_stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]

BASE_IMAGE = re.search(r"^FROM (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)[1]
PROMETHEUS_IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
LIMITS_BYTES = {"weaklink-device": 250e6, "weaklink-emulator": 250e6, "weaklink-edge": 1.5e9}
OURS = ("edge", "emulator", "device")
WATCHED = 30  # judged predictions in a bucket before its accuracy says anything


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


def accuracy_by_bucket(stack: compose_stack.Stack) -> dict[str, float]:
    """BER bucket -> share of right answers, of the buckets that have seen enough."""
    seen = {labels["ber_bucket"] for labels, count in stack.query("sum by (ber_bucket) (weaklink_predictions_total)")
            if count >= WATCHED}  # fmt: skip
    ratio = "sum by (ber_bucket) (weaklink_correct_predictions_total) / sum by (ber_bucket) (weaklink_predictions_total)"
    return {labels["ber_bucket"]: value for labels, value in stack.query(ratio) if labels["ber_bucket"] in seen}


def test_prometheus_knows_the_accuracy_by_ber_bucket(stack):
    assert wait_for(lambda: len(accuracy_by_bucket(stack)) >= 4, 240), accuracy_by_bucket(stack)
    accuracy = accuracy_by_bucket(stack)
    print("accuracy by BER bucket:", {bucket: round(share, 3) for bucket, share in sorted(accuracy.items())})
    assert all(share > 0.75 for share in accuracy.values())


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
