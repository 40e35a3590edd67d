"""The channel that codecs are trained through: true bit flips on the true bits, then erasures and a cut prefix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ChannelConfig:
    """Per sample: BER 0 with probability ``clean_share``, else log-uniform in ``ber_min``..``ber_max``.

    A share ``burst_share`` of the noisy samples has its flips in bursts (bad state BER 0.5, mean length
    ``burst_bits``); a share ``erasure_share`` of all samples loses one contiguous run of up to ``erasure_max`` of its bits.
    ``snr_db``, where two values are given: the BER is that of BPSK in white noise, erfc(sqrt(SNR)) / 2, at a signal-to-noise
    ratio that is uniform between them in dB.
    """

    ber_min: float = 1e-3
    ber_max: float = 0.25
    clean_share: float = 0.3
    burst_share: float = 0.1
    burst_bits: float = 16.0
    erasure_share: float = 0.1
    erasure_max: float = 0.3
    snr_db: tuple[float, ...] = ()


def wrong_channel(config: ChannelConfig) -> tuple[str, str] | None:
    """The first value that no channel can have, and what is allowed; None where all may stand."""
    shares = [(name, getattr(config, name)) for name in ("clean_share", "burst_share", "erasure_share", "erasure_max")]
    for holds, problem, allowed in (
        # A logarithm is taken of it; images without a flip are what clean_share is for.
        (0 < config.ber_min <= config.ber_max, f"[channel] ber_min is {config.ber_min}", f"above 0, at most ber_max, {config.ber_max}"),
        *((0 <= share <= 1, f"[channel] {name} is {share}", "0 to 1") for name, share in shares),
        (config.burst_bits >= 1, f"[channel] burst_bits is {config.burst_bits}", "1 or more"),
        # Shorter bursts cannot come so often that their bits make up ber_max.
        (2 * config.ber_max <= 1 - 1 / max(config.burst_bits, 1) or not config.burst_share,
         f"[channel] burst_bits is {config.burst_bits}", f"1 / (1 - 2 ber_max) and more: ber_max is {config.ber_max}"),
        (len(config.snr_db) in (0, 2) and all(map(math.isfinite, config.snr_db)),
         f"[channel] snr_db is {list(config.snr_db)}", "two numbers in dB, or none"),
    ):
        if not holds:
            return problem, allowed
    return None


@dataclass
class Received:
    """What the decoder gets: ``signs`` float (B, n) of +-1 after flips, ``ber`` float (B,), ``known`` bool (B, n)."""

    signs: torch.Tensor
    ber: torch.Tensor
    known: torch.Tensor

    @property
    def soft(self) -> torch.Tensor:
        """Posterior means (1 - 2p) r, 0 where erased or beyond the prefix."""
        return self.signs * (1 - 2 * self.ber)[:, None] * self.known


def draw_ber(count: int, config: ChannelConfig, generator: torch.Generator | None = None) -> torch.Tensor:
    """Bit error rates float (count,)."""
    share = torch.rand(count, generator=generator)
    if config.snr_db:
        low, high = config.snr_db
        ber = torch.erfc(10 ** ((low + (high - low) * share) / 20)) / 2
    else:
        low, high = torch.log(torch.tensor([config.ber_min, config.ber_max]))
        ber = torch.exp(low + (high - low) * share)
    return torch.where(torch.rand(count, generator=generator) < config.clean_share, 0.0, ber)


def transmit(
    signs: torch.Tensor,
    ber: torch.Tensor,
    prefix: torch.Tensor,
    config: ChannelConfig,
    generator: torch.Generator | None = None,
) -> Received:
    """Send ``signs`` float (B, n) of +-1 at ``ber`` (B,), keeping the first ``prefix`` (B,) bits.

    Flips multiply by -1, so the gradient passes with the sign that arrived.
    """
    count, bits = signs.shape
    flips = torch.rand(count, bits, generator=generator) < ber[:, None]
    bursty = torch.rand(count, generator=generator) < config.burst_share
    if bursty.any():
        flips[bursty] = _burst_flips(ber[bursty], bits, config.burst_bits, generator)
    known = torch.arange(bits) < prefix[:, None]
    start = torch.rand(count, generator=generator) * prefix
    length = torch.rand(count, generator=generator) * config.erasure_max * prefix
    length = torch.where(torch.rand(count, generator=generator) < config.erasure_share, length, 0.0)
    position = torch.arange(bits)
    known &= ~((position >= start[:, None]) & (position < (start + length)[:, None]))
    return Received(torch.where(flips, -signs, signs), ber, known)


def _burst_flips(ber: torch.Tensor, bits: int, length: float, generator) -> torch.Tensor:
    """Gilbert-Elliott flips, bool (B, bits): flips at 0.5 in a bad state of mean ``length``, none in the good one."""
    bad_share = (2 * ber).clamp(max=0.95)
    leave = 1 / length
    enter = (leave * bad_share / (1 - bad_share)).clamp(max=1 - leave)
    draws = torch.rand(len(ber), bits, generator=generator)
    begins, ends = draws > 1 - enter[:, None], draws < leave
    # A draw makes either state bad, makes it good, or leaves it: the state is what the last draw that led anywhere made it.
    # The first bit's is drawn from the stationary distribution.
    begins[:, 0] = draws[:, 0] < bad_share
    ends[:, 0] = ~begins[:, 0]
    last = torch.where(begins | ends, torch.arange(bits), 0).cummax(1).values
    return begins.gather(1, last) & (torch.rand(len(ber), bits, generator=generator) < 0.5)
