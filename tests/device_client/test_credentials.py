"""Tokens and TLS as a user of ``weaklink send`` and of :class:`Device` gives them, against real edges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme

from device_client import Device
from device_client.__main__ import main
from device_client.credentials import Credentials, read_token
from device_client.device import Sample
from edge_server.tokens import make_token, token_hash
from semantic_codec.bundle import Bundle
from semantic_codec.errors import ConfigError, PermissionDenied, Unauthenticated, Unavailable
from weaklink.processes import Service


def secret(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of an edge and of device 7."""
    folder = tmp_path_factory.mktemp("secrets")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("edge", "device"):
        made = authority.issue_cert("127.0.0.1")
        (folder / f"{name}.pem").write_bytes(made.cert_chain_pems[0].bytes())
        secret(folder / f"{name}.key", made.private_key_pem.bytes().decode())
    token = make_token("7")
    secret(folder / "7.token", f"{token}\n")
    secret(folder / "tokens.toml", f'[devices]\n7 = "{token_hash(token)}"\n')
    return folder


@pytest.fixture(scope="module")
def guarded(tiny: Bundle, folder: Path) -> Iterator[dict[str, str]]:
    """An edge that wants a token and, over TLS, a certificate."""
    ports = ["--grpc-port", "0", "--udp-port", "none", "--http-port", "0", "--threads", "1"]
    ports += ["--tls-certificate", str(folder / "edge.pem"), "--tls-key", str(folder / "edge.key")]
    ports += ["--tls-client-ca", str(folder / "ca.pem"), "--tokens", str(folder / "tokens.toml")]
    with Service(["serve", *ports, "--bundles", str(tiny.folder.parents[1])]) as service:
        yield service.ready


@pytest.fixture(scope="module")
def asking(tiny: Bundle, folder: Path) -> Iterator[dict[str, str]]:
    """An edge that wants a token."""
    ports = ["--grpc-port", "0", "--udp-port", "0", "--http-port", "0", "--threads", "1"]
    with Service(
        ["serve", *ports, "--bundles", str(tiny.folder.parents[1]), "--tokens", str(folder / "tokens.toml")]
    ) as service:
        yield service.ready


def of_device(folder: Path) -> Credentials:
    return Credentials(
        read_token(folder / "7.token"), folder / "ca.pem", folder / "device.pem", folder / "device.key"
    )


def test_a_device_shows_its_token_and_certificate(tiny: Bundle, folder: Path, guarded: dict, images: np.ndarray):
    with Device(tiny, "grpc", guarded["grpc"], device=7, credentials=of_device(folder)) as device:
        answer = device.infer(images[0])
        assert device.feedback(answer, 0), "feedback goes the same way"
    for number, credentials, refusal in (
        (8, of_device(folder), PermissionDenied),
        (7, Credentials("7.x", folder / "ca.pem", folder / "device.pem", folder / "device.key"), Unauthenticated),
        (7, Credentials("7.x", folder / "ca.pem"), Unavailable),
        (7, Credentials(), Unavailable),
    ):
        with Device(tiny, "grpc", guarded["grpc"], device=number, credentials=credentials, retries=0) as device:
            with pytest.raises(refusal):
                device.infer(images[0])


def test_the_command_shows_them(tiny: Bundle, folder: Path, guarded: dict, capsys: pytest.CaptureFixture):
    fixed = ["--codec", str(tiny.folder), "--transport", "grpc", "--to", guarded["grpc"], "--recording", "--count", "20",
             "--device-id", "7", "--timeout", "30", "--feedback", guarded["grpc"]]  # fmt: skip
    shown = ["--token-file", str(folder / "7.token"), "--ca", str(folder / "ca.pem")]
    shown += ["--certificate", str(folder / "device.pem"), "--certificate-key", str(folder / "device.key")]
    assert main([*fixed, *shown]) == 0, capsys.readouterr().err
    assert main([*fixed, *shown[2:]]) == 2
    assert "no valid token" in capsys.readouterr().err


def test_the_link_emulator_passes_the_token_on(tiny: Bundle, folder: Path, asking: dict, link, images: np.ndarray):
    address = link("grpc", asking["grpc"])
    with Device(tiny, "grpc", address, device=7, credentials=Credentials(read_token(folder / "7.token"))) as device:
        assert device.feedback(device.infer(images[0]), 0)
        errors = [delivery.error for _, delivery in device.stream([Sample(image) for image in images[:5]])]
        assert errors == [None] * 5
    with Device(tiny, "grpc", address, device=7) as device, pytest.raises(Unauthenticated):
        device.infer(images[0])


def test_ground_truth_of_raw_frames_goes_with_a_token(tiny: Bundle, folder: Path, asking: dict, images: np.ndarray):
    def feedback(**shown) -> bool:
        with Device(tiny, "udp", asking["udp"], device=7, timeout_s=20, feedback=asking["grpc"], **shown) as device:
            return device.feedback(device.infer(images[0]), 0)

    assert feedback(feedback_credentials=Credentials(read_token(folder / "7.token")))
    with pytest.raises(Unauthenticated):
        feedback()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ca", "no.pem"], "no.pem cannot be read"),
        (["--certificate", "a.pem"], "given in part"),
        (["--ca", "a.pem", "--certificate", "a.pem"], "given in part"),
        (["--token-file", "no.token"], "token file no.token cannot be read"),
        (["--transport", "udp", "--ca", "a.pem"], "--key-file"),
    ],
)
def test_what_cannot_work_is_refused(tiny: Bundle, arguments: list[str], told: str, capsys: pytest.CaptureFixture):
    fixed = ["--codec", str(tiny.folder), "--transport", "grpc", "--to", "127.0.0.1:1", "--recording"]
    assert main([*fixed, *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["empty", "device.pem", "device.key"], "empty holds no certificate .*--ca"),
        (["edge.key", "device.pem", "device.key"], "edge.key holds no certificate"),
        (["ca.pem", "device.pem", "edge.key"], "device.pem with the key .*edge.key cannot be used"),
        (["ca.pem", "empty", "device.key"], "empty with the key .*device.key cannot be used"),
    ],
)
def test_files_that_are_no_certificates_are_named(folder: Path, files: list[str], told: str):
    (folder / "empty").touch()
    with pytest.raises(ConfigError, match=told):
        Credentials("7.x", *(folder / file for file in files)).open_channel("127.0.0.1:1")


def test_a_token_file_holds_one_token_and_is_the_owners(tmp_path: Path):
    for text in ("", "two words", "ä"):
        with pytest.raises(ConfigError, match="holds no token"):
            read_token(secret(tmp_path / "token", text))
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="has the mode 0644"):
        read_token(tmp_path / "token")
