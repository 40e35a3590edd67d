"""Which raw frames may wait for the reader, decided by their source address before a byte of them is looked at.

Every sender, an address and port, has a token bucket: a frame takes a token, and gives it back if it turns out to be
welcome. So honest senders are bounded by what the reader can do, noise by ``noise_rate``. Who was never welcome is a
stranger: strangers share ``SLOTS`` buckets, whatever their number, and need tokens of their host and of all strangers
besides, so that neither a host with many ports nor invented addresses get further. What waits is read in turns, a
frame of each sender at a time, and strangers have a small part of each batch.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edge_server.addresses import network

BACKLOG = 4096  # frames that may wait, shared by the senders that have any waiting
LEAST_SHARE = 8
BURST = 512  # tokens of a stranger's full bucket: what a device may have sent before its first frame is read
KNOWN_BURST = 2048  # of a known sender's: what it may have under way
SLOTS = 256
HOST_SHARE, STRANGERS_SHARE = 2, 4  # noise of one host and of all strangers, in those of one sender
STRANGERS_PART = 8  # one in so many places of a batch is theirs
FLOOD = 500  # refused frames within a second, after which it is worth having the kernel drop the rest
Frame = tuple[bytes, Any]
Source = tuple[str | None, int | None]
"""Address and port; port None: all strangers of a host, an `addresses.network`; both None: all strangers."""


class _Bucket:
    """Tokens, ``rate`` more every second up to ``burst``."""

    __slots__ = ("tokens", "burst", "_rate", "_filled", "_second", "_refused")

    def __init__(self, rate: float, burst: float, now: float):
        self.tokens = self.burst = burst
        self._rate, self._filled = rate, now
        self._second, self._refused = 0, 0

    def has_one(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self._filled) * self._rate)
        self._filled = now
        return self.tokens >= 1

    def give_back(self) -> None:
        tokens = self.tokens + 1
        self.tokens = tokens if tokens < self.burst else self.burst

    def floods(self, now: float) -> bool:
        """Count a frame that found no token; whether it is the FLOOD-th of this second."""
        if int(now) != self._second:
            self._second, self._refused = int(now), 0
        self._refused += 1
        return self._refused == FLOOD


class _Sender(_Bucket):
    """A bucket and the frames that wait."""

    __slots__ = ("known", "waiting")

    def __init__(self, rate: float, now: float, known: bool):
        super().__init__(rate, KNOWN_BURST if known else BURST, now)
        self.known = known
        self.waiting: deque[Frame] = deque()


class Admission:
    """Frames and their addresses in, batches in fair turns out. Belongs to the event loop's thread.

    noise_rate: frames per second and sender that may be unwelcome. most_known: senders that have a bucket of their own;
    the least recently welcome one becomes a stranger. on_flood: told a source, once a second while so many
    frames from there are refused that they are better dropped elsewhere.
    """

    def __init__(
        self,
        noise_rate: float,
        most_known: int,
        clock: Callable[[], float],
        on_flood: Callable[[Source], None] = lambda source: None,
    ):
        self._rate, self._most_known, self._clock, self.on_flood = noise_rate, most_known, clock, on_flood
        now = clock()
        self._known: OrderedDict[Any, _Sender] = OrderedDict()
        self._slots = [_Sender(noise_rate, now, known=False) for _ in range(SLOTS)]
        self._hosts = [_Bucket(noise_rate * HOST_SHARE, BURST * HOST_SHARE, now) for _ in range(SLOTS)]
        self._strangers = _Bucket(noise_rate * STRANGERS_SHARE, BURST * STRANGERS_SHARE, now)
        self._turns: dict[bool, deque[_Sender]] = {True: deque(), False: deque()}

    def offer(self, data: bytes, address: Any, backlog: int = BACKLOG) -> str | None:
        """Let a frame wait, or say why not: "rate_limited", or "overflow" where the sender has its share of ``backlog``
        waiting."""
        sender = self._known.get(address) or self._slot(address)
        buckets = self._buckets(sender, address)
        if not self._take_tokens(buckets, address):
            return "rate_limited"
        turns = self._turns[sender.known]
        waiting = len(sender.waiting)
        if waiting >= max(LEAST_SHARE, backlog // (len(self._turns[True]) + len(self._turns[False]) + (not waiting))):
            _give_back(buckets)
            return "overflow"
        sender.waiting.append((data, address))
        if not waiting:
            turns.append(sender)
        return None

    @property
    def waits(self) -> bool:
        """Whether any frame does."""
        return bool(self._turns[True] or self._turns[False])

    def admit(self, frames: Sequence[Frame], most: int, backlog: int = BACKLOG) -> tuple[list[Frame], Counter[str]]:
        """Offer each of these, then take: the batch, and how many were refused for what. What known senders offer while
        nothing waits need not wait either."""
        batch: list[Frame] = []
        refused: Counter[str] = Counter()
        direct, known = len(frames) <= most and not self.waits, self._known
        for frame in frames:
            sender = known.get(frame[1]) if direct else None
            if sender is not None and sender.tokens >= 1:  # more may have come since: those are for later
                sender.tokens -= 1
                batch.append(frame)
                continue
            refusal = self.offer(*frame, backlog)
            if refusal is not None:
                refused[refusal] += 1
        return (self.take(most, batch) if self.waits else batch), refused

    def take(self, most: int, batch: Sequence[Frame] = ()) -> list[Frame]:
        """The next frames behind those of ``batch``, empty where none wait."""
        batch = list(batch)
        self._fill(batch, False, min(most, len(batch) + max(1, most // STRANGERS_PART)))
        self._fill(batch, True, most)
        return batch

    def welcome(self, address: Any) -> None:
        """A frame from there was worth reading."""
        sender = self._known.get(address)
        if sender is not None:
            self._known.move_to_end(address)
            sender.give_back()
            return
        sender = self._known[address] = _Sender(self._rate, self._clock(), known=True)
        slot = self._slot(address)
        _give_back(self._buckets(slot, address))
        # Else every new port would have a full bucket to spend on noise.
        sender.tokens = slot.tokens
        if len(self._known) > self._most_known:
            self._known.popitem(last=False)

    def knows(self, address: Any) -> bool:
        """Whether a welcome frame came from there."""
        return address in self._known

    def known(self) -> Iterator[Any]:
        """Addresses from which welcome frames came, the latest first."""
        return reversed(self._known)

    def _slot(self, address: Any) -> _Sender:
        # Python salts this hash: nobody can choose addresses that meet in a device's slot.
        return self._slots[hash(address[:2]) % SLOTS]

    def _buckets(self, sender: _Sender, address: Any) -> tuple[_Bucket, ...]:
        if sender.known:
            return (sender,)
        return sender, self._hosts[hash(network(address[0])) % SLOTS], self._strangers

    def _take_tokens(self, buckets: tuple[_Bucket, ...], address: Any) -> bool:
        now = self._clock()
        for place, bucket in enumerate(buckets):
            if not bucket.has_one(now):
                if bucket.floods(now):
                    self.on_flood((address[:2], (network(address[0]), None), (None, None))[place])
                return False
        for bucket in buckets:
            bucket.tokens -= 1
        return True

    def _fill(self, batch: list[Frame], known: bool, upto: int) -> None:
        turns = self._turns[known]
        while turns and len(batch) < upto:
            sender = turns.popleft()
            batch.append(sender.waiting.popleft())
            if sender.waiting:
                turns.append(sender)


def _give_back(buckets: tuple[_Bucket, ...]) -> None:
    for bucket in buckets:
        bucket.give_back()
