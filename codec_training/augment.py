"""Augmentation on whole uint8 batches: one gather per batch, no per-image Python."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def pad_reflect(images: torch.Tensor, margin: int) -> torch.Tensor:
    """Reflect-pad ``uint8 (N, H, W, C)`` by ``margin`` pixels on each side, once for the whole data set."""
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (margin,) * 4, mode="reflect")
    return padded.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def crop(padded: torch.Tensor, offsets: torch.Tensor, mirrored: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut one window out of each padded image and mirror it where asked.

    ``padded`` uint8 (B, H+2m, W+2m, C); ``offsets`` int64 (B, 2) rows and columns; ``mirrored`` bool (B,).
    Returns uint8 (B, H, W, C).
    """
    height, width = size
    rows = offsets[:, :1] + torch.arange(height)
    columns = torch.arange(width).expand(len(padded), -1)
    columns = offsets[:, 1:] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    batch = torch.arange(len(padded))[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]]
