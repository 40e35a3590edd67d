"""A serial line over TCP, both ways: bits flip, bytes get lost and appear; TCP itself stays whole."""

from __future__ import annotations

import asyncio
import contextlib

from channel_emulator.link import Link
from channel_emulator.timeline import Timeline
from channel_emulator.udp_proxy import bind_error, resolve
from semantic_codec.address import Address

PIECE_BYTES = 64
"""Bytes that pass the channels together: few, so that a slow `rate` lets them through as a UART does, not in lumps."""

WAITING_PIECES = 4096
CONNECT_S = 10.0
LINGER_S = 5.0
"""How long one direction may go on after the other was closed and nothing is on its way any more."""


class SerialProxy:
    """Listens for TCP connections, each a line of its own to the upstream and a device of the link.

    The order of bytes is kept: a piece that is delayed delays all behind it. A line that waits for too much stops
    reading, so TCP slows its sender down.
    """

    def __init__(self, link: Link):
        self.link = link
        self._lines: set[asyncio.Task] = set()

    async def start(self) -> None:
        """Bind and begin. Unavailable: unknown host. AlreadyExists: the port is taken. ConfigError: not bindable."""
        settings = self.link.settings
        await resolve("upstream", settings.upstream)
        _, where = (await resolve("listen", settings.listen))[0]
        try:
            self._server = await asyncio.start_server(self._enter, where[0], where[1])
        except OSError as error:
            raise bind_error(settings.listen, error) from None
        settings.listen = Address(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Close every line; bytes on their way are dropped."""
        self._server.close()
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        self._lines.add(line)
        try:
            await self._carry_line(reader, writer)
        except asyncio.CancelledError:
            pass  # stopped; asyncio's server would log it as an error
        finally:
            self._lines.discard(line)
            writer.close()

    async def _carry_line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = self.link.settings.upstream
        device = writer.get_extra_info("peername")[:2]
        try:
            async with asyncio.timeout(CONNECT_S):
                there, back = await asyncio.open_connection(upstream.host, upstream.port)
        except OSError:  # TimeoutError is one
            self.link.send_errors += 1
            return
        up, down = Timeline(WAITING_PIECES), Timeline(WAITING_PIECES)
        ways = [
            asyncio.create_task(self._carry_way("up", device, reader, up, back)),
            asyncio.create_task(self._carry_way("down", device, there, down, writer)),
        ]
        clock = asyncio.get_running_loop().time
        try:
            # An end that closed its side may still wait for what is on the way; one that is gone must not hold on.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            ended, rest = clock(), True
            while rest and (wait_s := max(ended, up.last, down.last) + LINGER_S - clock()) > 0:
                _, rest = await asyncio.wait(ways, timeout=wait_s)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()

    async def _carry_way(
        self,
        direction: str,
        device: tuple,
        reader: asyncio.StreamReader,
        timeline: Timeline,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One direction of one line, until its sender closes it; then the other side is told."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._take(direction, device, reader, timeline))
                both.create_task(self._give(timeline, writer))
        finally:
            self.link.in_flight -= len(timeline)  # what a line that is cancelled leaves behind

    async def _take(self, direction: str, device: tuple, reader: asyncio.StreamReader, timeline: Timeline) -> None:
        clock = asyncio.get_running_loop().time
        latest = 0.0
        try:
            while data := await _read(reader):
                while (wait_s := self.link.room_at(direction, device) - clock()) > 0:
                    await asyncio.sleep(wait_s)
                for transmission in self.link.carry(direction, device, data, clock()):
                    latest = max(latest, transmission.time)
                    await timeline.put(latest, transmission.data)
                    self.link.in_flight += 1
        finally:
            timeline.close()

    async def _give(self, timeline: Timeline, writer: asyncio.StreamWriter) -> None:
        """OSError: the receiver is gone, which ends this direction."""
        async for data in timeline:
            self.link.in_flight -= 1
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                self.link.send_errors += 1
                raise
        with contextlib.suppress(OSError, RuntimeError):  # closed already
            writer.write_eof()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(PIECE_BYTES)
    except OSError:
        return b""  # a connection that breaks ends the line like one that is closed
