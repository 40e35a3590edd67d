"""How many streams a caller may have open: of all services together."""

from __future__ import annotations

from collections import Counter

from semantic_codec.errors import LimitReached


class StreamLimit:
    """``most``: streams of one owner, which is a token's name, or an address without tokens."""

    def __init__(self, most: int):
        self._most, self._open = most, Counter[str]()

    def enter(self, owner: str) -> None:
        """LimitReached: the owner has enough of them."""
        if self._open[owner] >= self._most:
            raise LimitReached(
                f"{owner} has {self._most} streams open",
                allowed=f"up to {self._most}",
                fix="send more on each stream, or raise --stream-limit",
            )
        self._open[owner] += 1

    def leave(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]

    def total(self) -> int:
        return self._open.total()
