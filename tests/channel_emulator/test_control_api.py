"""The control API on a real port, and `weaklink link` talking to it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from channel_emulator.__main__ import ControlServer
from channel_emulator.control_api import create_app, own_names
from channel_emulator.control_client import format_channels, main, parse_channel
from semantic_codec.address import Address
from semantic_codec.errors import InvalidRequest

FRAME = bytes(range(50))


@asynccontextmanager
async def serving(emulator, **options):
    with socket.create_server(("127.0.0.1", 0)) as control:
        config = uvicorn.Config(create_app(emulator, **options), lifespan="off", ws="none", log_level="warning")
        server = ControlServer(config)
        task = asyncio.create_task(server.serve(sockets=[control]))
        yield "{}:{}".format(*control.getsockname())
        server.should_exit = True
        await task


@pytest.fixture
async def control(emulator):
    async with serving(emulator) as address:
        yield address


@pytest.fixture
async def api(control):
    async with httpx.AsyncClient(base_url=f"http://{control}", trust_env=False) as client:
        yield client


@pytest.fixture
def weaklink_link(control):
    """weaklink_link(arguments) runs `weaklink link` against the control API; its exit code."""

    async def run(*arguments):
        verb, *rest = arguments
        return await asyncio.to_thread(main, [verb, "--control", control, *rest])

    return run


def spec(upstream="127.0.0.1:9", **more):
    return {"name": "radio", "kind": "udp", "upstream": upstream} | more


async def test_a_link_lives_from_create_to_delete(api, udp_upstream, connect, emulator):
    up = [{"channel": "bsc", "ber": 0.1}]
    made = await api.post("/links", json=spec(udp_upstream.address, seed=5, up=up))
    assert made.status_code == 201
    link = made.json()
    host, port = link["listen"].rsplit(":", 1)
    assert host == "127.0.0.1" and int(port) > 0
    assert (link["up"], link["down"], link["seed"], link["upstream"]) == (up, [], 5, udp_upstream.address)
    client = await connect(emulator.link("radio").settings.listen)
    damaged = await client.exchange(FRAME)
    stats = (await api.get("/links/radio")).json()["stats"]
    assert stats["up"]["frames"] == {"damaged": 1} and stats["up"]["bits"] == 400
    assert stats["up"]["true_ber"] == stats["up"]["bits_flipped"] / 400 > 0
    changed = await api.patch("/links/radio", json={"up": []})
    assert changed.status_code == 200 and changed.json()["up"] == []
    assert await client.exchange(FRAME) == FRAME != damaged
    assert [one["name"] for one in (await api.get("/links")).json()] == ["radio"]
    assert (await api.delete("/links/radio")).status_code == 204
    assert (await api.get("/links")).json() == []


@pytest.mark.parametrize("path", ["/reset", "/links/radio/reset"])
async def test_reset_starts_again(api, udp_upstream, connect, emulator, path):
    await api.post("/links", json=spec(udp_upstream.address, up=[{"channel": "bsc", "ber": 0.1}]))
    client = await connect(emulator.link("radio").settings.listen)
    first = await client.exchange(FRAME)
    assert (await api.post(path)).is_success
    assert (await api.get("/links/radio")).json()["stats"]["up"]["true_ber"] is None
    assert await client.exchange(FRAME) == first


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "status", "words"),
    [
        ("GET", "/links/none", None, 404, "NOT_FOUND", "'none' does not exist"),
        ("PATCH", "/links/none", {}, 404, "NOT_FOUND", "'none'"),
        ("DELETE", "/links/none", None, 404, "NOT_FOUND", "'none'"),
        ("POST", "/links/none/reset", None, 404, "NOT_FOUND", "'none'"),
        ("POST", "/links", spec(), 409, "ALREADY_EXISTS", "'radio' exists; allowed: a new name; fix: change it (`weaklink link set`, PATCH)"),
        ("POST", "/links", spec(name="b", up=[{"channel": "bsc", "ber": 7}]), 400, "INVALID_ARGUMENT", "ber is 7"),
        ("PATCH", "/links/radio", {"up": [{"channel": "bcs"}]}, 400, "INVALID_ARGUMENT", "up[0]: channel is 'bcs'"),
        ("PATCH", "/links/radio", {"kind": "grpc"}, 400, "INVALID_ARGUMENT", "'kind'"),
        ("POST", "/links", [1], 400, "INVALID_ARGUMENT", "JSON object"),
        ("POST", "/links", spec("no-such-host.invalid:1", name="b"), 503, "UNAVAILABLE", "no-such-host"),
        ("GET", "/nowhere", None, 404, "NOT_FOUND", "/nowhere"),
    ],
)
async def test_refusals_say_what_is_wrong(api, method, path, body, code, status, words):
    await api.post("/links", json=spec())
    answer = await api.request(method, path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (code, status)
    for word in (words, "allowed:", "fix:"):
        assert word in error["message"]


async def test_a_busy_port_and_a_broken_body_are_refused(api):
    taken = (await api.post("/links", json=spec())).json()["listen"]
    answer = await api.post("/links", json=spec(name="b", listen=taken))
    assert answer.status_code == 409 and taken in answer.json()["error"]["message"]
    answer = await api.post("/links", content=b"{}", headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert "content-type is 'application/x-www-form-urlencoded'; allowed: application/json" in answer.json()["error"]["message"]
    answer = await api.post("/links", content=b'{"name": ', headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "JSON" in answer.json()["error"]["message"]


async def test_links_have_a_bound(api):
    answers = [await api.post("/links", json=spec(name=f"link{number}")) for number in range(65)]
    assert [answer.status_code for answer in answers] == [201] * 64 + [400]
    assert "64" in answers[-1].json()["error"]["message"]


async def test_metrics_count_bits_and_frames_by_link_and_direction(api, udp_upstream, connect, emulator):
    up = [{"channel": "bsc", "ber": 0.1}, {"channel": "erasure", "probability": 0.5}]
    await api.post("/links", json=spec(udp_upstream.address, up=up))
    await api.post("/links", json=spec(udp_upstream.address, name="idle"))
    link = emulator.link("radio")
    client = await connect(link.settings.listen)
    for _ in range(40):
        client.send(FRAME)
    while sum(link.tallies["down"].frames.values()) + link.tallies["up"].frames["lost"] < 40:
        await asyncio.sleep(0.01)
    text = (await api.get("/metrics")).text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    tally = link.tallies["up"]
    assert samples["weaklink_link_bits_total", "up", "radio"] == tally.bits == 400 * (40 - tally.frames["lost"])
    assert samples["weaklink_link_bits_flipped_total", "up", "radio"] == tally.flipped > 0
    assert samples["weaklink_link_true_ber", "up", "radio"] == pytest.approx(tally.flipped / tally.bits)
    assert samples["weaklink_link_frames_total", "up", "radio", "lost"] == tally.frames["lost"] > 0
    assert samples["weaklink_link_frames_total", "down", "radio", "clean"] == 40 - tally.frames["lost"]
    assert samples["weaklink_link_bits_total", "up", "idle"] == 0
    assert ("weaklink_link_true_ber", "up", "idle") not in samples
    assert samples["weaklink_link_devices", "radio"] == 1


async def test_version_and_health(api):
    version = (await api.get("/version")).json()
    assert version["version"] and "gilbert_elliott" in version["channels"]
    assert (await api.get("/healthz")).json() == {"status": "ok", "links": 0}


async def test_the_command_does_all_that_the_api_does(weaklink_link, emulator, udp_upstream, capsys):
    made = ["create", "radio", "--upstream", udp_upstream.address, "--seed", "3", "--up", "bsc:ber=0.01"]
    assert await weaklink_link(*made, "--up", "delay:delay_ms=5,distribution=normal", "--json") == 0
    link = json.loads(capsys.readouterr().out)
    assert link["listen"] == str(emulator.link("radio").settings.listen) and link["seed"] == 3
    assert await weaklink_link("list") == 0
    out = capsys.readouterr().out
    assert "NAME" in out and link["listen"] in out and "bsc:ber=0.01 delay:delay_ms=5," in out
    assert await weaklink_link("set", "radio", "--up", "awgn:snr_db=-3", "--down", "erasure:probability=0.1") == 0
    assert "awgn:snr_db=-3" in capsys.readouterr().out
    assert await weaklink_link("set", "radio", "--down", "none") == 0
    capsys.readouterr()
    emulator.link("radio").carry("up", "camera", FRAME, 0.0)
    assert await weaklink_link("show", "radio") == 0
    out = capsys.readouterr().out
    assert "down: -" in out and "bits: 400" in out and "expected_ber 0.158" in out
    assert await weaklink_link("reset", "radio") == 0 and await weaklink_link("reset") == 0
    assert await weaklink_link("delete", "radio") == 0
    capsys.readouterr()
    assert await weaklink_link("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "none"], "link 'none' does not exist"),
        (["create", "a", "--upstream", "nowhere"], "upstream is 'nowhere'"),
        (["create", "a", "--upstream", "127.0.0.1:9", "--up", "bsc:ber"], "'ber' has no value"),
        (["create", "a", "--upstream", "127.0.0.1:9", "--up", "{"], "no JSON"),
        (["set", "a"], "nothing to change"),
    ],
)
async def test_the_command_passes_refusals_on(weaklink_link, capsys, arguments, words):
    assert await weaklink_link(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and "fix:" in error


def test_the_command_names_an_emulator_that_does_not_answer(capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{}".format(unused.getsockname()[1])
    assert main(["list", "--control", address]) == 2
    assert address in capsys.readouterr().err


@pytest.mark.parametrize("control", ["127.0.0.1:abc", "[::1:8474", "a..b:8474"])
def test_the_command_names_a_control_address_that_is_none(capsys, control):
    assert main(["list", "--control", control]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: no emulator answers at {control!r}") and "fix:" in error


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[]",
        b"HTTP/1.1 500 No\r\ncontent-length: 50\r\n\r\n{}",
    ],
)
async def test_the_command_names_a_service_that_is_no_emulator(capsys, answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        assert await asyncio.to_thread(main, ["list", "--control", address]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no emulator" in error


@pytest.mark.parametrize("verb", [[], ["create"], ["set"], ["list"]])
def test_help(capsys, verb):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0 and "usage: weaklink link" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ("bsc:ber=1e-3", {"channel": "bsc", "ber": 0.001}),
        ("delay:delay_ms=20,keep_order=true", {"channel": "delay", "delay_ms": 20, "keep_order": True}),
        ("trace:file=/data/a=b.csv", {"channel": "trace", "file": "/data/a=b.csv"}),
        ('{"channel": "trace", "points": [[0, 0.1]]}', {"channel": "trace", "points": [[0, 0.1]]}),
    ],
)
def test_channels_on_the_command_line(text, channel):
    assert parse_channel(text) == channel
    if not text.startswith("{"):
        assert parse_channel(format_channels([channel])) == channel


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(InvalidRequest, match="'ber' has no value"):
        parse_channel("bsc:ber")
    with pytest.raises(InvalidRequest, match="where a value has commas, write JSON"):
        parse_channel("trace:points=[[0,0.01],[10,0.1]]")


async def test_pages_of_other_sites_change_nothing(emulator, control, api):
    for origin in ("https://evil.example", "null", f"http://{control}.evil.example"):
        for path, body in (("/reset", b""), ("/links", json.dumps(spec()).encode())):
            headers = {"origin": origin, "content-type": "text/plain"}
            answer = await api.post(path, content=body, headers=headers)
            assert answer.status_code == 403 and answer.json()["error"]["status"] == "PERMISSION_DENIED"
            assert f"a web page of '{origin}' asks" in answer.text and "fix: " in answer.text
    assert emulator.links() == []
    assert (await api.post("/reset", headers={"origin": f"http://{control}"})).status_code == 204


async def test_no_page_comes_from_a_name_that_leads_here(emulator):
    """DNS rebinding: to the browser the page is of this server, whose name is the attacker's."""
    foreign = {"host": "evil.example:8474", "origin": "http://evil.example:8474"}
    names = own_names(Address("127.0.0.1", 8474), "Radio")
    async with serving(emulator, names=names) as control, httpx.AsyncClient(base_url=f"http://{control}", trust_env=False) as api:
        for answer in (
            await api.post("/reset", headers=foreign),
            await api.get("/links", headers={"host": foreign["host"]}),
        ):
            assert answer.status_code == 403 and "evil.example:8474" in answer.text and "--host" in answer.text
        for host in ("localhost", "LOCALHOST:1", "radio:8474", "127.0.0.1:1", "[::1]:1", "192.0.2.1"):
            assert (await api.get("/links", headers={"host": host})).status_code == 200
            assert (await api.post("/reset", headers={"host": host, "origin": f"http://{host}"})).status_code == 204
        assert (await api.post("/reset", headers={"host": "emulator"})).status_code == 204, "no browser"


def test_an_emulator_on_a_network_may_have_any_name():
    assert own_names(Address("0.0.0.0", 8474), "0.0.0.0") is own_names(Address("fe80::1%eth0", 8474), "radio") is None
