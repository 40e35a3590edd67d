"""Where bfloat16 is faster than float32: on processors that multiply it. Others emulate it, several times slower."""

from __future__ import annotations

import torch


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def in_half(enabled: bool = True) -> torch.autocast:
    """A context in which matrix products and convolutions on the CPU are in bfloat16, where that is faster."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and multiplies_bfloat16())
