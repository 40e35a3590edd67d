"""Training of the families that cut one of torchvision's networks in two (nn/split_codec.py), on true bit flips.

    base         the uncompressed network, which is then cut in two
    attention    the base with an encoder's channel attention in it, by which that chooses what it sends
    autoencoder  encoder, centers and decoder restore the features behind the base's head, through the channel
    task         the same for the task, the base as it is
    joint        the same, the base along with it
    tail         decoder and tail alone, on the symbols that the device sends

A stage of 0 epochs is left out. After ``autoencoder``, ``task`` and ``joint`` the index map is chosen for the centers and their
usage as they are then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from codec_training.checkpoint import load_checkpoint, reading
from codec_training.config import CodecConfig, LearningConfig
from codec_training.datasets import Dataset, Split
from codec_training.families import DeviceHalf, Trained
from codec_training.families.frozen import frozen
from codec_training.families.split_stages import AutoencoderLoss, TailLoss, TaskLoss, base_accuracy, codec_accuracy, count_macs
from codec_training.fingerprints import check_stages, fingerprints
from codec_training.stages import Stage, annealed, epochs_of, task_loss
from codec_training.teacher import TeacherConfig, shared_folder, train_teacher
from codec_training.views import Views
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import REFERENCE
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.index_map import KINDS
from semantic_codec.nn.aecnn import Attended, ChannelSelection
from semantic_codec.nn.backbones import DENSE
from semantic_codec.nn.channel import ChannelConfig
from semantic_codec.nn.encoder import pixels
from semantic_codec.nn.families import encode_in_floats
from semantic_codec.nn.precision import in_half
from semantic_codec.nn.split_codec import Device, SplitEdge, build

SETTLING_IMAGES = 2000
STAGES = {
    "base": ("edge.backbone", "edge.width"),
    "attention": ("codec.", "edge.", "training.attention_", "training.joint_learning_rate"),
    "autoencoder": (
        "training.autoencoder_", "training.learning_rate", "training.weight_decay", "training.sharpness", "training.recipe", "channel.",
    ),
    "task": (
        "training.task_", "training.attribution", "training.attribution_", "training.usage", "training.features", "training.consistency",
        "training.index_map",
    ),
    "joint": ("training.joint_",),
    "tail": ("training.tail_",),
}  # fmt: skip
"""The settings that no earlier stage depends on (fingerprints.py)."""


@dataclass(frozen=True)
class SplitTraining(LearningConfig):
    """Epochs and learning rates of the stages; ``attribution``, ``usage`` and ``features`` weigh terms of the loss:
    even attributions (attribution.py), even use of the centers, and features like those in front of the encoder. Attributions
    cost many times a step: they are those of the first ``attribution_images`` of each batch, on average as good as of all.

    ``weights`` is a file of torchvision's weights for the base to start from, without its classifier. ``index_map`` is
    searched, natural, gray or random. ``sharpness`` of the soft assignment at the beginning and end of ``autoencoder``.
    """

    weights: str = ""
    base_epochs: int = 40
    attention_epochs: int = 0
    autoencoder_epochs: int = 20
    task_epochs: int = 20
    joint_epochs: int = 0
    tail_epochs: int = 0
    base_learning_rate: float = 2e-2
    learning_rate: float = 6e-3
    task_learning_rate: float = 2e-3
    joint_learning_rate: float = 6e-3
    tail_learning_rate: float = 8e-4
    base_weight_decay: float = 0.02
    weight_decay: float = 0.0
    distil: float = 0.0
    attribution: float = 0.0
    attribution_images: int = 16
    usage: float = 0.0
    features: float = 0.0
    index_map: str = "searched"
    sharpness: tuple[float, ...] = (4.0, 40.0)


@dataclass(frozen=True)
class SplitConfig:
    """One training run; a family adds ``edge``, the architecture with the device's half, and ``training``. Height and width
    are the data set's."""

    codec: CodecConfig
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    teacher: TeacherConfig | None = None


