"""Sending over a link that flips bits: how long until the answer is there, and how long the radio sends meanwhile.

Two ways. *Whole*: packets with a CRC, each sent again until it and its acknowledgement arrive unhurt, in packets of the
size that takes the least time on average for that message. *Once*: one raw frame that need not be unhurt, sent again only if no reply
comes. Attempts are independent, errors too; each is given `attempts` tries, then the image is lost.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from semantic_codec.airtime import Link

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


def best_packets(link: Link, sizes: np.ndarray, ber: float) -> np.ndarray:
    """Payload bytes per packet with the least expected time for each message of `sizes` bytes, int (N,)."""
    packets = np.arange(1, min(int(sizes.max()), link.most_bytes) + 1)
    seconds = np.array([attempt_s(link, int(size)) for size in packets])
    log_success = (8 * (packets + link.checked_bytes) + link.acknowledgement_bits) * math.log1p(-ber)
    return cheapest_packets(sizes, np.log(seconds) - log_success)[0]


def cheapest_packets(sizes: np.ndarray, log_costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How to cut messages of `sizes` bytes, int (N,): bytes per packet, int (N,), and the log of what the message then costs.

    log_costs: of packets of 1, 2, ... bytes, which is as large as they may be; logs, as whole images over bad links overflow.
    """
    values, inverse = np.unique(sizes, return_inverse=True)
    whole, rest = np.divmod(values[:, None], np.arange(1, len(log_costs) + 1))
    log_whole = np.log(whole, where=whole > 0, out=np.full(whole.shape, -np.inf))
    costs = np.logaddexp(log_whole + log_costs, np.where(rest > 0, log_costs[rest - 1], -np.inf))
    best = costs.argmin(axis=1)
    return (best + 1)[inverse], costs.min(axis=1)[inverse]


def send_whole(
    link: Link, sizes: np.ndarray, ber: float, attempts: int, rng: np.random.Generator, packet_bytes: int | None = None
) -> Delivery:
    """Messages of `sizes` bytes, int (N,), each in packets that are repeated until whole.

    packet_bytes: None takes the best for each message.
    """
    most = best_packets(link, sizes, ber) if packet_bytes is None else np.full(len(sizes), packet_bytes)
    counts = -(-sizes // most)
    most = most[:, None]
    length = np.clip(sizes[:, None] - np.arange(counts.max()) * most, 0, most)  # (N, packets); 0: no such packet
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
