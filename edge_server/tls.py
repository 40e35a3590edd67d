"""Certificates of the gRPC and HTTP ports, read again when their files change."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_server.watched_file import WatchedFile
from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_secret

GRPC, HTTP = "h2", "http/1.1"
"""Names of the doors' protocols (ALPN)."""


class Certificates(WatchedFile[Mapping[str, ssl.SSLContext]]):
    """certificate: with its chain. client_ca: whose certificates clients must show; None: they need none.

    ConfigError: a file cannot be used, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None):
        self._files = certificate, key, client_ca
        paths = [path for path in self._files if path is not None]
        super().__init__("certificates", paths, self._read_files)

    def context(self, protocol: str) -> ssl.SSLContext:
        """A listening socket's: each connection is made with the newest files, and with nothing of the earlier ones."""
        return _Newest(lambda: self.value[protocol])

    def _read_files(self) -> Mapping[str, ssl.SSLContext]:
        certificate, key, client_ca = self._files
        try:
            read_secret(key, "TLS key")
            return {protocol: self._read_context(protocol) for protocol in (GRPC, HTTP)}
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificate {certificate} with the key {key} cannot be used"
                f"{'' if client_ca is None else f', or the client CA {client_ca}'} ({error})",
                allowed="PEM files that this user may read, the key without a password and of this certificate",
                fix="correct --tls-certificate, --tls-key or --tls-client-ca",
            ) from None

    def _read_context(self, protocol: str) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        # Without a password OpenSSL would ask for one, on the terminal that the server was started from, and wait.
        context.load_cert_chain(certificate, key, password=lambda: b"")
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context


class _Newest(ssl.SSLContext):
    """Makes each connection of the context that is the newest then. Sessions belong to the context that they began in, so
    that none is resumed in which a client showed a certificate of an earlier authority."""

    def __new__(cls, newest: Callable[[], ssl.SSLContext]) -> _Newest:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, newest: Callable[[], ssl.SSLContext]):
        self._newest = newest

    def wrap_bio(self, *arguments, **named) -> ssl.SSLObject:
        return self._newest().wrap_bio(*arguments, **named)
