"""What no client library sends, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.edge_server.conftest import running, sample, until

BITSTREAM = {"name": "bitstream", "datatype": "UINT8", "shape": [1, 8], "data": list(range(8))}
HUGE = 10**400


async def test_images_behind_a_refused_one_are_counted(bundle_root: Path):
    tensor = {"name": "bitstream", "datatype": "BYTES", "shape": [4], "data": ["x" * 8, "x", "x" * 8, "x" * 8]}
    async with running(bundle_root) as (server, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            answer = await client.post("/v2/models/toy/infer", json={"inputs": [tensor]})
        assert answer.status_code == 400 and "bitstream has 1 bytes" in answer.json()["error"]
        outcomes = {"invalid_request": 1, "cancelled": 3}
        labels = {"transport": "oip-http", "codec": "toy"}
        await until(
            lambda: outcomes == {name: sample(server, "weaklink_requests_total", outcome=name, **labels) for name in outcomes}
        )


@pytest.mark.parametrize(("text", "status", "told"), [("00" * 32, 400, "has 32 bytes; allowed: 8"), ("00" * 8, 412, "is 0000")])
async def test_an_encoder_hash_of_another_length_is_no_other_encoder(bundle_root: Path, text: str, status: int, told: str):
    async with running(bundle_root) as (_, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            asked = {"inputs": [BITSTREAM], "parameters": {"encoder_hash": text}}
            refused = await client.post("/v2/models/toy/infer", json=asked)
            assert refused.status_code == status and f"encoder_hash {told}" in refused.json()["error"]


async def test_fields_that_are_null_are_left_out(bundle_root: Path):
    nulls = {"id": None, "parameters": None, "outputs": None, "inputs": [BITSTREAM | {"parameters": None}]}
    async with running(bundle_root) as (_, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            answer = await client.post("/v2/models/toy/infer", json=nulls)
            assert answer.status_code == 200 and "id" not in answer.json()
            required = await client.post("/v2/models/toy/infer", json={"inputs": [BITSTREAM | {"datatype": None}]})
            assert required.status_code == 400 and "datatype is 'None'" in required.json()["error"]


async def test_a_model_s_readiness_names_it(bundle_root: Path):
    async with running(bundle_root) as (_, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            ready = await client.get("/v2/models/toy/versions/1/ready")
            assert (ready.status_code, ready.json()) == (200, {"name": "toy", "ready": True})
            absent = await client.get("/v2/models/nobody/ready")
            assert (absent.status_code, absent.json()) == (503, {"name": "nobody", "ready": False})


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"parameters": {"ber_estimate": HUGE}}, "ber_estimate is '1000"),
        ({"parameters": {"ber_estimate": -HUGE}}, "ber_estimate is '-1000"),
        ({"parameters": {"timeout": HUGE}}, "timeout is '1000"),
        ({"inputs": [BITSTREAM | {"shape": [10**4000] * 8}]}, "input 'bitstream' has the shape [1000"),
        ({"inputs": [BITSTREAM | {"datatype": "FP32", "data": [HUGE] * 8}]}, "too large to convert to float"),
        ({"outputs": [{"name": "probabilities"}] * 2000}, "output 'probabilities' is given 2000 times; allowed: once"),
        ({"inputs": [BITSTREAM, BITSTREAM]}, "input 'bitstream' is given 2 times; allowed: once"),
    ],
)
async def test_what_is_too_large_or_given_twice_is_refused_and_counted(bundle_root: Path, request_: dict[str, Any], told: str):
    async with running(bundle_root) as (server, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            answer = await client.post("/v2/models/toy/infer", json={"inputs": [BITSTREAM]} | request_)
        assert answer.status_code == 400 and told in answer.json()["error"]
        counted = {"transport": "oip-http", "codec": "unknown", "outcome": "invalid_request"}
        assert sample(server, "weaklink_requests_total", **counted) == 1
