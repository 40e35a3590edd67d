"""TLS and mutual TLS on the gRPC and HTTP ports, with certificates made on the fly."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from edge_server.tls import Certificates
from semantic_codec.errors import ConfigError
from tests.conftest import ROOT
from tests.edge_server.conftest import running, sample, until
from tests.edge_server.test_tokens import request, status
from weaklink.v1 import edge_pb2_grpc


class Authority:
    """A certificate authority, and files of a certificate by it."""

    def __init__(self, folder: Path, name: str):
        self._ca, self._folder, self._name = trustme.CA(), folder, name
        self.file = folder / f"{name}-ca.pem"
        self._ca.cert_pem.write_to_path(self.file)
        self.files = self.issue()

    def issue(self) -> tuple[Path, Path]:
        """(certificate, key) of localhost, in place of the earlier ones."""
        made = self._ca.issue_cert("localhost", "127.0.0.1", common_name="localhost")
        certificate, key = self._folder / f"{self._name}.pem", self._folder / f"{self._name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(made.private_key_pem.bytes())
        return certificate, key

    def settings(self) -> dict[str, Path]:
        return dict(zip(("tls_certificate", "tls_key"), self.files))

    def channel(self, address: str, own: tuple[Path, Path] | None = None) -> grpc.aio.Channel:
        """A client's, with or without a certificate of its own."""
        certificate, key = (None, None) if own is None else (path.read_bytes() for path in own)
        return grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(self.file.read_bytes(), key, certificate)
        )

    def http_client(self, address: str, own: tuple[Path, Path] | None = None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=self.file)
        if own is not None:
            context.load_cert_chain(*own)
        return httpx.AsyncClient(base_url=f"https://{address}", verify=context, timeout=30)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "edge")


@pytest.fixture
def devices(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "devices")


async def infer(channel: grpc.aio.Channel) -> str:
    async with channel:
        return await status(edge_pb2_grpc.EdgeInferenceStub(channel).Infer(request(), timeout=30))


async def shown(address: str) -> str:
    """The certificate that a client is shown."""
    host, _, port = address.partition(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)), timeout=30)


async def test_grpc_and_http_speak_tls_and_nothing_else(bundle_root: Path, authority: Authority, devices: Authority):
    async with running(bundle_root, **authority.settings()) as (_, at):
        assert await infer(authority.channel(at["grpc"])) == "OK"
        assert await infer(grpc.aio.insecure_channel(at["grpc"])) == "UNAVAILABLE"
        assert await infer(devices.channel(at["grpc"])) == "UNAVAILABLE", "another authority's certificate"
        async with authority.http_client(at["http"]) as client:
            assert (await client.get("/readyz")).status_code == 200
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(f"http://{at['http']}/readyz")


async def test_clients_show_a_certificate(bundle_root: Path, authority: Authority, devices: Authority):
    async with running(bundle_root, tls_client_ca=devices.file, **authority.settings()) as (_, at):
        assert await infer(authority.channel(at["grpc"], devices.files)) == "OK"
        assert await infer(authority.channel(at["grpc"])) == "UNAVAILABLE"
        assert await infer(authority.channel(at["grpc"], authority.files)) == "UNAVAILABLE"
        async with authority.http_client(at["http"], devices.files) as client:
            assert (await client.get("/readyz")).status_code == 200
        for own in (None, authority.files):
            async with authority.http_client(at["http"], own) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.get("/readyz")


async def test_a_new_certificate_is_taken_without_a_restart(bundle_root: Path, authority: Authority):
    async with running(bundle_root, **authority.settings()) as (server, at):
        before = {door: await shown(at[door]) for door in ("grpc", "http")}
        authority.issue()
        await until(lambda: sample(server, "weaklink_reloads_total", file="certificates", outcome="ok") == 1)
        for door, certificate in before.items():
            assert await shown(at[door]) != certificate
        assert await infer(authority.channel(at["grpc"])) == "OK"
        authority.files[1].write_text("no key")
        await until(lambda: sample(server, "weaklink_reloads_total", file="certificates", outcome="failed") == 1)
        assert await infer(authority.channel(at["grpc"])) == "OK"


async def test_a_new_authority_of_clients_takes_the_place_of_the_old(
    bundle_root: Path, authority: Authority, devices: Authority, tmp_path: Path
):
    newer = Authority(tmp_path, "newer")
    async with running(bundle_root, tls_client_ca=devices.file, **authority.settings()) as (server, at):
        assert await infer(authority.channel(at["grpc"], devices.files)) == "OK"
        devices.file.write_bytes(newer.file.read_bytes())
        await until(lambda: sample(server, "weaklink_reloads_total", file="certificates", outcome="ok") == 1)
        assert await infer(authority.channel(at["grpc"], newer.files)) == "OK"
        assert await infer(authority.channel(at["grpc"], devices.files)) == "UNAVAILABLE"
        async with authority.http_client(at["http"], newer.files) as client:
            assert (await client.get("/readyz")).status_code == 200
        async with authority.http_client(at["http"], devices.files) as client:
            with pytest.raises(httpx.HTTPError):
                await client.get("/readyz")


def resume(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[bool, ssl.SSLSession]:
    """One request over HTTP: whether ``session`` was resumed for it, and the session to resume next. OSError: no answer."""
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as sock,
        context.wrap_socket(sock, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        if not connection.recv(4096):
            raise ConnectionError
        return connection.session_reused, connection.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_outlives_the_authority_that_it_began_under(
    bundle_root: Path, authority: Authority, devices: Authority, tmp_path: Path, version: ssl.TLSVersion
):
    context = ssl.create_default_context(cafile=authority.file)
    context.maximum_version = version
    context.load_cert_chain(*devices.files)
    newer = Authority(tmp_path, "newer")
    async with running(bundle_root, tls_client_ca=devices.file, **authority.settings()) as (server, at):
        _, session = await asyncio.to_thread(resume, at["http"], context)
        was_resumed, _ = await asyncio.to_thread(resume, at["http"], context, session)
        assert was_resumed
        devices.file.write_bytes(newer.file.read_bytes())
        await until(lambda: sample(server, "weaklink_reloads_total", file="certificates", outcome="ok") == 1)
        with pytest.raises(OSError):
            await asyncio.to_thread(resume, at["http"], context, session)


@pytest.mark.parametrize("damage", ["missing", "no PEM", "another's key", "readable"])
def test_files_that_cannot_be_used(authority: Authority, devices: Authority, damage: str):
    certificate, key = authority.files
    if damage == "missing":
        certificate.unlink()
    elif damage == "no PEM":
        certificate.write_text("x")
    elif damage == "another's key":
        key = devices.files[1]
    else:
        key.chmod(0o644)
    with pytest.raises(ConfigError, match="fix: "):
        Certificates(certificate, key, None)


_ON_A_TERMINAL = """
import os, sys
from pathlib import Path
from edge_server.tls import Certificates
from semantic_codec.errors import ConfigError
os.open(os.ttyname(0), os.O_RDWR)  # the first that a session opens is its terminal
try:
    Certificates(Path(sys.argv[1]), Path(sys.argv[2]), None)
except ConfigError as error:
    print(error)
"""


def test_nobody_is_asked_for_the_password_of_a_key(authority: Authority):
    certificate, key = authority.files
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-c", _ON_A_TERMINAL, str(certificate), str(key)]
        told = subprocess.run(
            command, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True, timeout=60, text=True, check=True, cwd=ROOT
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert "the key without a password" in told.stdout
