"""Tokens at the gRPC and HTTP doors, over real connections."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_server.access import ANYBODY, allowed_on_grpc, allowed_on_http
from edge_server.tokens import Caller, Role, make_token, read_tokens, token_hash
from semantic_codec.errors import ConfigError
from tests.edge_server.conftest import grpc_stub, running, sample, until
from weaklink.v1 import edge_pb2

PAYLOAD = bytes(8)
HASH = "0" * 64


class Made:
    """A tokens file with a token for each name."""

    def __init__(self, path: Path, *entries: tuple[Role, str]):
        self.path, self.tokens = path, {}
        lines: dict[Role, list[str]] = {role: [] for role in Role}
        for role, name in entries:
            self.tokens[name] = make_token(name)
            lines[role].append(f'"{name}" = "{token_hash(self.tokens[name])}"\n')
        path.write_text("".join(f"[{role.value}]\n{''.join(own)}" for role, own in lines.items()))
        path.chmod(0o600)

    def header(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[name]}"}

    def metadata(self, name: str) -> tuple[tuple[str, str], ...]:
        return tuple(self.header(name).items())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    entries = (Role.DEVICES, "7"), (Role.DEVICES, "*"), (Role.METRICS, "prometheus"), (Role.ADMIN, "operator")
    return Made(tmp_path / "tokens.toml", *entries)


def request(device: str = "7") -> edge_pb2.InferRequest:
    return edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy", device=device)


async def status(call) -> str:
    """The gRPC status that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def test_only_devices_speak_for_a_device():
    for role in Role:
        assert [Caller("7", role).may_speak_for(device) for device in ("7", "")] == 2 * [role is Role.DEVICES]
    assert not Caller("7", Role.DEVICES).may_speak_for("8") and Caller("*", Role.DEVICES).may_speak_for("8")


async def test_a_device_speaks_for_itself_only(bundle_root: Path, made: Made):
    async with running(bundle_root, tokens=made.path) as (server, at), grpc_stub(at["grpc"]) as stub:
        wrong = ("authorization", made.header("7")["authorization"][:-1])
        for metadata, device, expected in (
            (made.metadata("7"), "7", "OK"),
            (made.metadata("7"), "", "OK"),
            (made.metadata("7"), "8", "PERMISSION_DENIED"),
            (made.metadata("*"), "8", "OK"),
            (made.metadata("prometheus"), "7", "PERMISSION_DENIED"),
            (made.metadata("operator"), "7", "PERMISSION_DENIED"),
            ((wrong,), "7", "UNAUTHENTICATED"),
            ((), "7", "UNAUTHENTICATED"),
            ((("authorization", "Bearer 7."),), "7", "UNAUTHENTICATED"),
        ):
            assert await status(stub.Infer(request(device), metadata=metadata)) == expected
            feedback = edge_pb2.FeedbackRequest(device=device, sequence=1)
            assert await status(stub.Feedback(feedback, metadata=metadata)) == expected
        counted = {
            outcome: sum(
                sample(server, "weaklink_requests_total", transport="grpc", codec=codec, outcome=outcome)
                for codec in ("toy", "unknown")
            )
            for outcome in ("ok", "permission_denied", "unauthenticated")
        }
        # Of those refused at the door the feedback counts, too; the third's feedback is invalid feedback.
        assert counted == {"ok": 3, "permission_denied": 1 + 2 + 1, "unauthenticated": 2 * 3}


async def test_a_stream_needs_a_token_and_each_of_its_requests_the_devices(bundle_root: Path, made: Made):
    async with running(bundle_root, tokens=made.path) as (_, at), grpc_stub(at["grpc"]) as stub:
        refused = stub.InferStream()  # nothing is written: the refusal does not wait for a request
        assert await status(refused.read()) == "UNAUTHENTICATED"
        requests = [request("7"), request("8"), request("")]
        answers = [answer async for answer in stub.InferStream(iter(requests), metadata=made.metadata("7"))]
        assert sorted(answer.error.status for answer in answers) == ["", "", "PERMISSION_DENIED"]


