"""Loads and unloads bundles while they serve, without a request failing for it.

    load:    folders -> checked, network built and tried (own thread) -> served from the next request on
    unload:  found by no request any more -> its last request in flight ended -> network forgotten
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edge_server.engine import Engine
from edge_server.lanes import Engines
from edge_server.repository import Catalogue, Refusal, Repository, ServedCodec, scan, version_folders
from semantic_codec.bundle import Bundle
from semantic_codec.errors import BundleError, NotFound

UNLOADED = "unloaded on request"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleState:
    """A bundle folder that exists or serves. ``reason`` says why it does not serve, or why its reload failed."""

    name: str
    version: int
    serves: bool
    reason: str = ""


class BundleControl:
    """Belongs to the event loop's thread; changes wait for each other, and one that began is completed even where who
    asked for it goes away. ``observe(outcome)`` is called with "ok" or "failed" for each."""

    def __init__(
        self,
        roots: Sequence[Path],
        engine: Engine | Engines,
        repository: Repository,
        observe: Callable[[str], None],
    ):
        self._roots, self._engine, self._repository, self._observe = roots, engine, repository, observe
        self._turn = asyncio.Lock()

    async def reload(self) -> None:
        """Serve what the folders hold now, unloaded bundles included; what cannot be loaded keeps what served.

        BundleError: names what was refused. ConfigError: nothing could serve, so all stays as it is.
        """
        await self._complete(self._load(""))

    async def load(self, name: str) -> None:
        """The same for the versions of one codec. NotFound: it has no folder. BundleError: also of a twin."""
        await self._complete(self._load(name))

    async def unload(self, name: str, version: int = 0) -> None:
        """No longer serve a version of a codec, or with version 0 all of them. NotFound: none serves."""
        await self._complete(self._unload(name, version))

    async def states(self) -> list[BundleState]:
        """Every version of every codec that serves or has a folder, by name and version."""
        reasons = {refusal.path: refusal.reason for refusal in (*self._repository.twins, *self._repository.refused)}
        serves = {(codec.name, codec.version) for codec in self._repository.codecs}
        folders, _ = await asyncio.to_thread(version_folders, self._roots)
        known = serves | {(folder.parent.name, int(folder.name)) for folder in folders}
        return [
            BundleState(name, version, (name, version) in serves, reasons.get(f"{name}/{version}", reasons.get(name, "")))
            for name, version in sorted(known)
        ]

    async def _complete(self, change: Coroutine[Any, Any, None]) -> None:
        async def in_turn() -> None:
            async with self._turn:
                try:
                    await change
                except NotFound:
                    raise  # nothing was tried: what the caller named is not there
                except Exception as error:
                    log.warning("bundles: %s", error)
                    self._observe("failed")
                    raise
                self._observe("ok")

        await asyncio.shield(asyncio.create_task(in_turn()))

    async def _load(self, name: str) -> None:
        before = self._repository.catalogue()
        found = await asyncio.to_thread(self._scan, before, name)
        self._serve(before, found)
        refused = [refusal for refusal in found.refused if name in ("", refusal.path.split("/")[0])]
        if refused:
            raise BundleError(
                "; ".join(f"{refusal.path} was refused: {refusal.reason}" for refusal in refused),
                allowed="bundles that can serve; what served before still does",
                fix="correct or remove the folder, and load again",
            )
        for twin in found.twins:
            if twin.path.split("/")[0] == name and not any(codec.name == name for codec in found.codecs):
                raise BundleError(f"{twin.path}: {twin.reason}", allowed="bundles that can serve", fix="load another codec")

    def _scan(self, before: Catalogue, name: str) -> Catalogue:
        found, unread = version_folders(self._roots, name)
        if name and not found and name not in (folder.name for folder in unread):
            raise NotFound(
                f"codec {name!r} has no bundle",
                allowed=", ".join(sorted({folder.parent.name for folder in version_folders(self._roots)[0]})),
                fix="name one of these, or export a bundle there",
            )
        prepared: list[tuple[str, int, int]] = []

        def prepare(bundle: Bundle, revision: int) -> None:
            self._engine.add(bundle, revision)
            prepared.append((bundle.manifest.name, bundle.manifest.version, revision))

        try:
            return scan(self._roots, prepare, before, name)
        except BaseException:
            for key in prepared:
                self._engine.remove(*key)
            raise

    async def _unload(self, name: str, version: int) -> None:
        before = self._repository.catalogue()
        name = self._repository.get(name, version).name
        gone = {codec for codec in before.codecs if codec.name == name and version in (0, codec.version)}
        rest = tuple(codec for codec in before.codecs if codec not in gone)
        defaults = {known: default for known, default in before.defaults.items() if (known, default) != (name, version)}
        unloaded = tuple(Refusal(f"{codec.name}/{codec.version}", UNLOADED) for codec in gone)
        paths = {refusal.path for refusal in unloaded}
        refused = tuple(refusal for refusal in before.refused if refusal.path not in paths) + unloaded
        self._serve(before, replace(before, codecs=rest, refused=refused, defaults=defaults))

    def _serve(self, before: Catalogue, after: Catalogue) -> None:
        self._repository.replace(after)
        for codec in set(after.codecs) - set(before.codecs):
            log.info("%s %d serves", codec.name, codec.version)
        for codec in set(before.codecs) - set(after.codecs):
            log.info("%s %d is replaced or unloaded", codec.name, codec.version)
            codec.retire(partial(self._forget, codec))

    def _forget(self, codec: ServedCodec) -> None:
        """In a thread: an engine process that is about to start again may take its time to answer."""
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self._engine.remove, codec.name, codec.version, codec.revision)
