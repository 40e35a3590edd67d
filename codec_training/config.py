"""Training configurations: TOML files that name everything a codec is made of. ``codec_training/configs`` holds ours."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec_training.families import find_family
from codec_training.optimizers import OPTIMIZERS
from semantic_codec.bundle import first_wrong
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.nn.channel import wrong_channel

CONFIGS = Path(__file__).parent / "configs"
"""Found by name in the folder and below it; ``ablations`` holds variants that are trained to be compared or built upon."""

MAY_BE_0 = ("margin", "seed", "blocks", "expand", "cut", "repeated")
"""Whole numbers that may be 0, as the epochs of any stage but ``integer`` may; the others are 1 or more."""
ABOVE_0 = ("learning_rate", "temperature", "bias_scale", "width")
"""How the names of real numbers end that may not be 0; the others may, and none is below it."""
SHARES = {"distil": "0 to 1", "label_smoothing": "0 to 1", "momentum": "0 to below 1", "dropout": "0 to below 1"}
LARGEST_SEED = 2**32 - 1

FIX = "correct the training configuration"


@dataclass(frozen=True)
class CodecConfig:
    """What the bundle says of itself. ``levels`` are symbols per level, ascending, no two of as many bytes; the last is all
    of them."""

    name: str
    codec_id: int
    dataset: str
    levels: tuple[int, ...]
    version: int = 1
    family: str = "weaklink"
    task: str = "label"
    blind_ber: float = 0.02


@dataclass(frozen=True)
class LearningConfig:
    """What every family's training has.

    ``distil`` is the share of the teacher's term in the loss, ``teacher_temperature`` its softening; ``views`` is the
    number of crops per image, fixed so that the teacher's logits are computed once; ``margin`` in pixels;
    ``validation`` images are held out; ``consistency`` weighs a term that ties noisy answers to clean ones;
    ``optimizer`` is adamw or muon.
    """

    batch: int = 100
    optimizer: str = "muon"
    weight_decay: float = 0.02
    views: int = 8
    margin: int = 4
    mirror: bool = True
    distil: float = 0.7
    teacher_temperature: float = 2.0
    label_smoothing: float = 0.0
    consistency: float = 0.0
    validation: int = 5000
    seed: int = 0


@dataclass(frozen=True)
class TrainingConfig(LearningConfig):
    """Epochs and learning rates of the stages (cosine to zero in each); ``learning_rate`` is that of ``float``.

    ``probe`` is the weight of the probe's loss in the stages ``float`` and ``integer``. ``bundle``, a bundle's name or folder:
    its encoder stands, and only the stage ``tail`` is trained, from its decoder and tail (families/weaklink_bundle.py).
    """

    trunk_epochs: int = 60
    float_epochs: int = 30
    integer_epochs: int = 10
    tail_epochs: int = 10
    trunk_learning_rate: float = 2e-2
    learning_rate: float = 6e-3
    integer_learning_rate: float = 5e-4
    tail_learning_rate: float = 8e-4
    probe: float = 0.3
    bundle: str = ""


def load_config(name: str):
    """Read a TOML file by path, or one of ours by name: its family's ``Config``.

    ``extends = "NAME"`` at the top of a file takes over another one, table by table and key by key, but for what the file
    itself says: variants and ablations say only what they change. Unknown keys and wrong types are refused by name.
    """
    raw = _read(name)
    codec = raw.get("codec")
    family = codec.get("family", CodecConfig.family) if isinstance(codec, dict) else CodecConfig.family
    config = _build(find_family(family).Config, raw, Path(name).name)
    channel = config.channel
    rest = {"bits_per_symbol": config.edge.bits, "ber_min": 0.0, "ber_max": channel.ber_max}
    if wrong := first_wrong({**vars(config.codec), **rest}) or wrong_channel(channel):
        problem, allowed = wrong
        raise ConfigError(problem, allowed=allowed, fix=FIX)
    if config.training.optimizer not in OPTIMIZERS:
        raise _wrong("training.optimizer", config.training.optimizer, ", ".join(OPTIMIZERS))
    if not config.codec.task or "." in config.codec.task:  # it names a part of the edge's network
        raise _wrong("codec.task", config.codec.task, "a name without a dot")
    for where, table in vars(config).items():
        if where not in ("codec", "channel"):
            _check_numbers(where, table)
    return config


def with_seed(config, seed: int):
    """The same training from another seed, under a name of its own. ConfigError: there is no such seed."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"--seed is {seed}", allowed=f"0 to {LARGEST_SEED}", fix="leave it out for the configuration's")
    codec = dataclasses.replace(config.codec, name=f"{config.codec.name}-seed{seed}")
    return dataclasses.replace(config, codec=codec, training=dataclasses.replace(config.training, seed=seed))