async def test_http_paths_ask_for_their_roles(bundle_root: Path, made: Made):
    body = {"codec": "toy", "bitstream": base64.b64encode(PAYLOAD).decode(), "device": "7"}
    async with running(bundle_root, tokens=made.path) as (_, at):
        async with httpx.AsyncClient(base_url=f"http://{at['http']}") as client:
            for path in ("/healthz", "/readyz"):
                assert (await client.get(path)).status_code == 200
            for path, welcome in (
                ("/metrics", {"prometheus", "operator"}),
                ("/v1/codecs", {"7", "*", "operator"}),
                ("/", {"operator"}),
                ("/openapi.json", {"operator"}),
            ):
                answer = await client.get(path)
                assert answer.status_code == 401 and answer.headers["www-authenticate"]
                for name in made.tokens:
                    answer = await client.get(path, headers=made.header(name))
                    assert answer.status_code == (200 if name in welcome else 403), (path, name)
            for name, expected in (("7", 200), ("*", 200), ("prometheus", 403), ("operator", 403)):
                assert (await client.post("/v1/infer", json=body, headers=made.header(name))).status_code == expected
            answer = await client.post("/v1/infer", json=body | {"device": "8"}, headers=made.header("7"))
            assert answer.status_code == 403 and "fix: " in answer.json()["error"]["message"]
            assert (await client.get("/", auth=("", made.tokens["operator"]))).status_code == 200
            for broken in ("Basic !", "Basic " + base64.b64encode(b"\xff").decode(), b"Basic \xe9", "Bearer", "Digest x"):
                for method, path in (("GET", "/"), ("POST", "/v1/infer")):
                    headers = {"authorization": broken}
                    assert (await client.request(method, path, headers=headers)).status_code == 401


async def test_health_needs_no_token(bundle_root: Path, made: Made):
    async with running(bundle_root, tokens=made.path) as (_, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert checked.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_replaced_tokens_file_is_read_and_a_bad_one_is_not(bundle_root: Path, made: Made):
    async with running(bundle_root, tokens=made.path) as (server, at), grpc_stub(at["grpc"]) as stub:
        old = made.metadata("7")
        new = Made(made.path, (Role.DEVICES, "7")).metadata("7")
        await until(lambda: sample(server, "weaklink_reloads_total", file="tokens", outcome="ok") == 1)
        assert await status(stub.Infer(request(), metadata=old)) == "UNAUTHENTICATED"
        made.path.write_text("[nobody]")
        await until(lambda: sample(server, "weaklink_reloads_total", file="tokens", outcome="failed") == 1)
        assert await status(stub.Infer(request(), metadata=new)) == "OK"


async def test_the_streams_of_a_struck_token_end(bundle_root: Path, made: Made):
    async with running(bundle_root, tokens=made.path) as (server, at), grpc_stub(at["grpc"]) as stub:
        struck, stays = (stub.InferStream(metadata=made.metadata(name)) for name in ("7", "*"))
        for stream in (struck, stays):
            await stream.write(request())
            assert (await stream.read()).codec == "toy"
        lines = made.path.read_text().splitlines(keepends=True)
        made.path.write_text("".join(line for line in lines if not line.startswith('"7"')))
        async with asyncio.timeout(30):
            assert await status(struck.read()) == "UNAUTHENTICATED"
            await stays.write(request())
            assert (await stays.read()).codec == "toy"
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "unauthenticated"}
        assert sample(server, "weaklink_requests_total", **counted) == 1


@pytest.mark.parametrize(
    "text",
    ["[", "[nobody]", "devices = 1", '[devices]\n7 = "abc"', "[devices]\n7 = 1", f'[devices]\n"a.b" = "{HASH}"',
     f'[devices]\n7 = ["{HASH}", 1]', f'[devices]\n"" = "{HASH}"'],
)  # fmt: skip
def test_a_file_that_is_no_tokens_file(tmp_path: Path, text: str):
    (path := tmp_path / "tokens.toml").write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="weaklink keys init"):
        read_tokens(path)


def test_a_tokens_file_is_not_for_others_to_read(tmp_path: Path):
    (path := tmp_path / "tokens.toml").write_text("")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="the tokens file .* has the mode 0644"):
        read_tokens(path)


def test_a_name_may_have_two_tokens_while_one_replaces_the_other(tmp_path: Path):
    first, second = make_token("7"), make_token("7")
    (path := tmp_path / "tokens.toml").write_text(f'[devices]\n7 = ["{token_hash(first)}", "{token_hash(second)}"]')
    path.chmod(0o600)
    tokens = read_tokens(path)
    assert tokens.caller(first) == tokens.caller(second) == Caller("7", Role.DEVICES)
    assert tokens.caller(first.replace("7.", "8.")) is None and tokens.caller("") is None


def test_what_is_not_named_is_for_admins():
    """Methods and paths that somebody adds later are closed until they are given a role."""
    assert allowed_on_grpc("/some.new.Service/Method") == allowed_on_http("/new") == (Role.ADMIN,)
    assert allowed_on_grpc("/inference.GRPCInferenceService/RepositoryModelLoad") == (Role.ADMIN,)
    assert allowed_on_http("/v2/repository/models/toy/load") == (Role.ADMIN,)
    assert allowed_on_grpc("/inference.GRPCInferenceService/ModelInfer") == allowed_on_http("/v2/models/toy/infer")
    assert Role.DEVICES in allowed_on_http("/v2") and allowed_on_http("/v2/health/ready") is ANYBODY
