"""One typed settings object for the edge node: flags before environment before file before defaults."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, SettingsConfigDict

from edge_server.cores import usable_cores
from edge_server.runtimes import DEFAULT_RUNTIME, RUNTIMES
from semantic_codec.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """Everything that an operator may choose. A port of 0 means: any free one, told on the ready line."""

    model_config = SettingsConfigDict(env_prefix="WEAKLINK_", extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="address of all ports; 0.0.0.0 opens them to the network")
    grpc_port: Port = Field(50051, description="gRPC service, health and reflection; 0, as for every port: any free one, told on the ready line")
    udp_port: Port | None = Field(50052, description="raw frames over UDP; none: not listening")
    serial_port: Port | None = Field(None, description="raw frames on serial lines over TCP; none: not listening")
    http_port: Port = Field(8080, description="admin HTTP: status page, metrics, health, inference for curl")
    bundles: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description=f"bundle folders, separated by '{os.pathsep}'; empty: the packaged bundles"
    )
    runtime: str = Field(DEFAULT_RUNTIME, description=f"what runs the networks: {', '.join(RUNTIMES)}")
    engines: int = Field(
        1, ge=0, le=64, description="processes that run the networks, restarted when they die; 0: the server's own"
    )
    engine_timeout_s: Seconds = Field(
        30.0, description="time for one batch; an engine process that takes longer hangs, and is started anew, seconds"
    )
    threads: int = Field(0, ge=0, le=256, description="compute threads of each; 0: all cores but one, shared out among them")
    max_batch: int = Field(64, ge=1, le=4096, description="images in one batch")
    queue_limit: int = Field(1024, ge=1, le=1_000_000, description="requests that may wait; above: RESOURCE_EXHAUSTED")
    stream_window: int = Field(256, ge=1, le=65536, description="unanswered requests of one stream before it is paused")
    stream_limit: int = Field(256, ge=1, le=65536, description="streams of one token, or of one address without tokens")
    connection_limit: int = Field(
        16_384, ge=1, le=1_000_000, description="gRPC and HTTP connections that may be open; above: closed at once"
    )
    address_limit: int = Field(
        4096, ge=1, le=1_000_000, description="of these, connections of one address, or of one /64 of IPv6"
    )
    device_in_flight: int = Field(
        512, ge=1, le=1_000_000, description="unanswered requests of one device; above: RESOURCE_EXHAUSTED"
    )
    noise_rate: float = Field(
        50, ge=1, le=1e6, description="unreadable or unwelcome datagrams of one address and port, per second; above: dropped unread"
    )
    max_message_bytes: int = Field(65536, ge=1024, le=4_000_000, description="largest request, any transport")
    deadline_s: Seconds = Field(5.0, description="time for a request whose caller gave no deadline, seconds")
    client_timeout_s: Seconds = Field(
        30.0, description="time for a client to send its request, or to show that it is still there, seconds"
    )
    drain_s: Seconds = Field(20.0, description="longest wait for what is in flight at shutdown, seconds")
    device_limit: int = Field(4096, ge=1, le=1_000_000, description="devices remembered; the least recent goes first")
    remembered_answers: int = Field(128, ge=1, le=4096, description="answers per device that feedback can refer to")
    duplicate_s: Seconds = Field(30.0, description="age at which a frame's sequence number may be used again, seconds")
    silent_s: float = Field(
        300.0, gt=0, le=86400, description="a device not heard for so long is silent, not active, seconds"
    )
    keys: Path | None = Field(
        None, description="TOML or JSON file of device keys, reloaded when it changes: frames are in keyed mode"
    )
    replay_file: Path | None = Field(
        None, description="keeps the replay window over a restart; none: the keys file's name, .replay added"
    )
    open_frames: bool | None = Field(
        None, description="whether frames without a key are read; none: only where there is no keys file"
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate chain of gRPC and HTTP, reloaded when it changes; none: no TLS"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authority whose certificates clients must show; none: they need none"
    )
    tokens: Path | None = Field(
        None, description="TOML file of token hashes, reloaded when it changes: gRPC and HTTP ask for a token"
    )
    insecure: bool = Field(False, description="open to the network although anybody may call")
    model_control: bool | None = Field(
        None, description="whether clients may load and unload bundles; none: where tokens are asked for, or on loopback"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["text", "json"] = Field("text", description="lines of the log: text, or json objects")
    log_requests: Literal["none", "failed", "all"] = Field(
        "none", description="requests that get a line in the log: none, those that failed, or all"
    )
    otlp_endpoint: str | None = Field(
        None, pattern="^https?://", description="OpenTelemetry collector, say http://host:4317, that gets traces over gRPC; none: no traces"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain_values(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes false for 0, which of a port means any free one: whoever writes it wants none. "none" is none of
        whatever may be left out."""
        field = cls.model_fields[info.field_name]
        kinds = (field.annotation, *get_args(field.annotation))
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError(f"neither true nor false ({field.description})")
        return None if value == "none" and type(None) in kinds else value

    @field_validator("bundles", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("runtime")
    @classmethod
    def _known_runtime(cls, value: str) -> str:
        if value not in RUNTIMES:
            raise ValueError(f"one of {', '.join(RUNTIMES)}")
        return value

    @property
    def reads_open_frames(self) -> bool:
        return self.keys is None if self.open_frames is None else self.open_frames

    @property
    def replay_path(self) -> Path | None:
        if self.keys is None or self.replay_file is not None:
            return self.replay_file
        return Path(f"{self.keys}.replay")

    @property
    def compute_threads(self) -> int:
        """One core is left to the event loop: where threads of an engine have to share theirs with it, the others wait for
        them in the middle of each layer."""
        return self.threads or max(1, (usable_cores() - 1) // max(1, self.engines))


def build_parser() -> argparse.ArgumentParser:
    """``weaklink serve``: one flag per setting, the default and the environment variable in its help."""
    parser = argparse.ArgumentParser(
        prog="weaklink serve",
        description="Serve codec bundles over gRPC, raw UDP frames and HTTP.",
        epilog="Flags come before environment variables, these before the file, this before the defaults.",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML or JSON file of these settings by name")
    for name, field in Settings.model_fields.items():
        bare = {"nargs": "?", "const": "true"} if field.default is False else {}
        parser.add_argument(
            flag(name),
            dest=name,
            **bare,
            metavar=name.rpartition("_")[2].upper(),
            default=argparse.SUPPRESS,
            help=f"{field.description} (default: {shown_default(field)}; WEAKLINK_{name.upper()})",
        )
    return parser


def load_settings(argv: Sequence[str] | None = None) -> Settings:
    """Settings from ``argv``, the environment and ``--config FILE``. ConfigError: names the value and its fix."""
    flags = vars(build_parser().parse_args(argv))
    from_file = _read_file(flags.pop("config"))

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_):
            return init_settings, env_settings, InitSettingsSource(settings_cls, from_file)

    try:
        return WithFile(**flags)
    except ValidationError as error:
        raise _as_config_error(error) from None


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def shown_default(field: FieldInfo) -> str:
    """A setting's default as people read it."""
    return {(): "empty", None: "none"}.get(field.default, str(field.default))


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = path.read_text("utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--config {path}: {error}", allowed="a readable .toml or .json file", fix="correct the path or the file"
        ) from error
    unknown = sorted(set(values) - set(Settings.model_fields)) if isinstance(values, dict) else [type(values).__name__]
    if unknown:
        raise ConfigError(
            f"--config {path} has the unknown setting {unknown[0]!r}",
            allowed=", ".join(Settings.model_fields),
            fix="remove or rename it",
        )
    return values


def _as_config_error(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    name = str(first["loc"][0])
    allowed = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigError(
        f"{name} is {first['input']!r}",
        allowed=allowed,
        fix=f"change {flag(name)}, WEAKLINK_{name.upper()} or the settings file",
    )