def _check_numbers(where: str, value: Any) -> None:
    """ConfigError: a number that nothing can be trained with, in a table, in its tables and lists."""
    key = where.rpartition(".")[2]
    least = 0 if key in MAY_BE_0 or (key.endswith("_epochs") and key != "integer_epochs") else 1
    if dataclasses.is_dataclass(value):
        for name, item in vars(value).items():
            _check_numbers(f"{where}.{name}", item)
    elif isinstance(value, tuple):
        for item in value:
            _check_numbers(where, item)
    elif key in SHARES and not (0 <= value < 1 or (value == 1 and SHARES[key] == "0 to 1")):
        raise _wrong(where, value, SHARES[key])
    elif type(value) is int and value < least:
        raise _wrong(where, value, f"{least} or more")
    elif key == "seed" and value > LARGEST_SEED:
        raise _wrong(where, value, f"0 to {LARGEST_SEED}")
    elif type(value) is float and not (0 < value < math.inf or (value == 0 and not key.endswith(ABOVE_0))):
        raise _wrong(where, value, "above 0" if key.endswith(ABOVE_0) else "0 or more")


def _read(name: str, extended: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file's tables over those that it extends. ConfigError: not readable, not TOML, or it extends itself."""
    path = Path(name) if name.endswith(".toml") else next((file for file in CONFIGS.rglob("*.toml") if file.stem == name), None)
    if path is None or not path.is_file():
        ours = ", ".join(sorted(file.stem for file in CONFIGS.rglob("*.toml")))
        raise NotFound(f"there is no training configuration {name!r}", allowed=f"a .toml file, or {ours}", fix="check the path")
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML ({error})", allowed="a TOML file", fix="correct that line") from error
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error})", allowed="a TOML file in UTF-8", fix="save it as UTF-8, or correct its owner"
        ) from error
    other = raw.pop("extends", None)
    if other is None:
        return raw
    if not isinstance(other, str) or name in extended:
        raise _wrong(f"{path.name}: extends", other, "the name of another configuration, or a .toml file")
    return _merged(_read(other, (*extended, name)), raw)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(under[key], over[key]) for key in under.keys() & over.keys() if isinstance(under[key], dict) and isinstance(over[key], dict)}
    return under | over | both


def as_table(config) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return dataclasses.asdict(config)


def _build(kind, value, where: str):
    """Turn a decoded TOML value into ``kind``: dataclasses, tuples of them, numbers, strings."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong(where, value, "a table")
        hints = typing.get_type_hints(kind)
        for name in value:
            if name not in hints:
                raise _wrong(f"{where}: key {name!r}", value[name], f"one of {', '.join(hints)}")
        required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
        for name in required:
            if name not in value:
                raise _wrong(f"{where}: key {name!r}", "missing", "a value")
        return kind(**{name: _build(hints[name], item, f"{where}: {name}") for name, item in value.items()})
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        return tuple(_build(typing.get_args(kind)[0], item, where) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _wrong(where, value, f"a value of type {kind.__name__}")
    return value


def _wrong(where: str, value: Any, allowed: str) -> ConfigError:
    return ConfigError(f"{where} is {value!r}", allowed=allowed, fix=FIX)
