"""Channels of serial lines, against their theory."""

from __future__ import annotations

import pytest

from channel_emulator.channels import Transmission
from tests.channel_emulator.test_frame_channels import started, within_five_sigma

BYTES = 200_000


def passed(channel, data: bytes, piece: int) -> bytes:
    pieces = (data[first : first + piece] for first in range(0, len(data), piece))
    return b"".join(each.data for one in pieces for each in channel.carry(Transmission(one, 0.0)))


@pytest.mark.parametrize("probability", [0.0, 0.01, 0.5, 1.0])
def test_byte_loss_loses_its_share(probability):
    channel = started("byte_loss", probability=probability)
    data = bytes(range(250)) * (BYTES // 250)
    arrived = passed(channel, data, 64)
    assert within_five_sigma(BYTES - len(arrived), probability, BYTES)
    assert (channel.counts["bytes"], channel.counts["lost"]) == (BYTES, BYTES - len(arrived))
    remaining = iter(data)
    assert all(byte in remaining for byte in arrived), "what is left keeps its order"


@pytest.mark.parametrize("probability", [0.0, 0.01, 0.5, 1.0])
def test_byte_insertion_adds_its_share(probability):
    channel = started("byte_insertion", probability=probability)
    arrived = passed(channel, bytes(BYTES), 64)
    added = len(arrived) - BYTES
    assert within_five_sigma(added, probability, BYTES)
    assert (channel.counts["bytes"], channel.counts["added"]) == (BYTES, added)
    nonzero = len(arrived) - arrived.count(0)
    assert within_five_sigma(nonzero, 255 / 256, added) if added else nonzero == 0


@pytest.mark.parametrize("name", ["byte_loss", "byte_insertion"])
def test_how_the_line_is_cut_makes_no_difference(name):
    data = bytes(range(200)) * 5
    assert len({passed(started(name, seed=3, probability=0.1), data, piece) for piece in (1, 7, 64, 1000)}) == 1
