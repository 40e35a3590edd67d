"""The training channel against what it says it does."""

import pytest
import torch

from semantic_codec.nn.channel import ChannelConfig, draw_ber, transmit

PLAIN = ChannelConfig(burst_share=0, erasure_share=0)


def test_flips_come_at_the_given_rate_and_only_within_the_prefix():
    generator = torch.Generator().manual_seed(0)
    signs = torch.where(torch.rand(4000, 64, generator=generator) < 0.5, 1.0, -1.0)
    ber = torch.tensor([0.0, 0.05]).repeat(2000)
    prefix = torch.tensor([64, 16]).repeat_interleave(2000)
    received = transmit(signs, ber, prefix, PLAIN, generator)
    flipped = received.signs != signs
    assert not flipped[0::2].any()
    assert flipped[1::2].float().mean() == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / 128_000) ** 0.5)
    assert received.known[:2000].all() and received.known[2000:, :16].all() and not received.known[2000:, 16:].any()
    assert (received.soft[2000:, 16:] == 0).all()
    assert received.soft.abs()[1, 0] == pytest.approx(0.9)


def test_bursts_keep_the_rate_and_come_in_runs():
    generator = torch.Generator().manual_seed(0)
    signs = torch.ones(3000, 256)
    ber = torch.full((3000,), 0.05)
    bursty = transmit(signs, ber, torch.full((3000,), 256), ChannelConfig(burst_share=1, erasure_share=0), generator)
    flips = bursty.signs < 0
    assert flips.float().mean() == pytest.approx(0.05, abs=0.004)
    together = (flips[:, 1:] & flips[:, :-1]).float().mean() / flips.float().mean()
    # Behind a flip the state stays bad with 15/16, and flips there with 1/2; independent flips would give 0.05.
    assert together == pytest.approx(15 / 32, abs=0.03)


def test_erasures_are_contiguous_runs_of_at_most_the_given_share():
    generator = torch.Generator().manual_seed(0)
    config = ChannelConfig(burst_share=0, erasure_share=1, erasure_max=0.3)
    received = transmit(torch.ones(500, 200), torch.zeros(500), torch.full((500,), 200), config, generator)
    lost = (~received.known).sum(1)
    assert 0 < lost.float().mean() and lost.max() <= 61
    edges = (received.known[:, 1:] != received.known[:, :-1]).sum(1)
    assert edges.max() <= 2


def test_bers_are_log_uniform_with_a_share_at_zero():
    ber = draw_ber(20_000, ChannelConfig(clean_share=0.3), torch.Generator().manual_seed(0))
    noisy = ber[ber > 0]
    assert (ber == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    assert noisy.min() >= 1e-3 and noisy.max() <= 0.25
    middle = torch.tensor([1e-3 * 0.25]).sqrt()
    assert (noisy < middle).float().mean() == pytest.approx(0.5, abs=0.02)


def test_bpsk_in_white_noise_has_the_published_error_rates():
    for snr_db, published in ((7.0, 7.7e-4), (-6.0, 0.239)):
        (ber,) = draw_ber(1, ChannelConfig(snr_db=(snr_db, snr_db), clean_share=0)).tolist()
        assert ber == pytest.approx(published, rel=0.02)


def test_the_gradient_passes_with_the_sign_that_arrived():
    signs = torch.ones(1, 64, requires_grad=True)
    received = transmit(signs, torch.tensor([0.25]), torch.tensor([64]), PLAIN, torch.Generator().manual_seed(1))
    received.soft.sum().backward()
    assert torch.equal(signs.grad, torch.where(received.signs > 0, 0.5, -0.5))
