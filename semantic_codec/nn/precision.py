"""Where bfloat16 is faster than float32: on processors that multiply it at a higher rate. Others emulate it, several times slower."""

from __future__ import annotations

import torch


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32: with AMX, Arm's BF16, or AVX512-BF16 of another maker than Intel.

    AVX512-BF16 makes the networks of `cifar10` 1.7 times as fast on an AMD EPYC, but takes 1.3 times as long as float32 on an
    Intel Xeon that hides its AMX (`weaklink bench runtimes`).
    """
    known = torch.cpu.get_capabilities()
    avx512 = known.get("avx512_bf16") and not known.get("cpu_name", "").startswith("Intel")
    return bool(known.get("amx_bf16") or known.get("bf16") or avx512)


def in_half(enabled: bool = True) -> torch.autocast:
    """A context in which matrix products and convolutions on the CPU are in bfloat16, where that is faster."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and multiplies_bfloat16())
