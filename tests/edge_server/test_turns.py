from __future__ import annotations

import asyncio

import pytest

from edge_server.trace_context import TRACEPARENT
from edge_server.turns import BUSY_TURN, SHARE, TURN, TURN_S, Turns


class Reader:
    """Has ``left`` to be read; notes how much it was asked to take each time."""

    def __init__(self, turns: Turns, name: str, left: int, log: list[tuple[str, int]]):
        self._turns, self.name, self.left, self._log = turns, name, left, log
        self.done = asyncio.Event()
        turns.wait(self, self.read)

    def read(self, most: int) -> int:
        self._log.append((self.name, most))
        taken = min(self.left, most)
        self.left -= taken
        if self.left:
            self._turns.wait(self, self.read)
        else:
            self.done.set()
        return taken


async def test_readers_take_turns_of_a_share():
    turns, log = Turns(), []
    readers = [Reader(turns, name, 2 * SHARE + 1, log) for name in "ab"]
    async with asyncio.timeout(30):
        for reader in readers:
            await reader.done.wait()
    assert [name for name, _ in log] == ["a", "b"] * 3
    assert TURN == 2 * SHARE and {most for _, most in log[:4]} == {SHARE}


async def test_without_room_few_are_read_at_a_time():
    room, log = [0], []
    turns = Turns(lambda: room[0])
    assert turns.full
    reader = Reader(turns, "a", 2 * BUSY_TURN + 1, log)
    async with asyncio.timeout(30):
        await reader.done.wait()
    assert log == [("a", BUSY_TURN)] * 3
    room[0] = 1
    assert not turns.full


async def test_who_came_later_waits_until_there_was_room():
    room, log = [0], []
    turns = Turns(lambda: room[0])
    reader = Reader(turns, "a", 1, log)
    room[0] = 1
    assert turns.full
    async with asyncio.timeout(30):
        await reader.done.wait()
    await asyncio.sleep(0)
    assert not turns.full


async def test_room_that_runs_out_ends_the_turn():
    room, log = [1], []
    turns = Turns(lambda: room[0])

    def fill(most: int) -> int:
        room[0] = 0
        return 1

    turns.wait("first", fill)
    reader = Reader(turns, "a", BUSY_TURN, log)
    async with asyncio.timeout(30):
        await reader.done.wait()
    assert log == [("a", BUSY_TURN)]


async def test_a_turn_that_took_long_ends_and_others_go_before_the_next():
    now, log, done = [0.0], [], asyncio.Event()
    turns = Turns(clock=lambda: now[0])

    def slow(most: int) -> int:
        now[0] += 2 * TURN_S
        log.append("slow")
        asyncio.get_running_loop().call_soon(log.append, "the loop's own")
        return 1

    def behind(most: int) -> int:
        log.append("behind")
        done.set()
        return 1

    turns.wait("slow", slow)
    turns.wait("behind", behind)
    async with asyncio.timeout(30):
        await done.wait()
    assert log == ["slow", "the loop's own", "behind"]


async def test_who_leaves_is_not_called():
    turns, log = Turns(), []
    gone, stays = Reader(turns, "gone", 1, log), Reader(turns, "stays", 1, log)
    turns.leave(gone)
    async with asyncio.timeout(30):
        await stays.done.wait()
    assert log == [("stays", SHARE)]


async def test_a_reader_that_fails_is_logged_and_the_others_have_their_turns(caplog: pytest.LogCaptureFixture):
    turns, log = Turns(), []

    def fail(most: int) -> int:
        raise OverflowError("too large")

    turns.wait("fails", fail)
    behind = Reader(turns, "behind", 1, log)
    async with asyncio.timeout(30):
        await behind.done.wait()
        later = Reader(turns, "later", 1, log)
        await later.done.wait()
    assert [name for name, _ in log] == ["behind", "later"] and "too large" in caplog.text


async def test_readers_know_nothing_of_each_other_s_requests():
    turns, seen, done = Turns(), [], asyncio.Event()

    def read(most: int) -> int:
        seen.append(TRACEPARENT.get())
        TRACEPARENT.set("of what was read")
        if len(seen) == 2:
            done.set()
        return 1

    TRACEPARENT.set("of who has to wait")
    for who in "ab":
        turns.wait(who, read)
    async with asyncio.timeout(30):
        await done.wait()
    assert seen == ["", ""]
