"""The UDP proxy on real sockets, in front of an upstream that sends every frame back."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import pytest

from channel_emulator.link import bit_errors
from channel_emulator.udp_proxy import UdpProxy
from semantic_codec.address import Address
from semantic_codec.errors import AlreadyExists, ConfigError, Unavailable
from tests.channel_emulator.conftest import EchoUpstream

FRAME = bytes(range(50))


async def create(emulator, upstream, up=(), down=(), **more):
    body = {"name": "radio", "kind": "udp", "upstream": upstream.address, "up": list(up), "down": list(down)} | more
    return await emulator.create(body)


async def settle(condition):
    """Wait until `condition` holds; the test's own time limit ends a wait that is in vain."""
    while not condition():
        await asyncio.sleep(0.005)


async def test_frames_pass_both_ways_untouched_without_channels(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream)
    client = await connect(link.settings.listen)
    for frame in (FRAME, b"x", bytes(60_000)):
        assert await client.exchange(frame) == frame
    assert link.tallies["up"].frames == link.tallies["down"].frames == {"clean": 3}


async def test_bits_flip_both_ways_and_are_counted(emulator, udp_upstream, connect):
    link = await create(
        emulator, udp_upstream, [{"channel": "bsc", "ber": 0.05}], [{"channel": "bsc", "ber": 0.2}], seed=3
    )
    client = await connect(link.settings.listen)
    replies = [await client.exchange(FRAME) for _ in range(50)]
    received = udp_upstream.frames
    up, down = link.tallies["up"], link.tallies["down"]
    assert up.bits == down.bits == 50 * 400
    assert up.flipped == sum(bit_errors(FRAME, frame) for frame in received)
    assert down.flipped == sum(map(bit_errors, received, replies))
    assert 0 < up.flipped < down.flipped


async def test_the_same_seed_gives_the_same_frames_again(emulator, udp_upstream, connect):
    noise = [{"channel": "gilbert_elliott", "p": 0.01, "r": 0.1}]
    link = await create(emulator, udp_upstream, noise, seed=4)
    client = await connect(link.settings.listen)
    first = [await client.exchange(FRAME) for _ in range(20)]
    link.reset()
    again = [await client.exchange(FRAME) for _ in range(20)]
    other = await create(emulator, udp_upstream, noise, seed=4, name="other")
    client = await connect(other.settings.listen)
    assert first == again == [await client.exchange(FRAME) for _ in range(20)]


async def test_each_client_gets_its_own_replies_and_state(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream, [{"channel": "bsc", "ber": 0.1}])
    clients = [await connect(link.settings.listen) for _ in range(3)]
    for client in clients:
        client.send(FRAME)
    replies = [await client.reply() for client in clients]
    assert len(set(replies)) == 3 and set(replies) == set(udp_upstream.frames)
    assert len(udp_upstream.senders) == 3
    rows = link.as_json()["devices"]
    assert {row["device"] for row in rows} == {client.address for client in clients}
    assert [row["up"]["bits"] for row in rows] == [400] * 3


async def test_clients_beyond_the_bound_take_the_place_of_the_oldest(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream)
    for _ in range(10):
        client = await connect(link.settings.listen)
        assert await client.exchange(FRAME) == FRAME
    assert len(link.devices) == link.max_devices == 4


async def test_a_client_that_speaks_keeps_its_socket(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream)
    clients = [await connect(link.settings.listen) for _ in range(link.max_devices + 1)]
    for client in (*clients[:-1], clients[0], clients[-1]):
        assert await client.exchange(FRAME) == FRAME
    assert len(udp_upstream.senders) == len(clients)
    await clients[0].exchange(FRAME)
    assert len(udp_upstream.senders) == len(clients)
    await clients[1].exchange(FRAME)
    assert len(udp_upstream.senders) == len(clients) + 1


async def test_loss_truncation_and_duplication_reach_the_upstream(emulator, udp_upstream, connect):
    link = await create(
        emulator,
        udp_upstream,
        [
            {"channel": "erasure", "probability": 0.3},
            {"channel": "truncation", "probability": 0.3, "keep_bytes": 20},
            {"channel": "duplication", "probability": 0.3},
        ],
    )
    client = await connect(link.settings.listen)
    for _ in range(100):
        client.send(FRAME)
    frames = link.tallies["up"].frames
    await settle(lambda: frames["clean"] + frames["damaged"] + frames["lost"] == 100)
    await settle(lambda: len(udp_upstream.frames) == 100 - frames["lost"] + frames["duplicate"])
    assert {len(frame) for frame in udp_upstream.frames} == {20, 50}
    assert min(frames["lost"], frames["damaged"], frames["duplicate"]) > 0


async def test_a_delayed_frame_waits_and_a_later_one_may_overtake_it(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream, [{"channel": "delay", "delay_ms": 150}])
    client = await connect(link.settings.listen)
    began = asyncio.get_running_loop().time()
    client.send(b"slow")
    await settle(lambda: link.in_flight == 1)
    link.change({"up": []})
    client.send(b"fast")
    assert [await client.reply(), await client.reply()] == [b"fast", b"slow"]
    assert asyncio.get_running_loop().time() - began >= 0.15
    assert link.in_flight == 0


