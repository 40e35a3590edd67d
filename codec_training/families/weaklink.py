"""The family ``weaklink``: integer encoder, binary latents, one encoder for all levels.

    uint8 image -> integer convolutions -> signs, or centers -> [flips, bursts, erasures, tail-drop] -> BER-aware blocks -> head
"""

from __future__ import annotations

import copy
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from codec_training.checkpoint import load_checkpoint
from codec_training.config import CodecConfig, TrainingConfig
from codec_training.datasets import Dataset
from codec_training.families import DeviceHalf, Trained
from codec_training.families.weaklink_bundle import check_bundle, open_bundle
from codec_training.families.weaklink_stages import CodecLoss, Heads, TrunkLoss, encoded, exported, trunk_validator, validator
from codec_training.fingerprints import check_stages, fingerprints
from codec_training.stages import Stage, annealed, epochs_of
from codec_training.teacher import TeacherConfig, shared_folder, train_teacher
from codec_training.views import Views
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import ENCODER
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import DAMAGED, EncoderProgram
from semantic_codec.errors import BundleError, ConfigError, NotFound
from semantic_codec.index_map import KINDS
from semantic_codec.nn.channel import ChannelConfig
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from semantic_codec.nn.encoder import EncoderConfig, FloatEncoder
from semantic_codec.nn.families import load_edge_network
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantized import QuantizedEncoder
from semantic_codec.nn.quantizer import symbol_signs, transmitted

STAGES = {
    "trunk": (),
    "float": ("training.float_", "training.learning_rate", "training.probe", "training.consistency", "channel."),
    "integer": ("training.integer_", "encoder.index_map"),
    "tail": ("training.tail_",),
}
"""The settings that no earlier stage depends on (fingerprints.py)."""

SHARPNESS = (4.0, 40.0)
"""Of the soft assignment to centers, at the beginning and end of the stage ``float``."""


