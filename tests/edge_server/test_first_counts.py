"""The first failure shows as an increase: what alerts wait for is scraped as 0 before it, over real HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_server import http_infer, infer_calls
from edge_server.metrics import RELOADED, TRANSPORTS
from edge_server.oip import grpc_api, http_api
from edge_server.serial_door import SerialLine
from edge_server.udp_door import Sender
from semantic_codec.errors import BundleError
from tests.edge_server.conftest import make_bundle, running
from tests.edge_server.test_http_api import http
from tests.edge_server.test_tls import Authority
from tests.edge_server.test_tokens import Made


async def scrape(client: httpx.AsyncClient, name: str) -> dict[tuple[str, ...], float]:
    """A counter's values, by those of its labels in the order of their names."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    samples = [each for family in families for each in family.samples if each.name == name]
    return {tuple(value for _, value in sorted(each.labels.items())): each.value for each in samples}


def failures(*codecs: str) -> dict[tuple[str, ...], float]:
    """Labels in the order of their names: codec, outcome, transport."""
    return {(codec, "internal", transport): 0 for codec in ("unknown", *codecs) for transport in TRANSPORTS}


async def test_requests_that_fail_count_from_0_for_every_codec_that_serves(tmp_path: Path):
    make_bundle(tmp_path)
    async with running(tmp_path) as (server, at), http(at["http"]) as client:
        assert await scrape(client, "weaklink_requests_total") == failures("toy")
        make_bundle(tmp_path, "other", codec_id=9)
        await server.bundles.reload()
        assert await scrape(client, "weaklink_requests_total") == failures("toy", "other")


async def test_reloads_count_from_0(tmp_path: Path):
    folder = make_bundle(tmp_path)
    async with running(tmp_path) as (server, at), http(at["http"]) as client:
        before = await scrape(client, "weaklink_reloads_total")
        assert before == {(file, outcome): 0 for file in RELOADED for outcome in ("ok", "failed")}
        assert await scrape(client, "weaklink_reload_failed") == {(file,): 0 for file in RELOADED}
        raw = (folder / "bundle.json").read_text()
        (folder / "bundle.json").write_text("{}")
        with pytest.raises(BundleError):
            await server.bundles.reload()
        assert await scrape(client, "weaklink_reloads_total") == before | {("bundles", "failed"): 1}
        assert await scrape(client, "weaklink_reload_failed") == {(file,): file == "bundles" for file in RELOADED}
        (folder / "bundle.json").write_text(raw)
        await server.bundles.reload()
        assert await scrape(client, "weaklink_reload_failed") == {(file,): 0 for file in RELOADED}


async def test_nothing_is_left_out(bundle_root: Path, tmp_path: Path):
    doors = (infer_calls, http_infer, grpc_api, http_api)
    assert sorted(TRANSPORTS) == sorted([*(door.TRANSPORT for door in doors), Sender.transport, SerialLine.transport])
    (keys := tmp_path / "keys.toml").touch(0o600)
    files = {"keys": keys, "tokens": Made(tmp_path / "tokens.toml").path} | Authority(tmp_path, "edge").settings()
    async with running(bundle_root, **files) as (server, _):
        assert sorted(RELOADED) == sorted([*(file.name for file in server._watched), "bundles"])
