"""Sending over a link that flips bits: how long until the answer is there, and how long the radio sends meanwhile.

Two ways. *Whole*: packets with a CRC, each sent again until it and its acknowledgement arrive unhurt, in packets of the
size that takes the least time on average. *Once*: one raw frame that need not be unhurt, sent again only if no reply
comes. Attempts are independent, errors too; each is given `attempts` tries, then the image is lost.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from semantic_codec.airtime import Link

PACKET_BYTES = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2304)
REPLY_BYTES = 18
LEAST_SUCCESS = 1e-12  # below it no packet arrives within any bound that is allowed here, and draws would overflow


@dataclass(frozen=True)
class Delivery:
    """What became of N images: seconds until the answer (inf: lost), seconds of sending, bytes sent by the device."""

    answer_s: np.ndarray
    on_air_s: np.ndarray
    sent_bytes: np.ndarray


def packet_success(link: Link, payload_bytes: int, ber: float) -> float:
    """Probability that a packet and its acknowledgement both arrive unhurt."""
    return (1 - ber) ** (8 * (payload_bytes + link.checked_bytes) + link.acknowledgement_bits)


def attempt_s(link: Link, payload_bytes: int) -> float:
    """Seconds of one attempt: waiting for the medium, the packet, its acknowledgement or waiting for it in vain."""
    return link.access_s + link.packet_s(payload_bytes) + link.acknowledgement_s()


def best_packet(link: Link, total_bytes: int, ber: float) -> int:
    """Payload bytes per packet with the least expected time for `total_bytes`."""
    sizes = sorted({min(size, link.most_bytes) for size in PACKET_BYTES})
    log_seconds = [
        math.log(math.ceil(total_bytes / size) * attempt_s(link, size))
        - (8 * (size + link.checked_bytes) + link.acknowledgement_bits) * math.log1p(-ber)
        for size in sizes
    ]
    return sizes[int(np.argmin(log_seconds))]


def send_whole(
    link: Link, sizes: np.ndarray, ber: float, attempts: int, rng: np.random.Generator, packet_bytes: int | None = None
) -> Delivery:
    """Messages of `sizes` bytes, int (N,), each in packets that are repeated until whole.

    packet_bytes: None takes the best for the mean size.
    """
    most = packet_bytes or best_packet(link, int(sizes.mean()), ber)
    counts = -(-sizes // most)
    place = np.arange(counts.max())
    length = np.clip(sizes[:, None] - place * most, 0, most)  # (N, packets); 0: no such packet
    values, inverse = np.unique(length, return_inverse=True)
    inverse = inverse.reshape(length.shape)
    success = np.array([packet_success(link, int(size), ber) for size in values])[inverse]
    tries = rng.geometric(np.maximum(success, LEAST_SUCCESS))
    lost = (tries > attempts) & (length > 0)
    # A packet that is given up ends the transfer: what would follow it is never sent.
    reached = np.cumsum(lost, axis=1) - lost == 0
    tries = np.where((length > 0) & reached, np.minimum(tries, attempts), 0)
    seconds = np.array([attempt_s(link, int(size)) for size in values])[inverse]
    on_air = np.array([link.packet_s(int(size)) for size in values])[inverse]
    answer = np.where(lost.any(axis=1), np.inf, (tries * seconds).sum(axis=1))
    return Delivery(answer, (tries * on_air).sum(axis=1), (tries * (length + link.overhead_bytes)).sum(axis=1))


def send_once(
    link: Link, frame_bytes: int, answered: float, edge_s: np.ndarray, attempts: int, rng: np.random.Generator
) -> Delivery:
    """Raw frames of `frame_bytes`, one per image; a reply comes with probability `answered`, else the frame is repeated.

    edge_s: (N,) seconds of the edge for each image. The device waits for a reply as long as one takes, and the edge's
    slowest time, before it sends again.
    """
    count = len(edge_s)
    tries = rng.geometric(max(answered, LEAST_SUCCESS), count)
    lost, tries = tries > attempts, np.minimum(tries, attempts)
    frame_s, reply_s = link.packet_s(frame_bytes), link.access_s + link.packet_s(REPLY_BYTES)
    wait_s = link.access_s + frame_s + edge_s.max() + reply_s
    answer = (tries - 1) * wait_s + link.access_s + frame_s + edge_s + reply_s
    return Delivery(np.where(lost, np.inf, answer), tries * frame_s, tries * (frame_bytes + link.overhead_bytes))


def jpeg_bytes(image: np.ndarray, quality: int) -> tuple[int, int]:
    """Sizes of an image uint8 (H, W, 3) as a JPEG file and in its abbreviated format, which leaves tables to the receiver.

    ITU-T T.81, B.5: without quantization (DQT) and Huffman (DHT) tables, and here without application data (APPn).
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    data, at, tables = stream.getvalue(), 2, 0
    while data[at + 1] != 0xDA:  # start of scan
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xDB, 0xC4) or 0xE0 <= data[at + 1] <= 0xEF:
            tables += length
        at += length
    return len(data), len(data) - tables
