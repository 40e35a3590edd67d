"""The protocol's calls obey tokens: a device speaks for itself, and bundles are the admin's."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from edge_server.tokens import Role
from tests.edge_server.conftest import make_bundle, running, sample
from tests.edge_server.oip.test_tritonclient import PROTOCOLS, serving
from tests.edge_server.oip.triton_client import TritonClient
from tests.edge_server.test_tokens import Made

ENTRIES = (Role.DEVICES, "7"), (Role.METRICS, "prometheus"), (Role.ADMIN, "operator")
UNAUTHENTICATED, DENIED = ("StatusCode.UNAUTHENTICATED", "401"), ("StatusCode.PERMISSION_DENIED", "403")


@pytest.mark.parametrize("place, protocol", list(enumerate(PROTOCOLS)))
async def test_calls_need_the_token_that_they_concern(triton: TritonClient, tmp_path: Path, place: int, protocol: str):
    make_bundle(tmp_path / "bundles")
    made = Made(tmp_path / "tokens.toml", *ENTRIES)
    inputs = {"bitstream": ("UINT8", [[0] * 8])}
    async with serving(triton, tmp_path / "bundles", tokens=str(made.path)) as (server, ask):
        for name, device, refused in (
            ("7", "7", None),
            ("7", "8", DENIED),
            ("operator", "7", DENIED),
            ("prometheus", "7", DENIED),
            (None, "7", UNAUTHENTICATED),
        ):
            headers = {} if name is None else made.header(name)
            told = await ask(protocol, "infer", "toy", inputs | {"device": ("BYTES", [device])}, headers=headers)
            assert told.get("status") == (refused and refused[place]), (name, device)
            assert refused is None or "; fix: " in told["error"]
        assert sample(server, "weaklink_requests_total", transport=f"oip-{protocol}", codec="toy", outcome="ok") == 1
        assert await ask(protocol, "is_server_ready"), "health asks nobody"
        for method, arguments in (
            ("get_model_repository_index", ()),
            ("unload_model", ("toy",)),
            ("load_model", ("toy",)),
        ):
            for name, refused in ((None, UNAUTHENTICATED), ("7", DENIED), ("operator", None)):
                headers = {} if name is None else made.header(name)
                told = await ask(protocol, method, *arguments, headers=headers)
                status = told.get("status") if isinstance(told, dict) else None
                assert status == (refused and refused[place]), (method, name)
        for name, refused in (("7", DENIED), ("prometheus", None), ("operator", None)):
            told = await ask(protocol, "get_inference_statistics", "toy", headers=made.header(name))
            assert told.get("status") == (refused and refused[place]), name
        described = await ask(protocol, "get_model_metadata", "toy", headers=made.header("operator"))
        assert described["versions"] == ["1"]


async def test_refusals_over_http_have_the_protocol_s_form(bundle_root: Path, tmp_path: Path):
    made = Made(tmp_path / "tokens.toml", *ENTRIES)
    async with (
        running(bundle_root, tokens=made.path) as (_, at),
        httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client,
    ):
        turned_away = await client.get("/v2")
        assert turned_away.status_code == 401 and turned_away.json()["error"].startswith("no valid token; allowed: tokens of ")
        for method, path in (
            ("GET", "/v2/models/toy/status"),
            ("GET", "/v2/models/toy/infer"),
            ("DELETE", "/v2/models/toy"),
            ("POST", "/v2/repository"),
        ):
            unknown = await client.request(method, path, headers=made.header("operator"))
            assert unknown.status_code == 404 and unknown.json()["error"].startswith(f"{method} {path}; allowed: ")
        ours = await client.get("/v1/codecs")
        assert ours.json()["error"]["status"] == "UNAUTHENTICATED"
