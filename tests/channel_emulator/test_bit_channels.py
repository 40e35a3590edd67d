"""Every bit channel against its theory, by Monte-Carlo within five standard deviations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel_emulator.channels import Transmission, create_channel
from channel_emulator.channels.awgn import bpsk_ber

FRAMES, BITS = 2_000, 400
BIT_CHANNELS = [
    {"channel": "bsc", "ber": 0.05},
    {"channel": "awgn", "snr_db": 2.0},
    {"channel": "gilbert_elliott", "p": 0.002, "r": 0.0625, "one_minus_h": 0.5, "one_minus_k": 0.001},
    {"channel": "gilbert_elliott", "p": 0.9, "r": 0.7},
    {"channel": "trace", "points": [[0, 0.01], [1, 0.2]]},
]


def make(spec):
    return create_channel(spec["channel"], **{key: value for key, value in spec.items() if key != "channel"})


def five_sigma(ber: float, bits: int) -> float:
    return 5 * math.sqrt(ber * (1 - ber) / bits)


@pytest.mark.parametrize("ber", [0.0, 1e-3, 0.05, 0.5])
def test_bsc_flips_each_bit_with_its_ber(ber):
    mask = create_channel("bsc", ber=ber).flip_mask(FRAMES, BITS, np.random.default_rng(1))
    assert mask.shape == (FRAMES, BITS) and mask.dtype == bool
    assert abs(mask.mean() - ber) <= five_sigma(ber, mask.size)
    # No place in the frame is favoured.
    assert np.all(np.abs(mask.mean(axis=0) - ber) <= five_sigma(ber, FRAMES))


def test_bsc_flips_at_a_lower_ber_are_among_those_at_a_higher_one():
    low = create_channel("bsc", ber=0.01).flip_mask(100, BITS, np.random.default_rng(2))
    high = create_channel("bsc", ber=0.1).flip_mask(100, BITS, np.random.default_rng(2))
    assert low.any() and not np.any(low & ~high)


@pytest.mark.parametrize(("snr_db", "ber"), [(-6.0, 0.2392), (0.0, 0.0786), (4.0, 0.01250), (7.0, 7.73e-4)])
def test_awgn_has_the_textbook_ber_of_bpsk(snr_db, ber):
    assert bpsk_ber(snr_db) == pytest.approx(ber, rel=2e-3)
    mask = create_channel("awgn", snr_db=snr_db).flip_mask(FRAMES, BITS, np.random.default_rng(3))
    assert abs(mask.mean() - bpsk_ber(snr_db)) <= five_sigma(bpsk_ber(snr_db), mask.size)


def test_awgn_is_what_a_noisy_bpsk_receiver_decides():
    snr_db, bits = 1.0, 400_000
    noise = np.random.default_rng(4).normal(0.0, math.sqrt(0.5 / 10 ** (snr_db / 10)), bits)
    assert abs(np.mean(1.0 + noise < 0) - bpsk_ber(snr_db)) <= five_sigma(bpsk_ber(snr_db), bits)


@pytest.mark.parametrize(
    ("p", "r", "one_minus_h", "one_minus_k"),
    [(0.000631, 0.0625, 1.0, 0.0), (0.01, 0.1, 0.5, 0.001), (0.3, 0.2, 0.9, 0.1), (0.9, 0.7, 1.0, 0.0)],
)
def test_gilbert_elliott_has_its_mean_ber(p, r, one_minus_h, one_minus_k):
    channel = create_channel("gilbert_elliott", p=p, r=r, one_minus_h=one_minus_h, one_minus_k=one_minus_k)
    mask = channel.flip_mask(FRAMES, BITS, np.random.default_rng(5))
    bad, memory, ber = p / (p + r), 1 - p - r, channel.expected_ber
    assert ber == pytest.approx(bad * one_minus_h + (1 - bad) * one_minus_k)
    # Neighbouring errors are correlated by the state's memory, which widens the interval of a plain count.
    covariances = (one_minus_h - one_minus_k) ** 2 * bad * (1 - bad) * memory / (1 - memory)
    sigma = math.sqrt((ber * (1 - ber) + 2 * covariances) / mask.size)
    assert abs(mask.mean() - ber) <= 5 * sigma


@pytest.mark.parametrize("burst_bits", [4, 16, 50])
def test_gilbert_elliott_bursts_last_one_over_r_bits(burst_bits):
    channel = create_channel("gilbert_elliott", p=0.002, r=1 / burst_bits)
    stream = channel.flip_mask(FRAMES, BITS, np.random.default_rng(6)).reshape(-1).astype(np.int8)
    edges = np.diff(np.concatenate(([0], stream, [0])))
    lengths = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    sigma = burst_bits * math.sqrt(1 - 1 / burst_bits) / math.sqrt(lengths.size)
    assert lengths.size > 500
    assert abs(lengths.mean() - burst_bits) <= 5 * sigma


@settings(deadline=None, max_examples=60)
@given(p=st.floats(0, 1), r=st.floats(0, 1), seed=st.integers(0, 1000), n_bits=st.integers(1, 60))
def test_gilbert_elliott_states_follow_the_two_state_machine_step_by_step(p, r, seed, n_bits):
    if p + r == 0:
        return
    channel = create_channel("gilbert_elliott", p=p, r=r)
    mask = channel.flip_mask(1, n_bits, np.random.default_rng(seed))[0]
    draws = np.random.default_rng(seed)
    bad = draws.random() < p / (p + r)
    both, steps = max(0.0, p + r - 1), draws.random(n_bits)
    for bit in range(n_bits):
        assert mask[bit] == bad
        if steps[bit] < p - both:
            bad = True
        elif steps[bit] < p - both + r - both:
            bad = False
        elif steps[bit] < p + r - both:
            bad = not bad


def test_trace_replays_its_ber_over_time_and_loops():
    channel = create_channel("trace", points=[[10, 0.0], [11, 0.5], [12, 0.1], [14, 0.2]])
    # From 0 after the first row; the last row holds for 2 s, as the one before it, so a round lasts 6 s.
    times = np.array([0.0, 0.99, 1.0, 2.0, 3.9, 4.0, 5.99, 6.0, 7.5])
    assert channel.ber_at(times).tolist() == [0.0, 0.0, 0.5, 0.1, 0.1, 0.2, 0.2, 0.0, 0.5]
    assert channel.expected_ber == pytest.approx((0 + 0.5 + 2 * 0.1 + 2 * 0.2) / 6)
    frame_times = 100 + np.arange(2 * 6 * 128) / 128
    mask = channel.flip_mask(frame_times.size, BITS, np.random.default_rng(7), times_s=frame_times)
    by_frame = mask.reshape(2, 6, -1)
    for second, ber in enumerate([0.0, 0.5, 0.1, 0.1, 0.2, 0.2]):
        for lap in range(2):
            assert abs(by_frame[lap, second].mean() - ber) <= five_sigma(ber, by_frame[lap, second].size)


def test_trace_has_its_first_ber_for_frames_that_overtake_the_first():
    channel = create_channel("trace", points=[[0, 0.0], [10, 0.5]])
    channel.start(np.random.default_rng(0))
    for time in (100.1, 100.05):
        assert channel.carry(Transmission(bytes(100), time))[0].data == bytes(100)


def test_trace_reads_the_same_from_a_file(tmp_path):
    path = tmp_path / "walk.csv"
    path.write_text("time_s,ber\n0,0.01\n0.5,0.1\n")
    from_file = create_channel("trace", file=str(path))
    from_points = create_channel("trace", points=[[0, 0.01], [0.5, 0.1]])
    masks = [channel.flip_mask(50, 64, np.random.default_rng(8)) for channel in (from_file, from_points)]
    assert masks[0].any() and np.array_equal(*masks)


@pytest.mark.parametrize("spec", BIT_CHANNELS, ids=lambda spec: spec["channel"])
def test_frames_online_get_the_flips_of_one_call_offline(spec):
    online, offline, data, n_frames = make(spec), make(spec), bytes(range(50)), 60
    times = [0.05 * frame for frame in range(n_frames)]
    mask = offline.flip_mask(n_frames, 8 * len(data), np.random.default_rng(9), times_s=times)
    online.start(np.random.default_rng(9))
    for frame, time in enumerate(times):
        (arrived,) = online.carry(Transmission(data, time))
        sent_bits, bits = (np.unpackbits(np.frombuffer(which, np.uint8)) for which in (data, arrived.data))
        assert np.array_equal((sent_bits ^ bits).astype(bool), mask[frame])
        assert arrived.time == time
    assert online.counts == {"bits": n_frames * 400, "flipped": int(mask.sum())}


@pytest.mark.parametrize("spec", BIT_CHANNELS, ids=lambda spec: spec["channel"])
def test_starting_again_with_the_seed_gives_the_same_flips(spec):
    channel, runs = make(spec), []
    for _ in range(2):
        channel.start(np.random.default_rng(10))
        runs.append([channel.carry(Transmission(bytes(40), 0.03 * frame))[0].data for frame in range(50)])
    assert runs[0] == runs[1] and any(any(data) for data in runs[0])


@pytest.mark.parametrize("spec", BIT_CHANNELS, ids=lambda spec: spec["channel"])
def test_an_empty_frame_passes(spec):
    channel = make(spec)
    channel.start(np.random.default_rng(11))
    assert channel.carry(Transmission(b"", 0.0))[0].data == b""
