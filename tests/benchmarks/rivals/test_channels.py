import numpy as np
import pytest

from benchmarks.rivals.channels import BERS, CONDITIONS, Condition
from codec_training.flips import flipped


def test_flips_are_those_of_the_evaluation():
    flips, erased = Condition("bsc", 0.05).draw(20, 256, 256, 3, 1)
    assert (flips == flipped(np.zeros((20, 256), np.uint8), 0.05, 3, 1)).all() and not erased.any()


def test_a_shorter_payload_has_the_flips_of_its_prefix():
    long, short = (Condition("bsc", 0.05).draw(20, bits, 256, 3, 1)[0] for bits in (256, 64))
    assert (long[:, :64] == short).all()


@pytest.mark.parametrize("ber", [1e-2, 5e-2, 0.2])
def test_bursts_have_the_mean_ber_and_are_not_independent(ber):
    flips, erased = Condition("bursts", ber).draw(3000, 128, 128, 0, 0)
    assert flips.mean() == pytest.approx(ber, rel=0.15) and not erased.any()
    per_frame = flips.sum(axis=1)
    assert per_frame.var() > 3 * 128 * ber * (1 - ber)


def test_lost_bytes_are_scattered_over_the_payload():
    flips, erased = Condition("erasures", erased=0.2).draw(2000, 256, 256, 0, 0)
    assert erased.mean() == pytest.approx(0.2, abs=0.01) and not flips.any()
    neighbours = (erased[:, 1:] & erased[:, :-1]).mean()
    assert neighbours < 0.2 * 0.5


def test_the_grid_holds_every_channel():
    assert [condition.ber for condition in CONDITIONS if condition.channel == "bsc"] == list(BERS)
    assert {condition.channel for condition in CONDITIONS} == {"bsc", "bursts", "erasures"}


def test_without_interleaving_the_bits_of_a_burst_stay_together():
    spread, together = (Condition("bursts", 0.05, burst_bits=32, interleaved=way).draw(1000, 256, 256, 0, 0)[0] for way in (True, False))
    assert together.mean() == pytest.approx(spread.mean(), rel=0.1)
    assert (together[:, 1:] & together[:, :-1]).mean() > 3 * (spread[:, 1:] & spread[:, :-1]).mean()
