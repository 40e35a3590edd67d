"""Channels that lose, cut, repeat and delay frames, against their theory and on a clock that the test holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from channel_emulator.channels import Transmission, create_channel

FRAMES = 20_000


def started(name, seed=0, **settings):
    channel = create_channel(name, **settings)
    channel.start(np.random.default_rng(seed))
    return channel


def within_five_sigma(hits: int, probability: float, trials: int) -> bool:
    return abs(hits - trials * probability) <= 5 * math.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize("probability", [0.0, 0.01, 0.3, 1.0])
def test_erasure_loses_its_share_of_frames(probability):
    channel = started("erasure", probability=probability)
    lost = sum(not channel.carry(Transmission(b"frame", 0.0)) for _ in range(FRAMES))
    assert within_five_sigma(lost, probability, FRAMES)
    assert channel.counts["frames"] == FRAMES and channel.counts["lost"] == lost


@pytest.mark.parametrize(
    ("settings", "kept"), [({"keep_fraction": 0.3}, 15), ({"keep_bytes": 7}, 7), ({"keep_bytes": 0}, 0)]
)
def test_truncation_keeps_the_beginning_of_its_share_of_frames(settings, kept):
    channel = started("truncation", probability=0.25, **settings)
    data = bytes(range(50))
    arrived = [channel.carry(Transmission(data, 0.0))[0].data for _ in range(FRAMES)]
    cut = [one for one in arrived if one != data]
    assert within_five_sigma(len(cut), 0.25, FRAMES)
    assert set(cut) == {data[:kept]}
    assert channel.counts["truncated"] == len(cut)


def test_truncation_leaves_a_frame_that_is_already_as_short():
    channel = started("truncation", probability=1.0, keep_bytes=10)
    assert channel.carry(Transmission(b"short", 0.0))[0].data == b"short"
    assert channel.counts["truncated"] == 0


def test_duplication_repeats_its_share_of_frames_after_the_gap():
    channel = started("duplication", probability=0.1, gap_ms=5)
    twice = 0
    for _ in range(FRAMES):
        first, *copies = channel.carry(Transmission(b"frame", 1.0))
        assert first.time == 1.0
        assert [(copy.data, copy.time) for copy in copies] in ([], [(b"frame", 1.005)])
        twice += len(copies)
    assert within_five_sigma(twice, 0.1, FRAMES)
    assert channel.counts["duplicated"] == twice


def test_reordering_lets_the_following_frames_overtake_its_share():
    channel = started("reordering", probability=0.2, hold_ms=25)
    times = [channel.carry(Transmission(b"", 0.01 * frame))[0].time for frame in range(FRAMES)]
    held = [frame for frame in range(FRAMES) if times[frame] > 0.01 * frame]
    assert within_five_sigma(len(held), 0.2, FRAMES)
    assert all(times[frame] == pytest.approx(0.01 * frame + 0.025) for frame in held)
    # The next frame, 10 ms later, overtakes a held one unless it is held itself.
    overtaken = sum(times[frame + 1] < times[frame] for frame in held[:-1])
    assert within_five_sigma(overtaken, 0.8, len(held) - 1)


@pytest.mark.parametrize(
    ("settings", "mean_ms", "sigma_ms", "low_ms", "high_ms"),
    [
        ({"delay_ms": 20}, 20, 0, 20, 20),
        ({"delay_ms": 20, "jitter_ms": 6}, 20, 6 / math.sqrt(3), 14, 26),
        ({"delay_ms": 50, "jitter_ms": 5, "distribution": "normal"}, 50, 5, 10, 90),
        ({"delay_ms": 10, "jitter_ms": 8, "distribution": "exponential"}, 18, 8, 10, 200),
    ],
    ids=["fixed", "uniform", "normal", "exponential"],
)
def test_delay_has_the_mean_and_spread_of_its_distribution(settings, mean_ms, sigma_ms, low_ms, high_ms):
    channel = started("delay", seed=1, **settings)
    delays = 1e3 * np.array([channel.carry(Transmission(b"", 0.0))[0].time for _ in range(FRAMES)])
    assert abs(delays.mean() - mean_ms) <= 5 * sigma_ms / math.sqrt(FRAMES) + 1e-9
    assert delays.std() == pytest.approx(sigma_ms, rel=0.05, abs=1e-9)
    assert low_ms - 1e-9 <= delays.min() and delays.max() <= high_ms + 1e-9


def test_delay_is_never_negative():
    channel = started("delay", delay_ms=1, jitter_ms=50, distribution="normal")
    assert min(channel.carry(Transmission(b"", 3.0))[0].time for _ in range(1000)) == 3.0


@pytest.mark.parametrize("keep_order", [True, False])
def test_delay_keeps_the_order_where_asked_to(keep_order):
    channel = started("delay", delay_ms=20, jitter_ms=15, keep_order=keep_order)
    times = [channel.carry(Transmission(b"", 0.001 * frame))[0].time for frame in range(500)]
    assert (times == sorted(times)) is keep_order


def test_rate_spaces_frames_by_their_length():
    channel = started("rate", bits_per_s=8000, overhead_bytes=5)
    times = [channel.carry(Transmission(bytes(length), 2.0))[0].time for length in (15, 45, 5)]
    assert times == pytest.approx([2.020, 2.070, 2.080])
    # An idle link sends at once.
    assert channel.carry(Transmission(bytes(5), 3.0))[0].time == pytest.approx(3.010)


def test_rate_drops_what_its_queue_cannot_hold():
    channel = started("rate", bits_per_s=8000, queue_frames=3)
    arrived = [len(channel.carry(Transmission(bytes(100), 0.0))) for _ in range(5)]
    assert arrived == [1, 1, 1, 0, 0]
    # After 0.1 s one frame has left, which makes room for one.
    assert [len(channel.carry(Transmission(bytes(100), 0.1))) for _ in range(2)] == [1, 0]
    assert channel.counts == {"frames": 7, "queue_full": 3}


def test_rate_says_from_when_on_it_has_room():
    channel = started("rate", bits_per_s=8000, queue_frames=3)
    for index in range(3):
        assert channel.room_at() == 0.0
        channel.carry(Transmission(bytes(10), 5.0))
    assert channel.room_at() == 5.01
    assert channel.carry(Transmission(bytes(10), 5.01)) and channel.room_at() == 5.02


def test_rate_passes_what_it_promises_in_the_long_run():
    channel = started("rate", bits_per_s=50_000, queue_frames=10)
    times = [one.time for frame in range(10_000) for one in channel.carry(Transmission(bytes(50), 0.001 * frame))]
    assert 8 * 50 * len(times) / times[-1] == pytest.approx(50_000, rel=1e-3)
