"""Retransmission against its theory, and sizes of JPEG files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.transfers import attempt_s, best_packets, jpeg_bytes, packet_success, send_once, send_whole
from semantic_codec.airtime import LINKS

EACH_LINK = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)


@EACH_LINK
def test_without_errors_every_packet_is_sent_once(link):
    delivery = send_whole(link, np.array([3072, 10]), 0.0, 100, np.random.default_rng(0), packet_bytes=100)
    sizes = link.packets(3072, 100)
    assert delivery.on_air_s[0] == pytest.approx(sum(map(link.packet_s, sizes)))
    assert delivery.answer_s == pytest.approx([sum(attempt_s(link, size) for size in sizes), attempt_s(link, 10)])
    assert list(delivery.sent_bytes) == [3072 + len(sizes) * link.overhead_bytes, 10 + link.overhead_bytes]


def test_attempts_have_the_geometric_mean():
    link, ber = LINKS["802154"], 2e-3
    expected = sum(attempt_s(link, size) / packet_success(link, size, ber) for size in (32, 32, 8))
    delivery = send_whole(link, np.full(20_000, 72), ber, 10_000, np.random.default_rng(1), packet_bytes=32)
    assert delivery.answer_s.mean() == pytest.approx(expected, rel=0.02)


def test_a_packet_that_is_given_up_ends_the_transfer():
    link = LINKS["ble-1m"]
    delivery = send_whole(link, np.full(4, 300), 0.1, 7, np.random.default_rng(2), packet_bytes=100)
    assert np.isinf(delivery.answer_s).all()
    assert delivery.on_air_s == pytest.approx(7 * link.packet_s(100))


def test_short_packets_are_best_where_errors_are_frequent():
    sizes = [int(best_packets(LINKS["802154"], np.array([3072]), ber)[0]) for ber in (0.0, 1e-3, 1e-2, 0.1)]
    assert sizes == sorted(sizes, reverse=True)
    # 3,072 bytes are 27 packets whether these hold 114, 115 or 116; at 0.1 nearly every byte goes alone.
    assert sizes[0] in (114, 115, 116) and sizes[-1] < 4


@EACH_LINK
def test_no_other_packet_size_takes_less_time(link):
    messages, ber = np.array([1, 90, 257, 260, 700]), 1e-3

    def expected(message, size):
        return sum(attempt_s(link, part) / packet_success(link, part, ber) for part in link.packets(message, size))

    for message, best in zip(messages.tolist(), best_packets(link, messages, ber).tolist(), strict=True):
        least = min(expected(message, size) for size in range(1, min(message, link.most_bytes) + 1))
        assert expected(message, best) == pytest.approx(least)


def test_a_frame_is_repeated_until_a_reply_comes():
    link, edge_s = LINKS["lora-sf7"], np.full(50_000, 2e-3)
    whole = send_once(link, 26, 1.0, edge_s, 100, np.random.default_rng(3))
    assert whole.answer_s == pytest.approx(link.packet_s(26) + 2e-3 + link.packet_s(18))
    half = send_once(link, 26, 0.5, edge_s, 100, np.random.default_rng(3))
    assert half.on_air_s.mean() == pytest.approx(2 * link.packet_s(26), rel=0.02)
    never = send_once(link, 26, 0.0, edge_s, 100, np.random.default_rng(3))
    assert np.isinf(never.answer_s).all() and never.on_air_s == pytest.approx(100 * link.packet_s(26))


@pytest.mark.parametrize("quality", [10, 75, 95])
def test_the_abbreviated_jpeg_lacks_tables_and_nothing_else(quality):
    image = np.random.default_rng(quality).integers(0, 256, (32, 32, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    file_bytes, abbreviated = jpeg_bytes(image, quality)
    assert file_bytes == len(stream.getvalue())
    # JFIF's 18 bytes, two quantization tables, four of T.81's example Huffman tables with 12, 162, 12 and 162 values.
    assert file_bytes - abbreviated == 18 + 2 * (4 + 65) + 4 * (4 + 17) + 2 * (12 + 162)