async def test_a_frame_that_is_due_waits_behind_one_that_was_due_before(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream, [{"channel": "delay", "delay_ms": 20}])
    client = await connect(link.settings.listen)
    client.send(b"first")
    await settle(lambda: link.in_flight == 1)
    link.change({"up": []})
    client.send(b"second")
    time.sleep(0.05)  # the loop is late: a frame to read, and one whose time has passed
    assert [await client.reply(), await client.reply()] == [b"first", b"second"]


async def test_jitter_that_keeps_order_does_so_up_to_the_upstream(emulator, udp_upstream, connect):
    link = await create(
        emulator, udp_upstream, [{"channel": "delay", "delay_ms": 20, "jitter_ms": 20, "keep_order": True}]
    )
    client = await connect(link.settings.listen)
    frames = [number.to_bytes(2, "big") for number in range(200)]
    for number, frame in enumerate(frames):
        client.send(frame)
        if number % 4 == 0:
            await asyncio.sleep(0.001)
    await settle(lambda: len(udp_upstream.frames) == len(frames))
    assert udp_upstream.frames == frames
    assert link.in_flight == 0


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_frames_beyond_the_bound_of_waiting_ones_are_counted(emulator, udp_upstream, connect, direction):
    link = await create(emulator, udp_upstream)
    link.change({direction: [{"channel": "delay", "delay_ms": 60_000}]})
    await emulator.delete("radio")
    proxy = UdpProxy(link, max_in_flight=5)
    await proxy.start()
    try:
        client = await connect(link.settings.listen)
        for _ in range(8):
            client.send(FRAME)
        await settle(lambda: sum(link.tallies[direction].frames.values()) == 8)
        assert link.tallies[direction].frames == {"clean": 5, "queue_full": 3}
        assert link.in_flight == 5
    finally:
        await proxy.stop()


async def test_channels_change_while_frames_pass(emulator, udp_upstream, connect):
    link = await create(emulator, udp_upstream)
    client = await connect(link.settings.listen)
    assert await client.exchange(FRAME) == FRAME
    link.change({"up": [{"channel": "bsc", "ber": 0.5}]})
    assert await client.exchange(FRAME) != FRAME
    link.change({"up": []})
    assert await client.exchange(FRAME) == FRAME


async def test_an_upstream_that_is_down_costs_frames_and_nothing_else(emulator, udp_upstream, connect):
    address = udp_upstream.address
    udp_upstream.transport.close()
    await asyncio.sleep(0)
    link = await create(emulator, udp_upstream)
    client = await connect(link.settings.listen)
    client.send(FRAME)
    await settle(lambda: link.send_errors > 0)
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    transport, revived = await loop.create_datagram_endpoint(type(udp_upstream), local_addr=(host, int(port)))
    assert await client.exchange(FRAME) == FRAME
    transport.close()


@pytest.mark.skipif(sys.platform != "linux", reason="which call gets the news is the system's choice")
async def test_news_of_an_earlier_frame_costs_no_further_one(emulator, udp_upstream):
    link = await create(emulator, udp_upstream)
    proxy, client = UdpProxy(link), ("192.0.2.1", 9)
    link.settings.listen = Address("127.0.0.1", 0)
    await proxy.start()
    host, port = udp_upstream.address.rsplit(":", 1)
    udp_upstream.transport.abort()
    await asyncio.sleep(0)
    try:
        proxy._send_up(b"to nobody", client)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as revived:
            revived.bind((host, int(port)))
            revived.settimeout(10)
            proxy._send_up(b"to somebody", client)  # the kernel refuses this call for the frame before
            assert revived.recv(100) == b"to somebody"
        assert link.send_errors == 0
    finally:
        await proxy.stop()


async def test_a_deleted_link_frees_its_port(emulator, udp_upstream):
    link = await create(emulator, udp_upstream)
    listen = str(link.settings.listen)
    with pytest.raises(AlreadyExists, match=listen):
        await create(emulator, udp_upstream, name="second", listen=listen)
    await emulator.delete("radio")
    assert str((await create(emulator, udp_upstream, name="second", listen=listen)).settings.listen) == listen


async def test_ipv6_addresses_work(emulator, connect):
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(EchoUpstream, local_addr=("::1", 0))
    port = transport.get_extra_info("sockname")[1]
    body = {"name": "six", "kind": "udp", "listen": "[::1]:0", "upstream": f"[::1]:{port}"}
    link = await emulator.create(body)
    assert str(link.settings.listen).startswith("[::1]:")
    client = await connect(link.settings.listen)
    assert await client.exchange(FRAME) == FRAME
    assert link.as_json()["devices"][0]["device"].startswith("[::1]:")
    transport.close()


async def test_unknown_hosts_and_foreign_addresses_are_refused(emulator, udp_upstream):
    with pytest.raises(Unavailable, match="no-such-host.invalid:9"):
        await emulator.create({"name": "a", "kind": "udp", "upstream": "no-such-host.invalid:9"})
    for host in ("a\0b", "." * 70, "x" * 300):
        with pytest.raises(Unavailable, match="is unknown"):
            await emulator.create({"name": "a", "kind": "udp", "upstream": f"{host}:9"})
    with pytest.raises(ConfigError, match="192.0.2.1:9000"):
        await create(emulator, udp_upstream, listen="192.0.2.1:9000")
    assert emulator.links() == []
