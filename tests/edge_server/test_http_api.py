"""The admin door, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from edge_server.http_infer import plain_request
from tests.edge_server.conftest import grpc_stub, make_bundle, running, sample
from tests.edge_server.test_service import Gate
from weaklink.v1 import edge_pb2

PAYLOAD = bytes(range(8))
OCTETS = {"content-type": "application/octet-stream"}


@contextlib.asynccontextmanager
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10, trust_env=False) as client:
        yield client


def body(**fields) -> dict:
    return {"bitstream": base64.b64encode(PAYLOAD).decode(), "codec": "toy"} | fields


async def test_json_and_octets_give_the_same_answer(bundle_root: Path):
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        asked = body(ber_estimate=0.03, level=2, erased=[[0, 4], [10, 2]], top_k=2, device="cam", sequence=3)
        as_json = await client.post("/v1/infer", json=asked)
        query = "codec=toy&ber_estimate=0.03&level=2&erased=0:4&erased=10:2&top_k=2&device=cam&sequence=3"
        as_octets = await client.post(f"/v1/infer?{query}", content=PAYLOAD, headers=OCTETS)
        assert as_json.status_code == as_octets.status_code == 200
        first, second = as_json.json(), as_octets.json()
        first.pop("times"), second.pop("times")
        assert first == second
        assert first["ber_source"] == "BER_SOURCE_REQUEST" and first["sequence"] == 3
        assert [len(result["top"]) for result in first["results"]] == [2, 2]
        assert sample(server, "weaklink_requests_total", transport="http", codec="toy", outcome="ok") == 2


@pytest.mark.parametrize("more", [{}, {"top_k": 3, "device": "cam", "sequence": 7, "request_id": "r", "level": 0}])
async def test_the_answer_is_the_json_form_of_the_protos(bundle_root: Path, more: dict):
    async with running(bundle_root) as (_, at), http(at["http"]) as client, grpc_stub(at["grpc"]) as stub:
        payload = PAYLOAD[:2] if "level" in more else PAYLOAD
        asked = edge_pb2.InferRequest(bitstream=payload, codec="toy", **more)
        answered = json_format.MessageToDict(
            await stub.Infer(asked), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        as_json = (await client.post("/v1/infer", json=body(bitstream=base64.b64encode(payload).decode(), **more))).json()
        assert answered.pop("times").keys() == as_json.pop("times").keys()
        assert as_json == answered


@given(
    st.dictionaries(
        st.sampled_from([*edge_pb2.InferRequest.DESCRIPTOR.fields_by_name, "berEstimate", "other"]),
        st.one_of(st.none(), st.booleans(), st.integers(-1, 2**33), st.floats(0, 1), st.text(max_size=5), st.just("AAAA")),
    )
)
def test_plain_requests_are_read_as_all_others(fields: dict):
    try:
        expected = json_format.ParseDict(fields, edge_pb2.InferRequest())
    except json_format.ParseError:
        expected = None
    assert plain_request(fields) in (None, expected)


def test_the_usual_request_is_a_plain_one():
    assert plain_request(body(ber_estimate=0.1, device="cam", sequence=1)) is not None
    assert plain_request(body(ber_estimate=0)).HasField("ber_estimate")


@pytest.mark.parametrize(
    ("content", "http_status", "status", "told"),
    [
        (body(ber_estimate=0.7), 400, "INVALID_ARGUMENT", "ber_estimate is 0.7; allowed: 0 to 0.5"),
        (body(ber_estimate=10**400), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(ber_estimate=10**400, tasks=["shape"]), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(ber_estimate="much"), 400, "INVALID_ARGUMENT", "much"),
        (json.dumps(body(ber_estimate=float("nan"))), 400, "INVALID_ARGUMENT", "ber_estimate is nan"),
        (body(bitstream="AAA"), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(bitstream="!!!!"), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(bitstream=7), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(bitstream=""), 400, "INVALID_ARGUMENT", "bitstream has 0 bytes"),
        (body(level=-1), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(erased=[[1]]), 400, "INVALID_ARGUMENT", "cannot be read"),
        (body(erased=[[1, 99]]), 400, "INVALID_ARGUMENT", "first_bit 1, bit_count 99"),
        (body(colour="red"), 400, "INVALID_ARGUMENT", "colour"),
        (body(codec="none"), 404, "NOT_FOUND", "codec 'none'"),
        (body(encoder_hash=base64.b64encode(bytes(8)).decode()), 412, "FAILED_PRECONDITION", "0000000000000000"),
        (body(encoder_hash="00" * 8), 400, "INVALID_ARGUMENT", "encoder_hash has 12 bytes; allowed: 8"),
        ("{", 400, "INVALID_ARGUMENT", "cannot be read"),
        ("", 400, "INVALID_ARGUMENT", "cannot be read"),
        ("[1, 2]", 400, "INVALID_ARGUMENT", "not a JSON object"),
        ("[" * 50_000, 400, "INVALID_ARGUMENT", "nested too deep"),
        (body(**{"\ud8c8": 1}), 400, "INVALID_ARGUMENT", "surrogates not allowed"),
        (body(device="\ud8c8"), 400, "INVALID_ARGUMENT", "surrogates not allowed"),
        (json.dumps(body()).encode("utf-16"), 400, "INVALID_ARGUMENT", "cannot be read"),
        ("x" * 70_000, 413, "RESOURCE_EXHAUSTED", "more than 65536 bytes"),
    ],
)
async def test_a_bad_body_is_refused_by_name_and_counted_once(
    bundle_root: Path, content: dict | str | bytes, http_status: int, status: str, told: str
):
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        data = json.dumps(content) if isinstance(content, dict) else content
        refused = await client.post("/v1/infer", content=data)
        assert refused.status_code == http_status
        error = refused.json()["error"]
        assert error["status"] == status and told in error["message"] and "fix: " in error["message"]
        (metric,) = (each for each in server.metrics.registry.collect() if each.name == "weaklink_requests")
        assert sum(each.value for each in metric.samples if each.name.endswith("_total")) == 1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("colour=red", "'colour'"),
        ("ber_estimate=much", "much"),
        ("ber_estimate=nan", "ber_estimate is nan"),
        ("level=-1", "the query's level is '-1'"),
        ("level=x", "the query's level is 'x'"),
        ("sequence=1_0", "the query's sequence is '1_0'"),
        ("sequence=%D9%A3", "the query's sequence is '\u0663'"),
        ("ber_estimate=0.0_1", "the query's ber_estimate is '0.0_1'"),
        ("erased=0:%D9%A3", "the query's erased is '0:"),
        ("ber_estimate=0.1&ber_estimate=0.2", "ber_estimate 2 times; allowed: once"),
        ("erased=0-4", "the query's erased is '0-4'"),
        ("erased=3", "FIRST:COUNT"),
        ("encoder_hash=zz", "in hex"),
        ("encoder_hash=" + "00" * 32, "encoder_hash has 32 bytes; allowed: 8"),
        ("tasks=smell", "task is 'smell'"),
    ],
)
async def test_a_bad_query_is_refused_by_name(bundle_root: Path, query: str, told: str):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        refused = await client.post(f"/v1/infer?{query}", content=PAYLOAD, headers=OCTETS)
        assert refused.status_code == 400 and told in refused.json()["error"]["message"]


async def test_a_query_beside_json_is_refused_and_counted(bundle_root: Path):
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        refused = await client.post("/v1/infer?ber_estimate=0.3", json=body())
        assert refused.status_code == 400 and "query is 'ber_estimate=0.3'; allowed: none" in refused.json()["error"]["message"]
        counted = {"transport": "http", "codec": "unknown", "outcome": "invalid_request"}
        assert sample(server, "weaklink_requests_total", **counted) == 1


async def test_a_media_type_is_the_same_in_capitals(bundle_root: Path):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        answered = await client.post("/v1/infer?codec=toy", content=PAYLOAD, headers={"content-type": "Application/Octet-Stream"})
        assert answered.status_code == 200


@pytest.mark.parametrize(
    ("path", "transport"),
    [("/v1/infer?codec=toy", "http"), ("/v1/feedback", None), ("/v2/models/toy/infer", "oip-http"), ("/v2/repository/index", None)],
)
async def test_a_compressed_body_is_refused(bundle_root: Path, path: str, transport: str | None):
    compressed = zlib.compress(b"")
    assert len(compressed) == len(PAYLOAD), "of a level's length: else it would be refused for that"
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        for encoding in ("deflate", "gzip", "identity, br"):
            refused = await client.post(path, content=compressed, headers=OCTETS | {"content-encoding": encoding})
            assert refused.status_code == 400 and f"content-encoding is '{encoding}'" in refused.text
        if transport is not None:
            counted = {"transport": transport, "codec": "unknown", "outcome": "invalid_request"}
            assert sample(server, "weaklink_requests_total", **counted) == 3
        plain = OCTETS | {"content-encoding": "Identity"}
        assert (await client.post("/v1/infer?codec=toy", content=PAYLOAD, headers=plain)).status_code == 200


async def test_what_there_is_can_be_asked_for_with_head_and_what_is_not_is_named(bundle_root: Path):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/codecs"):
            head = await client.head(path)
            assert head.status_code == 200 and head.content == b""
        for method, path, status in (("GET", "/v1/infer", 404), ("PUT", "/v1/feedback", 405), ("GET", "/v1/infr", 404)):
            refused = await client.request(method, path)
            told = refused.json()["error"]["message"]
            assert refused.status_code == status and f"there is no {method} {path}" in told and "POST /v1/infer" in told


async def test_a_full_queue_is_429_and_a_late_answer_504(bundle_root: Path):
    async with running(bundle_root, queue_limit=1, deadline_s=0.3) as (server, at), http(at["http"]) as client:
        gate = Gate(server)
        calls = [asyncio.create_task(client.post("/v1/infer", json=body()))]
        async with asyncio.timeout(10):
            while sample(server, "weaklink_batch_size_count") < 1:
                await asyncio.sleep(0.005)
            calls.append(asyncio.create_task(client.post("/v1/infer", json=body())))
            while sample(server, "weaklink_queue_depth") < 1:
                await asyncio.sleep(0.005)
        assert (await client.post("/v1/infer", json=body())).status_code == 429
        await asyncio.sleep(0.3)
        gate.open()
        assert [(await call).status_code for call in calls] == [504, 504]


async def test_feedback(bundle_root: Path):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        answer = (await client.post("/v1/infer", json=body(device="cam", sequence=1))).json()
        right = answer["results"][0]["top"][0]["index"]
        verdict = await client.post("/v1/feedback", json={"device": "cam", "sequence": 1, "true_class": right})
        assert verdict.json() == {"matched": True, "correct": True}
        unknown = await client.post("/v1/feedback", json={"device": "cam", "sequence": 2, "true_class": 0})
        assert unknown.json() == {"matched": False, "correct": False}
        assert (await client.post("/v1/feedback", content="{")).status_code == 400


async def test_feedback_without_a_class_judges_nothing(bundle_root: Path):
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        answer = (await client.post("/v1/infer", json=body(device="cam", sequence=1))).json()
        right = answer["results"][0]["top"][0]["index"]
        of = {"device": "cam", "sequence": 1}
        for fields in (of, of | {"true_class": None}, of | {"trueClass": None}):
            refused = await client.post("/v1/feedback", json=fields)
            assert refused.status_code == 400 and "there is no true_class" in refused.json()["error"]["message"]
        assert (await client.post("/v1/feedback", content="{")).status_code == 400
        (predictions,) = server.metrics.predictions.collect()
        assert not any(each.value for each in predictions.samples if each.name.endswith("_total"))
        verdict = await client.post("/v1/feedback", json=of | {"trueClass": right})
        assert verdict.json() == {"matched": True, "correct": True}
        outcomes = {"invalid": 4, "ok": 1}
        assert outcomes == {name: sample(server, "weaklink_feedback_total", outcome=name) for name in outcomes}
        zero = await client.post("/v1/feedback", json=of | {"true_class": 0})
        assert zero.status_code == 200, "a class like any other"


async def test_health_readiness_and_codecs(tmp_path: Path):
    make_bundle(tmp_path)
    (make_bundle(tmp_path, "worse", codec_id=9) / "encoder.bin").write_bytes(b"")
    async with running(tmp_path) as (server, at), http(at["http"]) as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        ready = await client.get("/readyz")
        assert ready.status_code == 200 and ready.json()["codecs"] == [{"name": "toy", "version": 1}]
        assert ready.json()["refused"][0]["path"] == "worse/1"
        listed = (await client.get("/v1/codecs")).json()
        assert listed["codecs"][0]["manifest"]["family"] == "weaklink"
        assert [level["payload_bytes"] for level in listed["codecs"][0]["levels"]] == [2, 4, 8]
        server._serving = False
        draining = await client.get("/readyz")
        assert draining.status_code == 503 and draining.json()["status"] == "not ready"


async def test_metrics_are_prometheus_text_with_the_agreed_names(bundle_root: Path):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        await client.post("/v1/infer", json=body())
        scraped = await client.get("/metrics")
        assert scraped.headers["content-type"].startswith("text/plain")
        names = set(re.findall(r"^# TYPE (\w+)", scraped.text, re.MULTILINE))
        assert {
            "weaklink_requests_total", "weaklink_latency_seconds", "weaklink_batch_size", "weaklink_queue_depth",
            "weaklink_estimated_ber", "weaklink_predictions_total", "weaklink_correct_predictions_total",
            "weaklink_confidence", "weaklink_frames_total", "weaklink_feedback_total",
        } <= names  # fmt: skip
        assert 'weaklink_requests_total{codec="toy",outcome="ok",transport="http"} 1.0' in scraped.text


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/feedback", "/v2/repository/models/toy/unload"])
async def test_no_page_of_another_site_has_a_browser_change_anything(bundle_root: Path, path: str):
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        pages = "https://elsewhere.example", "http://127.0.0.1:1", "null"
        for page in pages:
            refused = await client.post(path, content=b"{}", headers={"origin": page, "content-type": "text/plain"})
            assert refused.status_code == 403 and page in refused.text and "fix: " in refused.text
        counted = {"transport": "http", "codec": "unknown", "outcome": "permission_denied"}
        assert sample(server, "weaklink_requests_total", **counted) == len(pages)
        assert (await client.get("/v1/codecs", headers={"origin": pages[0]})).json()["codecs"]
        assert (await client.post("/v1/infer", json=body(), headers={"origin": f"http://{at['http']}"})).status_code == 200


async def test_no_page_comes_from_a_name_that_leads_here(bundle_root: Path):
    """DNS rebinding: to the browser the page is of this server, whose name is the attacker's."""
    foreign = {"host": "evil.example:8080", "origin": "http://evil.example:8080"}
    async with running(bundle_root) as (server, at), http(at["http"]) as client:
        for answer in (
            await client.post("/v1/infer", json=body(), headers=foreign),
            await client.post("/v2/repository/models/toy/unload", headers=foreign),
            await client.get("/v1/codecs", headers={"host": foreign["host"]}),
        ):
            assert answer.status_code == 403 and "evil.example:8080" in answer.text and "--host" in answer.text
        refused = {"transport": "http", "codec": "unknown", "outcome": "permission_denied"}
        assert sample(server, "weaklink_requests_total", **refused) == 3
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:1", "[::1]:1", "192.0.2.1"):
            own = {"host": host, "origin": f"http://{host}"}
            assert (await client.post("/v1/infer", json=body(), headers=own)).status_code == 200
            assert (await client.get("/v1/codecs", headers={"host": host})).status_code == 200
        assert (await client.post("/v1/infer", json=body(), headers={"host": "edge"})).status_code == 200, "no browser"
    async with running(bundle_root, host="localhost", insecure=True) as (_, at), http(at["http"]) as client:
        assert (await client.get("/v1/codecs", headers={"host": "localhost:9"})).status_code == 200
    async with running(bundle_root, host="0.0.0.0", insecure=True) as (_, at), http(at["http"]) as client:
        assert (await client.get("/v1/codecs", headers={"host": "edge.example"})).status_code == 200, "the network's name for it"
