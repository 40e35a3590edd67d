"""The flood against a real edge node: what it counts, not how fast."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import closing

import pytest

from benchmarks import flood
from benchmarks.flooder import BATCH, LENGTHS, Noise, open_sockets
from semantic_codec.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sendmmsg and loopback's many addresses are Linux's")


def test_a_batch_of_noise_arrives_from_each_source():
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as inbox:
        inbox.bind(("127.0.0.1", 0))
        inbox.settimeout(10)
        for sock in open_sockets(inbox.getsockname(), [("127.0.0.2", 2), ("127.9.1.3", 1)]):
            with closing(sock):
                assert Noise(1).send(sock) == BATCH
                received = [inbox.recvfrom(2048) for _ in range(BATCH)]
                assert {address for _, address in received} == {sock.getsockname()}
                assert len({data for data, _ in received}) == BATCH
                assert all(LENGTHS[0] <= len(data) < LENGTHS[1] for data, _ in received)


def test_devices_are_answered_while_noise_is_dropped(tmp_path):
    path = tmp_path / "flood.json"
    arguments = ["--seconds", "1", "--turns", "1", "--devices", "2", "--noise", "20000", "--rate", "40"]
    assert flood.main([*arguments, "--flood", "one sender at the devices' address", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["quiet_goodput_per_s"] > 0 and row["flooded_goodput_per_s"] > 0 and row["noise_per_s"] > 0
    assert row["goodput_ratio"] == row["flooded_goodput_per_s"] / row["quiet_goodput_per_s"] == row["goodput_ratios"][0]


def test_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match="negative or 0"):
        flood.main(["--turns", "0"])
