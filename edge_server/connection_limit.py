"""How many connections the gRPC and HTTP ports have open together: in all, and of one address."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable

from edge_server.addresses import network

QUIET_S = 10.0
"""Between two lines of the log: who is turned away comes again."""
log = logging.getLogger(__name__)


class ConnectionLimit:
    """``most`` in all, ``most_of_one`` of an address, of IPv6 of a /64; the defaults let everybody in."""

    def __init__(
        self, most: float = math.inf, most_of_one: float = math.inf, clock: Callable[[], float] = time.monotonic
    ):
        self._most, self._most_of_one, self._clock = most, most_of_one, clock
        self._open: dict[Hashable, str] = {}  # and whose they are
        self._of = Counter[str]()
        self._turned_away = 0  # since the last line of the log
        self._quiet_until = -math.inf

    def enter(self, connection: Hashable, transport: asyncio.Transport) -> bool:
        """Whether there is room for it; else it is closed at once, without a word that its peer might not take."""
        owner = network(str((transport.get_extra_info("peername") or ("",))[0]))
        if self._of[owner] >= self._most_of_one:
            self._turn_away(transport, f"{owner} has {self._most_of_one} open (--address-limit)")
        elif len(self._open) >= self._most:
            self._turn_away(transport, f"{self._most} are open (--connection-limit, and what `ulimit -n` allows)")
        else:
            self._open[connection] = owner
            self._of[owner] += 1
            return True
        return False

    def leave(self, connection: Hashable) -> None:
        owner = self._open.pop(connection, None)
        if owner is not None:
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]

    def _turn_away(self, transport: asyncio.Transport, why: str) -> None:
        transport.abort()
        self._turned_away += 1
        if self._clock() >= self._quiet_until:
            log.warning("connections closed at once: %d, the last one since %s", self._turned_away, why)
            self._turned_away, self._quiet_until = 0, self._clock() + QUIET_S