def check_fit(config, dataset: Dataset) -> None:
    """Refuse a configuration that does not fit its data set or itself."""
    training = config.training
    if training.index_map not in KINDS:
        raise ConfigError(f"[training] index_map is {training.index_map!r}", allowed=", ".join(KINDS), fix="name one of these")
    if len(training.sharpness) != 2 or min(training.sharpness) <= 0:
        raise ConfigError(f"[training] sharpness is {list(training.sharpness)}", allowed="two numbers above 0", fix="give both")
    _, device, edge = _build(config, dataset)
    if training.attention_epochs and not isinstance(device.encoder, ChannelSelection):
        raise ConfigError(
            f"[training] attention_epochs is {training.attention_epochs}", allowed="0 for an encoder that chooses no channels",
            fix="leave it out",
        )  # fmt: skip
    symbols = int(np.prod(edge.latent_shape))
    if config.codec.levels != (symbols,):
        raise ConfigError(
            f"[codec] levels are {list(config.codec.levels)}", allowed=f"[{symbols}]: all symbols, there is no shorter prefix",
            fix="correct [codec] levels",
        )  # fmt: skip


def train(config, dataset: Dataset, folder: Path) -> None:
    """All stages; every stage resumes from ``folder`` and is skipped where it is complete."""
    training, prints = config.training, fingerprints(config, dataset, STAGES)
    check_stages(config, folder, prints)
    base, device, edge = _build(config, dataset)
    if training.weights:
        load_weights(base, training.weights)
    for module in (base, device, edge):
        module.to(memory_format=torch.channels_last)
    views = Views(dataset.train, training)
    if config.teacher is not None and training.distil > 0:
        shared = shared_folder(dataset, config.teacher, folder, training.mirror)
        views.distil(train_teacher(dataset, config.teacher, shared, training.mirror), shared)
    held_out, steps = dataset.validation, len(views) // training.batch
    batches = epochs_of(lambda batch: batch, views, config)
    parts = stage_parts(base, device, edge)
    with SummaryWriter(folder / "tensorboard") as writer:
        Stage("base", config, folder, parts["base"], writer, prints["base"], training.base_weight_decay).run(
            training.base_epochs, training.base_learning_rate, steps, batches,
            lambda batch: task_loss(answer(base, pixels(batch.images), config), batch, training), lambda: base_accuracy(base, held_out),
        )  # fmt: skip
        if training.attention_epochs:
            attended = Attended(device.head, device.encoder, edge.tail)
            Stage("attention", config, folder, parts["attention"], writer, prints["attention"], training.base_weight_decay).run(
                training.attention_epochs, training.joint_learning_rate, steps, batches,
                lambda batch: task_loss(attended(pixels(batch.images)), batch, training), lambda: base_accuracy(attended, held_out),
            )  # fmt: skip
            device.encoder.choose(_features(device, dataset.train))
        base.eval().requires_grad_(False)
        check = codec_accuracy(device, edge, held_out)
        if training.autoencoder_epochs:
            Stage("autoencoder", config, folder, parts["autoencoder"], writer, prints["autoencoder"]).run(
                training.autoencoder_epochs, training.learning_rate, steps,
                annealed(batches, device.centers, training.autoencoder_epochs, training.sharpness),
                AutoencoderLoss(config, device, edge), check,
            )  # fmt: skip
            settle(config, dataset.train, device)
        device.centers.sharpness = training.sharpness[-1]
        for stage, rate in (("task", training.task_learning_rate), ("joint", training.joint_learning_rate)):
            epochs = getattr(training, f"{stage}_epochs")
            if epochs:
                base.requires_grad_(stage == "joint")
                loss = TaskLoss(config, device, edge, None if stage == "joint" else frozen(edge.tail))
                Stage(stage, config, folder, parts[stage], writer, prints[stage]).run(epochs, rate, steps, batches, loss, check)
                settle(config, dataset.train, device)
        if training.tail_epochs:
            base.requires_grad_(True)
            device.eval().requires_grad_(False)
            Stage("tail", config, folder, parts["tail"], writer, prints["tail"]).run(
                training.tail_epochs, training.tail_learning_rate, steps, batches, TailLoss(config, device, edge), check
            )


