"""What is open to the network refuses to start without knowing who calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.__main__ import main
from edge_server.exposure import check_exposure, is_loopback
from edge_server.settings import Settings, load_settings
from semantic_codec.errors import ConfigError

TOKENS, KEYS = {"tokens": Path("tokens.toml")}, {"keys": Path("keys.toml")}
CERTIFICATE = {"tls_certificate": Path("edge.pem"), "tls_key": Path("edge.key")}
CLIENTS = CERTIFICATE | {"tls_client_ca": Path("ca.pem")}
NO_FRAMES = {"udp_port": "none"}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, ("--tokens or --tls-client-ca", "--keys")),
        (TOKENS, ("--keys",)),
        (CLIENTS, ("--keys",)),
        (KEYS, ("--tokens",)),
        (CERTIFICATE | KEYS, ("--tokens",)),
        (TOKENS | KEYS | {"open_frames": True}, ("--open-frames",)),
        (TOKENS | NO_FRAMES | {"serial_port": 0}, ("--keys",)),
        (TOKENS | KEYS, ()),
        (CLIENTS | KEYS, ()),
        (TOKENS | NO_FRAMES, ()),
        (TOKENS | NO_FRAMES | {"open_frames": False}, ()),
        ({"insecure": True}, ()),
        ({"host": "127.0.0.1"}, ()),
        ({"host": "localhost"}, ()),
    ],
)
def test_each_door_needs_its_own(settings: dict, missing: tuple[str, ...]):
    made = Settings(**({"host": "0.0.0.0"} | settings))
    if not missing:
        check_exposure(made)
        return
    with pytest.raises(ConfigError, match="weaklink keys init") as refusal:
        check_exposure(made)
    for flag in ("--tokens or --tls-client-ca", "--tokens", "--keys", "--open-frames"):
        if flag in missing:
            assert flag in refusal.value.fix
    assert ("gRPC and HTTP" in refusal.value.problem) == (missing[0].startswith("--tokens"))


def test_tokens_in_the_clear_are_warned_of(caplog: pytest.LogCaptureFixture):
    check_exposure(Settings(host="0.0.0.0", **TOKENS, **KEYS))
    assert "not encrypted" in caplog.text
    caplog.clear()
    check_exposure(Settings(host="0.0.0.0", **CLIENTS, **KEYS))
    assert not caplog.text


@pytest.mark.parametrize(
    "settings", [{"tls_certificate": Path("c")}, {"tls_key": Path("k")}, {"tls_client_ca": Path("a")}]
)
def test_half_of_tls_is_refused_on_loopback_too(settings: dict):
    with pytest.raises(ConfigError, match="TLS is set up without"):
        check_exposure(Settings(**settings))


@pytest.mark.parametrize("ports", [{}, NO_FRAMES | {"serial_port": 0}])
def test_a_port_for_frames_of_which_none_is_read_is_refused(ports: dict):
    with pytest.raises(ConfigError, match="none of them read"):
        check_exposure(Settings(open_frames=False, **ports))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("no.such.host.invalid", True), ("127.0..1", True)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool):
    assert is_loopback(host) == loopback


def test_the_command_says_what_to_do(capsys: pytest.CaptureFixture):
    assert main(["--host", "0.0.0.0"]) == 2
    assert "--insecure" in capsys.readouterr().err


def test_flags():
    assert load_settings(["--insecure", "--udp-port", "none"]).udp_port is None
    assert load_settings(["--insecure"]).insecure and not load_settings([]).insecure
