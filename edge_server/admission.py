"""Which raw frames may wait for the reader, decided by their source address before a byte of them is looked at.

Every address has a token bucket: a frame takes a token, and gives it back if it turns out to be welcome. So honest
senders are bounded by what the reader can do, noise by ``noise_rate``. What waits is read in turns, a frame of each
address at a time. Addresses that were never welcome are strangers: they share ``SLOTS`` buckets, whatever their number,
and leave most of a batch to the others.
"""

from __future__ import annotations

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

BACKLOG = 4096  # frames that may wait, shared by the addresses that have any waiting
LEAST_SHARE = 8
BURST = 2048  # tokens of a full bucket: what an honest sender may have under way
SLOTS = 256
STRANGERS_PART = 8  # one in so many places of a batch is theirs even when others wait
Frame = tuple[bytes, Any]


class _Sender:
    """A bucket and what waits. ``refused``: frames in a row that found the bucket empty."""

    __slots__ = ("tokens", "filled", "waiting", "refused", "known")

    def __init__(self, now: float, known: bool):
        self.tokens, self.filled, self.refused, self.known = float(BURST), now, 0, known
        self.waiting: deque[Frame] = deque()


class Admission:
    """Frames and their addresses in, batches in fair turns out. Belongs to the event loop's thread.

    noise_rate: frames per second and address that may be unwelcome. most_known: addresses that have a bucket of their
    own; the least recently welcome one becomes a stranger.
    """

    def __init__(self, noise_rate: float, most_known: int, clock: Callable[[], float]):
        self._rate, self._most_known, self._clock = noise_rate, most_known, clock
        now = clock()
        self._known: OrderedDict[str | bytes, _Sender] = OrderedDict()
        self._slots = [_Sender(now, known=False) for _ in range(SLOTS)]
        self._turns: dict[bool, deque[_Sender]] = {True: deque(), False: deque()}

    def offer(self, data: bytes, address: Any) -> str | None:
        """Let a frame wait, or say why not: "rate_limited" or "overflow"."""
        sender = self._sender(address)
        if not self._take_token(sender):
            sender.refused += 1
            return "rate_limited"
        sender.refused = 0
        turns = self._turns[sender.known]
        waiting = len(sender.waiting)
        if waiting >= max(LEAST_SHARE, BACKLOG // (len(self._turns[True]) + len(self._turns[False]) + (not waiting))):
            sender.tokens += 1
            return "overflow"
        sender.waiting.append((data, address))
        if not waiting:
            turns.append(sender)
        return None

    def refused(self, address: Any) -> int:
        """Frames in a row that were ``rate_limited``, from this address or those that share its bucket."""
        return self._sender(address).refused

    def take(self, most: int) -> list[Frame]:
        """The next frames, empty where none wait."""
        batch: list[Frame] = []
        self._fill(batch, False, most // STRANGERS_PART)
        self._fill(batch, True, most)
        self._fill(batch, False, most)
        return batch

    def welcome(self, address: Any) -> None:
        """A frame from there was worth reading."""
        key = _key(address)
        sender = self._known.get(key)
        if sender is None:
            sender = self._known[key] = _Sender(self._clock(), known=True)
            if len(self._known) > self._most_known:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
            sender.tokens = min(sender.tokens + 1, BURST)

    def _sender(self, address: Any) -> _Sender:
        key = _key(address)
        # Python salts this hash: nobody can choose addresses that meet in a device's slot.
        return self._known.get(key) or self._slots[hash(key) % SLOTS]

    def _take_token(self, sender: _Sender) -> bool:
        now = self._clock()
        sender.tokens = min(BURST, sender.tokens + (now - sender.filled) * self._rate)
        sender.filled = now
        if sender.tokens < 1:
            return False
        sender.tokens -= 1
        return True

    def _fill(self, batch: list[Frame], known: bool, upto: int) -> None:
        turns = self._turns[known]
        while turns and len(batch) < upto:
            sender = turns.popleft()
            batch.append(sender.waiting.popleft())
            if sender.waiting:
                turns.append(sender)


def _key(address: Any) -> str | bytes:
    """Of an IPv6 address its /64, which is the least that one customer has."""
    host = address[0]
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8] if ":" in host else host
