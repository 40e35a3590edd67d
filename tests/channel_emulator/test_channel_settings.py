"""Settings that cannot work are refused when the channel is made, with the value, what is allowed and the fix."""

from __future__ import annotations

import math

import pytest

from channel_emulator.chain import build_channels
from channel_emulator.channels import CHANNELS, channel_settings, create_channel
from semantic_codec.errors import ConfigError

GOOD = [
    {"channel": "awgn", "snr_db": 3.0},
    {"channel": "bsc", "ber": 0.01},
    {"channel": "byte_insertion", "probability": 0.1},
    {"channel": "byte_loss", "probability": 0.1},
    {"channel": "delay", "delay_ms": 5.0, "jitter_ms": 1.0, "distribution": "normal", "keep_order": True},
    {"channel": "duplication", "probability": 0.1, "gap_ms": 2.0},
    {"channel": "erasure", "probability": 0.1},
    {"channel": "gilbert_elliott", "p": 0.01, "r": 0.1, "one_minus_h": 0.5, "one_minus_k": 0.0},
    {"channel": "rate", "bits_per_s": 5470.0, "queue_frames": 8, "overhead_bytes": 13},
    {"channel": "reordering", "probability": 0.1, "hold_ms": 30.0},
    {"channel": "trace", "points": [[0, 0.1]]},
    {"channel": "truncation", "probability": 0.1, "keep_bytes": 18},
]


def test_every_channel_gives_its_settings_back():
    assert [channel_settings(channel) for channel in build_channels(GOOD, "up")] == GOOD
    assert sorted(CHANNELS) == [spec["channel"] for spec in GOOD]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("bcs", {"ber": 0.1}, ["'bcs'", "gilbert_elliott"]),
        ("bsc", {}, ["'ber'"]),
        ("bsc", {"ber": 0.1, "p": 1}, ["'p'", "allowed: ber"]),
        ("bsc", {"ber": 0.7}, ["bsc ber is 0.7", "0 to 0.5"]),
        ("bsc", {"ber": -0.1}, ["bsc ber is -0.1"]),
        ("bsc", {"ber": math.nan}, ["bsc ber is nan"]),
        ("bsc", {"ber": "0.1"}, ["bsc ber is '0.1'", "number"]),
        ("byte_loss", {"probability": 2}, ["byte_loss probability is 2"]),
        ("byte_insertion", {"probability": -1}, ["byte_insertion probability is -1"]),
        ("bsc", {"ber": True}, ["bsc ber is True"]),
        ("bsc", {"ber": None}, ["bsc ber is None"]),
        ("awgn", {"snr_db": math.inf}, ["snr_db is inf", "-30 to 30 dB"]),
        ("gilbert_elliott", {"p": 5, "r": 0.1}, ["p is 5", "not a percentage"]),
        ("gilbert_elliott", {"p": 0, "r": 0}, ["both 0"]),
        ("erasure", {"probability": 1.1}, ["probability is 1.1"]),
        ("truncation", {"probability": 0.1}, ["exactly one"]),
        ("truncation", {"probability": 0.1, "keep_fraction": 0.5, "keep_bytes": 3}, ["exactly one"]),
        ("truncation", {"probability": 0.1, "keep_bytes": 2.5}, ["keep_bytes is 2.5", "whole number"]),
        ("delay", {"delay_ms": 5, "distribution": "gauss"}, ["'gauss'", "uniform, normal, exponential"]),
        ("delay", {"delay_ms": 5, "keep_order": 1}, ["keep_order is 1", "true or false"]),
        ("rate", {"bits_per_s": 0}, ["bits_per_s is 0"]),
        ("rate", {"bits_per_s": 1000, "queue_frames": 0}, ["queue_frames is 0"]),
        ("trace", {}, ["neither file nor points"]),
        ("trace", {"file": "x.csv", "points": []}, ["both"]),
        ("trace", {"points": []}, ["0 points"]),
        ("trace", {"points": 5}, ["no list"]),
        ("trace", {"points": [[0, 0.1], [0, 0.2]]}, ["row 1", "grow"]),
        ("trace", {"points": [[0, 0.1], [1]]}, ["row 1 is [1]"]),
        ("trace", {"points": [[0, 0.9]]}, ["row 0 ber is 0.9"]),
        ("trace", {"file": "/nowhere/x.csv"}, ["/nowhere/x.csv", "no such regular file"]),
        ("trace", {"file": "/dev/zero"}, ["/dev/zero", "no such regular file"]),
        ("trace", {"file": "a\0b"}, ["cannot be read"]),
        ("trace", {"file": 5}, ["trace file is 5"]),
        ("trace", {"points": [[0, 0.1]] * 10_001}, ["10001 points"]),
        ("bsc", {"ber": 10**400}, ["bsc ber is 1000"]),
        ("bsc", {"ber": 0.1, "name": "x"}, ["no setting 'name'"]),
    ],
)
def test_wrong_settings_are_refused_by_name(name, settings, words):
    with pytest.raises(ConfigError) as refused:
        create_channel(name, **settings)
    for word in [*words, "allowed:", "fix:"]:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("0,0.1\n", "first line"), ("time_s,ber\n0,0.1\n1,high\n", "line 3 is '1,high'"), ("time_s,ber\n", "0 points")],
)
def test_wrong_trace_files_are_refused(tmp_path, text, word):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        create_channel("trace", file=str(path))


def test_a_file_that_is_no_trace_is_not_quoted(tmp_path):
    path = tmp_path / "secret"
    path.write_text("token=12345\n")
    with pytest.raises(ConfigError) as refused:
        create_channel("trace", file=str(path))
    assert "12345" not in str(refused.value)


@pytest.mark.parametrize(
    ("specs", "word"),
    [
        ("bsc", "up is str"),
        ([5], r"up\[0\] is 5"),
        ([{"ber": 0.1}], r"up\[0\]"),
        ([{"channel": "bsc", "ber": 0.1}, {"channel": "bsc", "ber": 1}], r"up\[1\]: bsc ber is 1"),
        ([{"channel": ["bsc"]}], r"up\[0\]: channel is \['bsc'\]"),
        ([{"channel": "bsc", "ber": 0.1}] * 17, "too long"),
    ],
)
def test_wrong_chains_are_refused_with_the_place(specs, word):
    with pytest.raises(ConfigError, match=word):
        build_channels(specs, "up")
