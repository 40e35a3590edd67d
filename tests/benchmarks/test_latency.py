"""The bench on the digits codec, its tables, and the same air times on the emulator's sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency
from benchmarks.latency_tables import best, device_line, duration, rewrite
from benchmarks.transfers import REPLY_BYTES, Delivery, send_whole
from channel_emulator.emulator import Emulator
from semantic_codec.airtime import find_link
from semantic_codec.bundle import find_bundle
from semantic_codec.errors import ConfigError
from semantic_codec.frame import WireCodec, encode_frame
from semantic_codec.header import Header

QUICK = ["--codec", "digits", "--images", "200", "--edge-runs", "5"]


def test_rows_for_every_link_ber_and_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(latency, "BERS", (0.0, 0.1))
    path, page = tmp_path / "latency.json", tmp_path / "latency.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    links = ["lora-sf12", "ble-1m"]
    arguments = [*QUICK, "--instructions", "1680000", "--json", str(path), "--docs", str(page), "--links", *links]
    assert latency.main(arguments) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["link"], row["ber"]) for row in rows[::7]] == [(link, ber) for link in links for ber in (0.0, 0.1)]
    cell = {(row["link"], row["ber"], row["way"]): row for row in rows}
    clean = cell["lora-sf12", 0.0, "ours, 8 B"]
    air = find_link("lora-sf12")
    assert clean["on_air_ms"] == pytest.approx(1e3 * air.packet_s(26))
    assert clean["device_ms"] == pytest.approx(10.0)
    assert clean["latency_p50_ms"] > 10 + 1e3 * (air.packet_s(26) + air.packet_s(18))
    assert cell["ble-1m", 0.1, "ours, 8 B"]["arrived_percent"] == 100
    # A 192-byte image never gets through whole where one bit in ten is wrong.
    assert cell["ble-1m", 0.1, "raw image"]["outcome"] == "does not arrive"
    assert cell["ble-1m", 0.1, "raw image"]["latency_p50_ms"] is None
    assert cell["ble-1m", 0.0, "local"]["latency_p50_ms"] == pytest.approx(10.0)
    assert cell["ble-1m", 0.0, "local"]["accuracy_percent"] == latency.local_accuracy(find_bundle("digits")) > 85
    assert all(row["on_air_energy_mj"] >= 0 for row in rows)
    shown = capsys.readouterr().out
    assert shown.strip() in page.read_text() and page.read_text().startswith("before\n") and "old" not in page.read_text()


def test_what_is_not_at_hand_reads_not_measured(tmp_path, monkeypatch):
    assert latency.jpeg_sizes("cifar10", tmp_path, 75, 10) is None
    bundle, board = find_bundle("digits"), latency.find_board("stm32f746")
    monkeypatch.setattr(latency, "BERS", (0.0,))
    bench = latency.Bench(bundle, board, None, None, 75, 10, 100, 0)
    rows = bench.rows(find_link("802154"), 0.0, latency.measure_answers(bundle, (0.0,), 10, 2, 0))
    cell = {row["way"]: row for row in rows}
    assert cell["JPEG 75, file"]["outcome"] == cell["local"]["outcome"] == "not measured"
    assert cell["ours, 8 B"]["device_ms"] is None and cell["ours, 8 B"]["latency_p50_ms"] > 0


def test_a_local_network_that_was_trained_is_right_as_often_as_its_file_says(tmp_path):
    path = tmp_path / "local.json"
    digits = find_bundle("digits")
    assert latency.local_accuracy(digits, path) is None
    path.write_text(json.dumps({"rows": [{"encoder_hash": digits.manifest.files["encoder.bin"], "accuracy_percent": 97.5}]}))
    assert latency.local_accuracy(digits, path) == 97.5 and latency.local_accuracy(find_bundle("cifar10"), path) is None
    bench = latency.Bench(find_bundle("digits"), latency.find_board("stm32f405"), 1000, None, 75, 10, 100, 0, {}, 97.5)
    row = bench._local(find_link("ble-1m"), 0.0)
    assert row["accuracy_percent"] == 97.5 and "accuracy is 97.50 %" in device_line([row])
    assert "accuracy is not measured" in device_line([row | {"accuracy_percent": None}])


def test_another_current_changes_the_energy_in_proportion():
    link, delivery = find_link("lora-sf7"), Delivery(np.ones(2), np.ones(2), np.ones(2))
    fields = find_bundle("digits"), latency.find_board("stm32f405"), None, None, 75, 10, 100, 0
    usual, twice = (
        latency.Bench(*fields, transmit_ma)._row(link, 0.0, "ours", 26, delivery, encodes=False)["on_air_energy_mj"]
        for transmit_ma in ({}, latency.currents(["SX1276=58"], [link]))
    )
    assert twice == pytest.approx(2 * usual) and usual == pytest.approx(29 * 3.3)


def test_whoever_sends_the_image_waits_for_the_reply_too():
    link, sizes = find_link("lora-sf7"), np.full(4, 192)
    bench = latency.Bench(find_bundle("digits"), latency.find_board("stm32f405"), 1, None, 75, 4, 10, 0)
    row = bench._send_whole(link, 0.0, "raw image", sizes, np.random.default_rng(0))
    sent_s = send_whole(link, sizes, 0.0, 10, np.random.default_rng(0)).answer_s[0]
    assert row["latency_p50_ms"] == pytest.approx(1e3 * (sent_s + link.access_s + link.packet_s(REPLY_BYTES)))


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="quality 0"):
        latency.main([*QUICK, "--quality", "0"])
    for given in ("CC1101=10", "SX1276", "SX1276=-1"):
        with pytest.raises(ConfigError, match="PART=MA, of SX1276"):
            latency.currents([given], [find_link("lora-sf7")])


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ConfigError, match="no marks"):
        rewrite(page, "table")


def test_a_rival_that_wins_is_named_with_what_ours_takes():
    rows = [{"way": "ours, 8 B", "ms": 5.0}, {"way": "raw image", "ms": 3.0}]
    assert best(rows, lambda row: row["ms"], duration) == "**raw image: 3 ms** (ours 5 ms)"
    assert best(rows[:1], lambda row: row["ms"], duration) == "ours, 8 B: 5 ms"
    assert best([], lambda row: row["ms"], duration) == "none arrives"


@pytest.mark.parametrize("name", ["lora-sf7", "802154", "ble-1m"])
async def test_the_emulator_takes_as_long_over_real_sockets(name):
    """Frames and replies through a UDP link; other work on the machine can only add to the times."""
    link, bundle = find_link(name), find_bundle("digits")
    codec = WireCodec(bundle.manifest.codec_id, bundle.encoder_hash, (2, 4, 8))
    frame = encode_frame(Header(codec.codec_id, 2, 1, 0), bytes(8), bundle.encoder_hash)
    loop, emulator = asyncio.get_running_loop(), Emulator()
    edge, _ = await loop.create_datagram_endpoint(_Edge, local_addr=("127.0.0.1", 0))
    body = {
        "name": "air", "kind": "udp", "upstream": "{}:{}".format(*edge.get_extra_info("sockname")),
        "up": link.emulated_by(len(frame)), "down": link.emulated_by(18),
    }  # fmt: skip
    created = await emulator.create(body)
    address = created.settings.listen
    transport, device = await loop.create_datagram_endpoint(_Device, remote_addr=(address.host, address.port))
    try:
        start = loop.time()
        transport.sendto(frame)
        received = await asyncio.wait_for(device.reply, 20)
        assert len(received) == 18
        assert loop.time() - start >= link.packet_s(26) + link.packet_s(18) - 1e-3
    finally:
        transport.close()
        edge.close()
        await emulator.close()
        await asyncio.sleep(0)  # closed transports let go of their sockets on the next round


class _Edge(asyncio.DatagramProtocol):
    """Answers each frame with as many bytes as a reply has."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[:18], address)


class _Device(asyncio.DatagramProtocol):
    def __init__(self):
        self.reply = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.reply.set_result(data)


def test_the_page_shows_the_channels_of_the_links():
    page = (Path(__file__).parents[2] / "docs" / "latency.md").read_text()
    (up,), (down,) = (find_link("lora-sf7").emulated_by(size) for size in (26, 18))
    assert f"--up delay:delay_ms={up['delay_ms']:.3f} --down delay:delay_ms={down['delay_ms']:.3f}" in page
    (rate,) = find_link("802154").emulated_by(26)
    assert f"rate:bits_per_s={rate['bits_per_s']:.0f},overhead_bytes={rate['overhead_bytes']}" in page
