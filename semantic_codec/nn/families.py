"""Which module holds a family's networks, fresh and in a manifest's shapes.

    edge_network(manifest)        ``soft`` float (B, bits), the posterior means of the received bits, and ``ber`` float (B,)
                                  to ``{task: logits float (B, classes)}``
    reference_encoder(manifest)   only where the device's half is a reference in floats: ``symbols(images)`` gives
                                  uint8 (B, N) of uint8 (B, H, W, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import safetensors.torch
import torch
from torch import nn

from semantic_codec.bundle import EDGE, REFERENCE, Bundle
from semantic_codec.errors import BundleError

NETWORKS = {
    "weaklink": "semantic_codec.nn.edge",
    "semanticnn": "semantic_codec.nn.semanticnn",
    "adjscc": "semantic_codec.nn.adjscc",
    "bottlenetpp": "semantic_codec.nn.bottlenetpp",
    "deepcod": "semantic_codec.nn.deepcod",
    "aecnn": "semantic_codec.nn.aecnn",
}


def load_edge_network(bundle: Bundle) -> nn.Module:
    """The bundle's network in float32 evaluation mode; :class:`BundleError` where weights and manifest do not fit."""
    return _load(bundle, EDGE, bundle.edge_data, lambda module: module.edge_network(bundle.manifest))


def load_reference_encoder(bundle: Bundle) -> nn.Module:
    """The device's half in floats of a bundle that has no ``encoder.bin``; :class:`BundleError` as above."""
    return _load(bundle, REFERENCE, bundle.encoder_data, lambda module: module.reference_encoder(bundle.manifest))


@torch.inference_mode()
def encode_in_floats(device: nn.Module, images: np.ndarray, chunk: int = 500) -> np.ndarray:
    """uint8 (N, H, W, 3) -> symbols uint8 (N, n). Another machine's rounding may yield another symbol now and then."""
    return torch.cat([device.eval().symbols(part) for part in torch.from_numpy(images).split(chunk)]).numpy()


def _load(bundle: Bundle, name: str, weights: bytes, make: Callable) -> nn.Module:
    family = bundle.manifest.family
    if family not in NETWORKS:
        raise BundleError(
            f"bundle {bundle.manifest.name} is of the family {family!r}", allowed=", ".join(NETWORKS),
            fix="update this node, or serve another codec",
        )  # fmt: skip
    try:
        return _filled(make(import_module(NETWORKS[family])), weights)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"the family {family!r} needs the package {error.name!r}, which is not installed", allowed="what the extra train brings",
            fix=f"pip install {error.name}",
        ) from error  # fmt: skip
    except (TypeError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise BundleError(
            f"{name} does not fit the manifest ({error})",
            allowed="the weights that the manifest's edge, tasks and symbols describe",
            fix="export the bundle again",
        ) from error


def _filled(network: nn.Module, weights: bytes) -> nn.Module:
    tensors = safetensors.torch.load(weights)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval().requires_grad_(False)
