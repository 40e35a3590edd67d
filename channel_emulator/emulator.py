"""All links of one emulator: created, changed and removed while others run."""

from __future__ import annotations

import asyncio

from channel_emulator.grpc_proxy import GrpcProxy
from channel_emulator.link import Link
from channel_emulator.serial_proxy import SerialProxy
from channel_emulator.settings import LinkSettings, parse_link
from channel_emulator.udp_proxy import UdpProxy
from semantic_codec.errors import AlreadyExists, ConfigError, NotFound

PROXIES = {"udp": UdpProxy, "serial": SerialProxy, "grpc": GrpcProxy}


class Emulator:
    """Links by name, at most `max_links`, each with its proxy; `max_devices` bounds the devices kept per link."""

    def __init__(self, *, max_links: int = 64, max_devices: int = 256):
        self._max_links = max_links
        self._max_devices = max_devices
        self._proxies: dict[str, UdpProxy | SerialProxy | GrpcProxy] = {}
        # One change at a time: creating a link waits for its port, and its name must not be taken meanwhile.
        self._changing = asyncio.Lock()

    def links(self) -> list[Link]:
        return [proxy.link for proxy in self._proxies.values()]

    def link(self, name: str) -> Link:
        """The link of this name, else NotFound."""
        if name not in self._proxies:
            raise NotFound(
                f"link {name!r} does not exist",
                allowed=", ".join(sorted(self._proxies)) or "none yet",
                fix="create it first, or correct the name",
            )
        return self._proxies[name].link

    async def create(self, body: object) -> Link:
        """Start a link from its JSON object. AlreadyExists: name or port taken. ConfigError: a wrong value."""
        settings = parse_link(body)
        async with self._changing:
            self._refuse_taken(settings)
            proxy = PROXIES[settings.kind](Link(settings, max_devices=self._max_devices))
            await proxy.start()
            self._proxies[settings.name] = proxy
        return proxy.link

    def _refuse_taken(self, settings: LinkSettings) -> None:
        if settings.name in self._proxies:
            raise AlreadyExists(
                f"link {settings.name!r} exists", allowed="a new name", fix="change it (`weaklink link set`, PATCH), or delete it first"
            )
        if len(self._proxies) >= self._max_links:
            raise ConfigError(
                f"{len(self._proxies)} links exist", allowed=f"{self._max_links}", fix="delete one that is not needed"
            )

    async def delete(self, name: str) -> None:
        """Stop a link and close its port, else NotFound."""
        async with self._changing:
            self.link(name)
            await self._proxies.pop(name).stop()

    def reset(self) -> None:
        """Every link back to its start: seeds, states and counts."""
        for link in self.links():
            link.reset()

    async def close(self) -> None:
        """Stop every link."""
        async with self._changing:
            proxies = list(self._proxies.values())
            self._proxies.clear()
            await asyncio.gather(*(proxy.stop() for proxy in proxies))
