"""The devices' keys, read again when their file changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_server.watched_file import WatchedFile
from semantic_codec.key_file import read_keys
from semantic_codec.keyed import DeviceKey


class Keyring(WatchedFile[dict[int, DeviceKey]], Mapping[int, DeviceKey]):
    """Keys by device number."""

    def __init__(self, path: Path):
        super().__init__("keys", (path,), lambda: read_keys(path))

    def __getitem__(self, device: int) -> DeviceKey:
        return self.value[device]

    def __iter__(self) -> Iterator[int]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)
