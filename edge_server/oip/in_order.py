"""Answers to a stream of requests, in the order of these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

Request, Response = TypeVar("Request"), TypeVar("Response")


async def in_order(
    requests: AsyncIterator[Request], answer: Callable[[Request], Coroutine[Any, Any, Response]], window: int
) -> AsyncIterator[Response]:
    """What ``answer`` returns for each request. Up to ``window`` are under way at once, and no more are read; when the
    iterator is closed these are cancelled."""
    under_way: asyncio.Queue[asyncio.Task[Response] | None] = asyncio.Queue()
    room = asyncio.Semaphore(window)

    async def read() -> None:
        try:
            async for request in requests:
                await room.acquire()
                under_way.put_nowait(asyncio.create_task(answer(request)))
        finally:
            under_way.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        while (answering := await under_way.get()) is not None:
            yield await answering
            room.release()
        await reading  # raises what ended it
    finally:
        reading.cancel()
        while not under_way.empty():
            if (left := under_way.get_nowait()) is not None:
                left.cancel()
