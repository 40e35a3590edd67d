"""Items that come out in the order of their times, none before its time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator


class Timeline:
    """A bounded waiting room: `put` items with the loop time at which they are due, iterate to get them.

    Items of equal time come out in the order in which they went in. `put` waits while `bound` items are inside.
    `last`: when the last of all items so far is due.
    """

    def __init__(self, bound: int = 4096):
        self.last = 0.0
        self._bound = bound
        self._heap: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._closed = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        """How many items are inside."""
        return len(self._heap)

    async def put(self, time: float, item: bytes) -> None:
        while len(self._heap) >= self._bound:
            self._room.clear()
            await self._room.wait()
        self.last = max(self.last, time)
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, item))
        self._changed.set()

    def close(self) -> None:
        """No more items; iteration ends after the last."""
        self._closed = True
        self._changed.set()

    def clear(self) -> int:
        """Drop what is inside; how many items that were."""
        dropped = len(self._heap)
        self._heap.clear()
        self._room.set()
        self._changed.set()
        return dropped

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            if self._heap and self._heap[0][0] <= clock():
                item = heapq.heappop(self._heap)[2]
                self._room.set()
                yield item
                continue
            if self._closed and not self._heap:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), self._heap[0][0] - clock() if self._heap else None)
            except TimeoutError:
                pass  # the next item is due
