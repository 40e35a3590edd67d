"""What the status page is told, over real HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.answers import Given
from edge_server.devices import DeviceTable
from edge_server.status import SHOWN_DEVICES
from edge_server.status_page import HEADERS
from tests.edge_server.conftest import make_bundle, running
from tests.edge_server.test_http_api import body, http


async def test_a_snapshot_says_what_happened(tmp_path: Path):
    make_bundle(tmp_path)
    (make_bundle(tmp_path, "worse", codec_id=9) / "encoder.bin").write_bytes(b"")
    async with running(tmp_path) as (server, at), http(at["http"]) as client:
        empty = (await client.get("/status.json")).json()
        assert empty["ready"] and empty["requests"] == [] and empty["batch_size"] is None
        asked = body(device="cam", sequence=1, ber_estimate=0.04)
        right = (await client.post("/v1/infer", json=asked)).json()["results"][0]["top"][0]["index"]
        await client.post("/v1/infer", json=asked | {"sequence": 2})
        await client.post("/v1/infer", json=body(ber_estimate=0.7))
        for sequence, truth in ((1, right), (2, (right + 1) % 10)):
            await client.post("/v1/feedback", json={"device": "cam", "sequence": sequence, "true_class": truth})
        said = (await client.get("/status.json")).json()
    assert said["requests"] == [
        {"transport": "http", "codec": "toy", "outcome": "invalid_request", "count": 1},
        {"transport": "http", "codec": "toy", "outcome": "ok", "count": 2},
    ]
    assert said["accuracy"] == [{"codec": "toy", "task": "shape", "ber_bucket": "5e-2", "judged": 2, "right": 1}]
    assert said["batch_size"] == 1
    total = said["latency"]["total"]
    assert total["counts"][-1] == 2 and total["bounds"][-1] is None and len(total["counts"]) == len(total["bounds"])
    (device,) = said["devices"].pop("latest")
    assert device.pop("heard_s") >= 0
    assert device == {"device": "cam", "estimated_ber": None, "answered": 2, "judged": 2, "right": 1}
    assert said["devices"] == {"remembered": 1, "active": 1, "silent_s": 300.0}
    (codec,) = said["codecs"]
    assert codec["payload_bytes"] == [2, 4, 8] and codec["tasks"] == {"shape": 10, "colour": 3}
    assert codec["published"] == [
        {"ber": 0.0, "ber_bucket": "0", "accuracy_percent": 90.5},
        {"ber": 0.01, "ber_bucket": "1e-2", "accuracy_percent": 90.2},
        {"ber": 0.1, "ber_bucket": "1e-1", "accuracy_percent": 88},
    ]
    assert [refused["path"] for refused in said["refused"]] == ["worse/1"]


async def test_of_many_devices_the_latest_are_shown(bundle_root: Path, monkeypatch: pytest.MonkeyPatch):
    tables = []
    made = DeviceTable.__init__
    monkeypatch.setattr(DeviceTable, "__init__", lambda self, *rest: (made(self, *rest), tables.append(self))[0])
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        for number in range(SHOWN_DEVICES + 50):
            tables[0].remember_all([str(number)], [0], [0.0], [Given("toy", 2, {})])
        devices = (await client.get("/status.json")).json()["devices"]
    assert devices["remembered"] == SHOWN_DEVICES + 50
    assert [row["device"] for row in devices["latest"]] == [str(SHOWN_DEVICES + 49 - n) for n in range(SHOWN_DEVICES)]


async def test_the_pages_files_come_with_a_policy_that_lets_nothing_else_in(bundle_root: Path):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        for path, kind in (
            ("/", "text/html"), ("/static/status.js", "text/javascript"), ("/static/charts.js", "text/javascript"),
            ("/static/status.css", "text/css"), ("/static/icon.svg", "image/svg+xml"),
        ):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
            assert HEADERS.items() <= answer.headers.items()
            assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in answer.text
        for path in ("/static/__init__.py", "/static/../status.py", "/docs"):
            assert (await client.get(path)).status_code == 404