def load_run(folder: Path, config, dataset: Dataset) -> Trained:
    """A finished run; its notes tell the accuracy of the uncompressed base on the test split."""
    training, prints = config.training, fingerprints(config, dataset, STAGES)
    base, device, edge = _build(config, dataset)
    if training.weights:
        load_weights(base, training.weights)
    parts = stage_parts(base, device, edge)
    notes = {}
    for stage in STAGES:
        wanted = getattr(training, f"{stage}_epochs")
        done = load_checkpoint(folder / stage, prints[stage], **parts[stage]) if wanted else 0
        if done != wanted:
            raise NotFound(
                f"{folder / stage} holds {done} epochs", allowed=f"{wanted}, a finished run", fix="run `weaklink train` with this configuration and the same --runs"
            )
        if stage == "base":
            notes["base_accuracy_percent"] = round(base_accuracy(base, dataset.test)["base"], 3)
            base.eval()
        elif stage not in ("attention", "tail") and wanted:
            settle(config, dataset.train, device)
    device.eval()
    weights = {name: tensor.detach().contiguous() for name, tensor in device.state_dict().items()}
    height, width = dataset.shape[:2]
    half = DeviceHalf(
        REFERENCE,
        safetensors.torch.save(weights),
        lambda images: pack_symbols(encode_in_floats(device, images), config.edge.bits),
        height,
        width,
        int(np.prod(edge.latent_shape)),
        edge.latent_shape,
        config.edge.bits,
        count_macs(device, height, width),
        sum(parameter.numel() for parameter in device.parameters()),
        "none; (pixel - 128) / 64 in floats",
    )
    return Trained(half, {"": edge.eval()}, notes)


def stage_parts(base: nn.Module, device: Device, edge: SplitEdge) -> dict[str, dict[str, nn.Module]]:
    """What each stage trains, by the names under which its checkpoint keeps it."""
    codec = nn.ModuleDict({"encoder": device.encoder, "centers": device.centers, "decoder": edge.decoder})
    return {
        "base": {"base": base},
        "attention": {"base": base, "encoder": device.encoder},
        "autoencoder": {"codec": codec},
        "task": {"codec": codec},
        "joint": {"codec": codec, "base": base},
        "tail": {"decoder": edge.decoder, "tail": edge.tail},
    }


def answer(base: nn.Module, x: torch.Tensor, config) -> torch.Tensor:
    """The base's answer, in bfloat16 where that is faster: never through depthwise convolutions, whose backward is slow."""
    with in_half(config.edge.backbone in DENSE):
        return base(x)


@torch.no_grad()
def settle(config, split: Split, device: Device) -> None:
    """Sort the centers and choose their index map, on the first training images."""
    latents = device.eval().encoder(_features(device, split))
    device.centers.settle(latents, config.training.index_map, config.training.seed)


@torch.no_grad()
def _features(device: Device, split: Split) -> torch.Tensor:
    """Of the first training images, in front of the encoder."""
    images = torch.from_numpy(split.images[:SETTLING_IMAGES])
    return torch.cat([device.eval().head(pixels(part)) for part in images.split(500)])


def load_weights(base: nn.Module, path: str) -> None:
    """Torchvision's weights from a file, read without unpickling code; the classifier stays fresh."""
    if not Path(path).is_file():
        raise NotFound(f"there is no file {path}", allowed="torchvision's weights as .pth", fix="correct [training] weights")
    with reading(Path(path), fix="fetch it again, or correct [training] weights"):
        stored = {name: value for name, value in torch.load(path, weights_only=True).items() if not name.startswith(("fc.", "classifier."))}
    try:
        absent, unknown = base.load_state_dict(stored, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not fit the base ({error})", allowed="weights of that backbone and width", fix="use those") from error
    unfilled = [name for name in absent if not name.startswith(("fc.", "classifier."))]
    if unfilled or unknown:
        raise ConfigError(f"{path} lacks {unfilled} and has {unknown} besides", allowed="weights of that backbone", fix="use those")


def _build(config, dataset: Dataset) -> tuple[nn.Module, Device, SplitEdge]:
    torch.manual_seed(config.training.seed)
    return build(*dataset.shape[:2], len(dataset.classes), config.codec.task, config.edge)
