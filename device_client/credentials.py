"""What a gRPC client shows to the edge, and what it wants to see of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from semantic_codec.address import parse_address
from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_secret


@dataclass(frozen=True)
class Credentials:
    """token: goes with every call. ca: PEM file of the authority that signed the edge's certificate; None: no TLS.
    certificate and key: PEM files of the client's own certificate, where the edge asks for one."""

    token: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self):
        if (self.certificate is None) != (self.key is None) or (self.certificate is not None and self.ca is None):
            raise ConfigError(
                "a client certificate is given in part", allowed="CA, certificate and key together", fix="give all three"
            )

    def open_channel(self, address: str) -> grpc.Channel:
        """Channel to "HOST:PORT"; reconnects within 2 s of the edge's return. ConfigError: a file cannot be used."""
        parse_address("the address", address)
        # Devices sit on the edge's own network: an HTTP proxy from the environment is never the way there.
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 2000)]
        if self.ca is None:
            channel = grpc.insecure_channel(address, options=options)
        else:
            key = None if self.key is None else read_secret(self.key, "TLS key").encode()
            authorities, certificate = _read(self.ca), self.certificate and _read(self.certificate)
            self._check()
            secrets = grpc.ssl_channel_credentials(authorities, key, certificate)
            channel = grpc.secure_channel(address, secrets, options=options)
        return channel if self.token is None else grpc.intercept_channel(channel, _WithToken(self.token))

    def _check(self) -> None:
        """ConfigError: gRPC would trust authorities of its own in place of a file without any, and say that the edge is away."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"{self.ca} holds no certificate ({error.reason or error})", allowed="a PEM file of the edge's authority", fix="correct --ca"
            ) from None
        if self.certificate is not None:
            try:
                # Without a password OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except ssl.SSLError as error:
                raise ConfigError(
                    f"the certificate {self.certificate} with the key {self.key} cannot be used ({error.reason or error})",
                    allowed="PEM files, the key without a password and of this certificate", fix="correct --certificate or --certificate-key",
                ) from None  # fmt: skip


def read_token(path: Path) -> str:
    """The token in a file that is its owner's alone; ConfigError where it is not, or holds none."""
    token = read_secret(path, "token file").strip()
    if not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"the token file {path} holds no token", allowed="one line, NAME.SECRET", fix="see `weaklink keys --help`"
        )
    return token


class _WithToken(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    def __init__(self, token: str):
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation: Callable, details: grpc.ClientCallDetails, request):
        return continuation(self._with_token(details), request)

    def intercept_stream_stream(self, continuation: Callable, details: grpc.ClientCallDetails, requests):
        return continuation(self._with_token(details), requests)

    def _with_token(self, details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        return details._replace(metadata=(*(details.metadata or ()), *self._metadata))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror})", allowed="a PEM file", fix="correct --ca or --certificate"
        ) from None
