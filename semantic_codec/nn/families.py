"""Which module holds a family's edge network: ``edge_network(manifest) -> nn.Module``, fresh, in the manifest's shapes.

A network maps ``soft`` float (B, bits), the posterior means of the received bits, and ``ber`` float (B,) to
``{task: logits float (B, classes)}``.
"""

from __future__ import annotations

from importlib import import_module

import safetensors.torch
from torch import nn

from semantic_codec.bundle import EDGE, Bundle
from semantic_codec.errors import BundleError

NETWORKS = {"weaklink": "semantic_codec.nn.edge"}


def load_edge_network(bundle: Bundle) -> nn.Module:
    """The bundle's network in float32 evaluation mode; :class:`BundleError` where weights and manifest do not fit."""
    manifest = bundle.manifest
    if manifest.family not in NETWORKS:
        raise BundleError(
            f"bundle {manifest.name} is of the family {manifest.family!r}", allowed=", ".join(NETWORKS),
            fix="update this node, or serve another codec",
        )  # fmt: skip
    try:
        network = import_module(NETWORKS[manifest.family]).edge_network(manifest)
        weights = safetensors.torch.load_file(bundle.folder / EDGE)
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise BundleError(
            f"{EDGE} does not fit the manifest ({error})",
            allowed="the weights that the manifest's edge, tasks and symbols describe",
            fix="export the bundle again",
        ) from error
    return network.eval().requires_grad_(False)
