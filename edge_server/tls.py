"""Certificates of the gRPC and HTTP ports, read again when their files change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from edge_server.watched_file import WatchedFile
from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_secret


@dataclass(frozen=True)
class Pem:
    """Contents of the files, PEM."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates(WatchedFile[Pem]):
    """certificate: with its chain. client_ca: whose certificates clients must show; None: they need none.

    ConfigError: a file cannot be used, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None):
        self._files = certificate, key, client_ca
        paths = [path for path in self._files if path is not None]
        super().__init__("certificates", paths, self._read_files)
        self._http = self._context()

    def reload(self) -> str | None:
        outcome = super().reload()
        if outcome == "ok":
            certificate, key, client_ca = self._files
            self._http.load_cert_chain(certificate, key)
            if client_ca is not None:
                self._http.load_verify_locations(client_ca)
        return outcome

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Ask for the newest files at each handshake."""
        client_ca = self._files[2] is not None
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(), self._grpc_configuration, require_client_authentication=client_ca
        )

    def http_context(self) -> ssl.SSLContext:
        """Follows the files, too."""
        return self._http

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        pem = self.value
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)

    def _context(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context

    def _read_files(self) -> Pem:
        certificate, key, client_ca = self._files
        try:
            secret = read_secret(key, "TLS key").encode()
            self._context()
            return Pem(certificate.read_bytes(), secret, None if client_ca is None else client_ca.read_bytes())
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificate {certificate} with the key {key} cannot be used"
                f"{'' if client_ca is None else f', or the client CA {client_ca}'} ({error})",
                allowed="PEM files that this user may read, the key without a password and of this certificate",
                fix="correct --tls-certificate, --tls-key or --tls-client-ca",
            ) from None
