"""Items leave in the order of their times."""

from __future__ import annotations

import asyncio

from channel_emulator.timeline import Timeline


async def test_items_come_in_the_order_of_their_times_and_not_before():
    timeline, now = Timeline(), asyncio.get_running_loop().time()
    for delay, item in ((0.05, b"last"), (0.0, b"first"), (0.02, b"second"), (0.02, b"third")):
        await timeline.put(now + delay, item)
    timeline.close()
    clock = asyncio.get_running_loop().time
    out = [(item, clock() - now) async for item in timeline]
    assert [item for item, _ in out] == [b"first", b"second", b"third", b"last"]
    assert out[-1][1] >= 0.05


async def test_an_earlier_item_that_comes_later_overtakes():
    timeline, now = Timeline(), asyncio.get_running_loop().time()
    await timeline.put(now + 0.05, b"slow")

    async def add():
        await timeline.put(now, b"fast")
        timeline.close()

    adding = asyncio.create_task(add())
    assert [item async for item in timeline] == [b"fast", b"slow"]
    await adding


async def test_putting_waits_for_room():
    timeline = Timeline(bound=2)

    async def fill():
        for number in range(6):
            await timeline.put(0.0, bytes([number]))
        timeline.close()

    filling = asyncio.create_task(fill())
    await asyncio.sleep(0.01)
    assert not filling.done() and len(timeline) == 2
    assert [item[0] async for item in timeline] == [0, 1, 2, 3, 4, 5]
    await filling


async def test_clearing_ends_a_wait_for_room_and_one_for_the_next_item():
    timeline = Timeline(bound=1)
    later = asyncio.get_running_loop().time() + 60
    waiting = asyncio.create_task(anext(aiter(timeline), None))
    await timeline.put(later, b"dropped")
    putting = asyncio.create_task(timeline.put(later, b"too"))
    await asyncio.sleep(0.01)
    assert timeline.clear() == 1
    await putting
    timeline.close()
    assert timeline.clear() == 1 and len(timeline) == 0
    assert await waiting is None
