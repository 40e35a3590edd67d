"""Channel models, one file each. `create_channel("bsc", ber=0.01)` builds one by its name."""

from __future__ import annotations

from channel_emulator.channels import (  # noqa: F401  importing a module registers its channel
    awgn,
    bsc,
    byte_insertion,
    byte_loss,
    delay,
    duplication,
    erasure,
    gilbert_elliott,
    rate,
    reordering,
    trace,
    truncation,
)
from channel_emulator.channels.base import BitChannel, Channel, Transmission
from channel_emulator.channels.registry import CHANNELS, channel_settings, create_channel

__all__ = ["CHANNELS", "BitChannel", "Channel", "Transmission", "channel_settings", "create_channel"]
