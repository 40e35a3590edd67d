"""What is open to the network must know who calls; the start is refused else."""

from __future__ import annotations

import ipaddress
import logging
import socket

from edge_server.settings import Settings
from semantic_codec.errors import ConfigError

log = logging.getLogger(__name__)


def check_exposure(settings: Settings) -> None:
    """ConfigError: a port that is reached from other machines would serve anybody, and `insecure` is not set;
    only a part of what TLS needs is given; or a port takes frames of which none would be read."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise _half("--tls-key" if settings.tls_key is None else "--tls-certificate")
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        raise _half("--tls-certificate and --tls-key")
    takes_frames = settings.udp_port is not None or settings.serial_port is not None
    if takes_frames and settings.keys is None and not settings.reads_open_frames:
        raise ConfigError(
            "a port takes raw frames, but without --keys --open-frames false has none of them read",
            allowed="frames with a key, frames without one, or no port for them",
            fix="add --keys, leave --open-frames out, or give --udp-port none and no --serial-port",
        )
    if settings.insecure or is_loopback(settings.host):
        return
    open_doors, fixes = [], []
    if settings.tokens is None and settings.tls_client_ca is None:
        open_doors.append("gRPC and HTTP, which know nobody")
        fixes.append("--tokens or --tls-client-ca")
    if settings.reads_open_frames and takes_frames:
        open_doors.append("raw frames without a key")
        fixes.append("--keys, without --open-frames true" if settings.keys is None else "--open-frames false")
    if open_doors:
        raise ConfigError(
            f"--host {settings.host} opens to the network: {'; '.join(open_doors)}",
            allowed="callers that prove who they are, or --host 127.0.0.1",
            fix=f"`weaklink keys init DIR` makes keys and tokens; give {' and '.join(fixes)}, "
            "or --insecure on a network of your own",
        )
    if settings.tls_certificate is None:
        log.warning("gRPC and HTTP are not encrypted: whoever sees the packets sees the tokens; give --tls-certificate")


def _half(missing: str) -> ConfigError:
    return ConfigError(f"TLS is set up without {missing}", allowed="certificate and key together", fix=f"add {missing}")


def lets_clients_load(settings: Settings) -> bool:
    """Whether bundles are loaded and unloaded over the network: by admins where there are tokens, else by whoever
    reaches a port of this machine only, unless `model_control` says otherwise."""
    if settings.model_control is not None:
        return settings.model_control
    return settings.tokens is not None or is_loopback(settings.host)


def own_names(settings: Settings) -> frozenset[str] | None:
    """What web pages may call a server on loopback that asks nobody who they are. None: anything, since it asks for tokens,
    has a certificate that only its own names fit, or is open to a network that has its own names for it."""
    if settings.tokens is not None or settings.tls_certificate is not None or not is_loopback(settings.host):
        return None
    return frozenset(("localhost", settings.host.lower()))


def is_loopback(host: str) -> bool:
    """Whether no address of this name is reached from other machines; True where it has none at all, which the ports
    will say better."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return True
    return all(ipaddress.ip_address(address[0].partition("%")[0]).is_loopback for *_, address in found)