@dataclass(frozen=True)
class Config:
    """One training run; without ``teacher`` nothing is distilled."""

    codec: CodecConfig
    encoder: EncoderConfig
    edge: EdgeConfig = field(default_factory=EdgeConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    teacher: TeacherConfig | None = None


def check_fit(config: Config, dataset: Dataset) -> None:
    """Refuse a configuration that does not fit its data set or itself."""
    if dataset.shape[:2] != (config.encoder.height, config.encoder.width):
        raise ConfigError(
            f"the encoder takes {config.encoder.height}x{config.encoder.width} images, {dataset.name} has "
            f"{dataset.shape[0]}x{dataset.shape[1]}",
            allowed="one size",
            fix="set [encoder] height and width to the data set's",
        )
    program = _exportable(config.encoder)
    if config.edge.grid and config.edge.grid != program.latent_shape[1:]:
        raise ConfigError(
            f"[edge] grid is {list(config.edge.grid)}, the encoder's last map is {list(program.latent_shape[1:])}",
            allowed="the same rows and columns, or no grid",
            fix="correct [edge] grid",
        )
    if config.encoder.bits != config.edge.bits or not 1 <= config.encoder.bits <= 4:
        raise ConfigError(
            f"[encoder] bits is {config.encoder.bits}, [edge] bits is {config.edge.bits}", allowed="the same, 1 to 4", fix="correct both"
        )
    if config.encoder.index_map not in KINDS:
        raise ConfigError(f"[encoder] index_map is {config.encoder.index_map!r}", allowed=", ".join(KINDS), fix="name one of these")
    planes, *sides = program.latent_shape
    positions = math.prod(sides)
    if not program.symbols - positions < config.codec.levels[-1] <= program.symbols:
        raise ConfigError(
            f"the encoder yields {program.symbols} symbols, the longest level has {config.codec.levels[-1]}",
            allowed=f"the same number, or fewer by less than a plane of {positions}",
            fix="correct [codec] levels or [encoder] latent_channels",
        )
    if config.encoder.repeated * positions != config.edge.repeated or not 0 <= config.encoder.repeated <= planes // 2:
        raise ConfigError(
            f"[encoder] repeated is {config.encoder.repeated}, [edge] repeated is {config.edge.repeated}",
            allowed=f"{positions} symbols at the edge for each plane, at most all planes", fix="correct both",
        )  # fmt: skip
    if config.encoder.repeated and (config.encoder.bits > 1 or config.codec.levels[-1] != program.symbols):
        raise ConfigError(
            f"[encoder] repeated is {config.encoder.repeated} with {config.encoder.bits} bits and {config.codec.levels[-1]} of "
            f"{program.symbols} symbols", allowed="signs, all of which are sent", fix="leave repeated out",
        )  # fmt: skip
    if config.training.bundle:
        check_bundle(open_bundle(config), program, config, dataset)


def _exportable(config: EncoderConfig) -> EncoderProgram:
    """The encoder before training. ConfigError: no device will run it."""
    try:
        return EncoderProgram.from_bytes(QuantizedEncoder(config).export().to_bytes())
    except (BundleError, struct.error) as error:
        problem, allowed = (error.problem, error.allowed) if isinstance(error, BundleError) else (str(error), "what encoder.bin has room for")
        raise ConfigError(f"[encoder]: {problem.removeprefix(DAMAGED)}", allowed=allowed, fix="correct [encoder]") from error


def build(config: Config, classes: int) -> tuple[FloatEncoder, Heads]:
    """Fresh networks from the seed; where symbols are centers, all share these."""
    torch.manual_seed(config.training.seed)
    encoder = FloatEncoder(config.encoder)
    bits, tasks = config.codec.levels[-1] * config.encoder.bits, {config.codec.task: classes}
    blind = config.edge.__class__(**{**vars(config.edge), "aware": False})
    probe = torch.nn.Linear(encoder.shapes[-1].inputs, classes)
    heads = Heads(EdgeNetwork(bits, tasks, config.edge), EdgeNetwork(bits, tasks, blind), probe)
    heads.aware.centers = heads.blind.centers = encoder.centers
    return encoder, heads.to(memory_format=torch.channels_last)


def train(config: Config, dataset: Dataset, folder: Path) -> None:
    """All stages; every stage resumes from ``folder`` and is skipped where it is complete."""
    training, prints = config.training, _prints(config, dataset)
    check_stages(config, folder, prints)
    views = Views(dataset.train, training)
    with SummaryWriter(folder / "tensorboard") as writer:
        if training.bundle:
            program, heads, teacher = _begun(config, dataset)
        else:
            (program, heads), teacher = _train_encoder(config, dataset, folder, views, writer, prints), None
        if training.tail_epochs:
            reference = IntegerReference(program)
            sent = _exported_signs(reference, torch.from_numpy(dataset.validation.images), config)
            Stage("tail", config, folder, {"heads": heads}, writer, prints["tail"]).run(
                training.tail_epochs, training.tail_learning_rate, len(views) // training.batch,
                exported(reference, views, config, teacher), CodecLoss(config, heads, twin=True),
                validator(heads, lambda: sent, dataset.validation, config, twin=True),
            )  # fmt: skip


def _train_encoder(config: Config, dataset: Dataset, folder: Path, views: Views, writer: SummaryWriter, prints: dict) -> tuple[EncoderProgram, Heads]:
    """The stages ``trunk``, ``float`` and ``integer``: the encoder as devices run it, and the heads so far."""
    training = config.training
    encoder, heads = build(config, len(dataset.classes))
    if config.teacher is not None and training.distil > 0:
        shared = shared_folder(dataset, config.teacher, folder, training.mirror)
        views.distil(train_teacher(dataset, config.teacher, shared, training.mirror), shared)
    steps = len(views) // training.batch
    held_out = torch.from_numpy(dataset.validation.images)
    encoder.to(memory_format=torch.channels_last)
    if training.trunk_epochs:
        Stage("trunk", config, folder, {"probe": heads.probe, "encoder": encoder}, writer, prints["trunk"]).run(
            training.trunk_epochs, training.trunk_learning_rate, steps, epochs_of(lambda batch: batch, views, config),
            TrunkLoss(encoder, heads.probe, training), trunk_validator(encoder, heads.probe, dataset.validation),
        )  # fmt: skip
    check = validator(heads, lambda: _signs(encoder, held_out, config), dataset.validation, config, twin=False)
    batches = encoded(encoder, views, config, half=True)
    if encoder.centers is not None:
        batches = annealed(batches, encoder.centers, training.float_epochs, SHARPNESS)
    Stage("float", config, folder, {"heads": heads, "encoder": encoder}, writer, prints["float"]).run(
        training.float_epochs, training.learning_rate, steps, batches, CodecLoss(config, heads, twin=False), check,
    )  # fmt: skip
    settle(config, encoder, dataset)
    if encoder.centers is not None:
        encoder.centers.sharpness = SHARPNESS[-1]  # also where the stage was finished before
    quantized = QuantizedEncoder.from_float(encoder, torch.from_numpy(dataset.train.images[:2000]))
    quantized.to(memory_format=torch.channels_last)
    heads.copy_to_twin()
    check = validator(heads, lambda: _signs(quantized, held_out, config), dataset.validation, config, twin=True)
    Stage("integer", config, folder, {"heads": heads, "encoder": quantized}, writer, prints["integer"]).run(
        training.integer_epochs, training.integer_learning_rate, steps,
        encoded(quantized, views, config, half=False), CodecLoss(config, heads, twin=True), check,
    )  # fmt: skip
    settle(config, quantized, dataset)
    # From here on the edge's values may leave the device's, whose thresholds stand.
    heads.aware.centers = heads.blind.centers = copy.deepcopy(quantized.centers)
    return quantized.export(), heads


def _begun(config: Config, dataset: Dataset) -> tuple[EncoderProgram, Heads, torch.nn.Module]:
    """What ``[training] bundle`` has, encoder and heads, and its network once more, which stays as it is and teaches."""
    bundle = open_bundle(config)
    _, heads = build(config, len(dataset.classes))
    teacher = load_edge_network(bundle)
    heads.aware.load_state_dict(teacher.state_dict())
    heads.copy_to_twin()
    return EncoderProgram.from_bytes(bundle.encoder_bin), heads, teacher


def _prints(config: Config, dataset: Dataset) -> dict[str, dict]:
    """The stages' fingerprints; behind a bundle there is one stage, which depends on the bundle's files as well."""
    prints = fingerprints(config, dataset, STAGES)
    return {"tail": prints["tail"] | {"bundle": open_bundle(config).manifest.files}} if config.training.bundle else prints


def load_networks(folder: Path, config: Config, dataset: Dataset) -> tuple[QuantizedEncoder, Heads]:
    """The trained encoder and heads of a finished run; NotFound where it is not finished, ConfigError where it is another."""
    encoder, heads, prints = QuantizedEncoder(config.encoder), build(config, len(dataset.classes))[1], _prints(config, dataset)
    _load_finished(folder, config, "integer", prints, encoder=encoder, heads=heads)
    if config.training.tail_epochs:
        _load_finished(folder, config, "tail", prints, heads=heads)
    if encoder.centers is not None:
        encoder.centers.adopt(heads.aware.centers)
    return encoder, heads.eval()


def _load_finished(folder: Path, config: Config, stage: str, prints: dict, **parts) -> None:
    done, wanted = load_checkpoint(folder / stage, prints[stage], **parts), getattr(config.training, f"{stage}_epochs")
    if done != wanted:
        raise NotFound(
            f"{folder} holds {done} {stage} epochs", allowed=f"{wanted}, a finished run", fix="run `weaklink train` with this configuration and the same --runs"
        )


def load_run(folder: Path, config: Config, dataset: Dataset) -> Trained:
    """A finished run, with the blind twin beside the codec."""
    notes = {}
    if config.training.bundle:
        program, heads, _ = _begun(config, dataset)
        _load_finished(folder, config, "tail", _prints(config, dataset), heads=heads)
        notes["bundle"] = open_bundle(config).manifest.training
    else:
        encoder, heads = load_networks(folder, config, dataset)
        program = encoder.export()
    device = DeviceHalf(
        ENCODER,
        program.to_bytes(),
        lambda images: encode_split(program, images, config.codec.levels[-1]),
        program.height,
        program.width,
        config.codec.levels[-1],
        program.latent_shape,
        program.bits_per_symbol,
        program.macs,
        sum(layer.weights.size for layer in program.layers),
        "none; pixel - 128 is the first layer's",
    )
    return Trained(device, {"": heads.aware, "-blind": heads.blind}, notes)


def encode_split(program: EncoderProgram, images: np.ndarray, sent: int) -> np.ndarray:
    """Bitstreams of the first ``sent`` symbols, uint8 (N, bytes), the same from PyTorch and from NumPy, else :class:`BundleError`."""
    reference = IntegerReference(program)
    symbols = torch.cat([reference(part) for part in torch.from_numpy(images).split(1000)]).numpy()
    other = IntegerEncoder(EncoderProgram.from_bytes(program.to_bytes())).encode(images)
    differing = int((symbols != other).sum())
    if differing:
        raise BundleError(f"PyTorch and NumPy differ in {differing} symbols", allowed="none", fix="report this as a fault")
    return pack_symbols(symbols[:, :sent], program.bits_per_symbol)


def settle(config: Config, encoder: FloatEncoder | QuantizedEncoder, dataset: Dataset) -> None:
    """Where symbols are centers: sort these and choose their index map, on the first training images."""
    if encoder.centers is not None:
        images = torch.from_numpy(dataset.train.images[:2000])
        with torch.no_grad():
            latents = torch.cat([encoder.eval()(part) for part in images.split(1000)])
        encoder.centers.settle(latents, config.encoder.index_map, config.training.seed)


def _exported_signs(reference: IntegerReference, images: torch.Tensor, config: Config) -> torch.Tensor:
    symbols = torch.cat([reference(part) for part in images.split(1000)])
    return symbol_signs(symbols[:, : config.codec.levels[-1]], config.encoder.bits)


@torch.no_grad()
def _signs(encoder: torch.nn.Module, images: torch.Tensor, config: Config) -> torch.Tensor:
    encoder.eval()
    return torch.cat([transmitted(encoder(part), encoder.centers, config.codec.levels[-1])[0] for part in images.split(1000)])
