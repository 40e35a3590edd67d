"""A link: its settings, the devices seen on it, and what it did to their frames. No sockets here."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from channel_emulator.chain import DIRECTIONS, Chain
from channel_emulator.channels import BitChannel, Transmission, channel_settings
from channel_emulator.settings import LinkSettings, parse_change
from semantic_codec.address import Address

SHOWN_DEVICES = 100

# Every frame that enters ends in exactly one of these; the further copies of a frame count as "duplicate" beside it.
OUTCOMES = ("clean", "damaged", "lost", "queue_full")


class Fate(NamedTuple):
    """What became of one frame, all its copies together."""

    outcome: str
    duplicates: int
    bits: int
    flipped: int


def judge(sent: bytes, arrived: list[Transmission], drop_outcome: str) -> Fate:
    """Compare what was sent, a frame or a piece of a serial line, with everything that arrived for it; nothing arrived counts
    as `drop_outcome`. Bits are wrong where they differ from what would have arrived without a flip."""
    if not arrived:
        return Fate(drop_outcome, 0, 0, 0)
    bits, flipped, damaged = 0, 0, False
    for transmission in arrived:
        data = transmission.data
        bits += 8 * len(data)
        if data is not sent:
            flipped += bit_errors(transmission.unflipped, data)
            damaged = damaged or data != sent
    return Fate("damaged" if damaged else "clean", len(arrived) - 1, bits, flipped)


@dataclass
class Tally:
    """Sums of fates: frames by outcome; bits of arriving frames and how many of them are wrong."""

    frames: Counter[str] = field(default_factory=Counter)
    bits: int = 0
    flipped: int = 0

    def add(self, fate: Fate) -> None:
        self.frames[fate.outcome] += 1
        if fate.duplicates:
            self.frames["duplicate"] += fate.duplicates
        self.bits += fate.bits
        self.flipped += fate.flipped

    def as_json(self) -> dict[str, object]:
        return {
            "frames": dict(self.frames),
            "bits": self.bits,
            "bits_flipped": self.flipped,
            "true_ber": self.flipped / self.bits if self.bits else None,
        }


def bit_errors(sent: bytes, arrived: bytes) -> int:
    """How many bits of `arrived` differ from the same places of `sent`."""
    return (int.from_bytes(sent[: len(arrived)], "big") ^ int.from_bytes(arrived, "big")).bit_count()


class Device:
    """One device on a link: chains, which carry its state in each direction, and what happened to its frames."""

    def __init__(self, index: int):
        self.index = index
        self.chains: dict[str, Chain] = {}
        self.tallies = {direction: Tally() for direction in DIRECTIONS}


def _device_json(key: Hashable, device: Device) -> dict[str, object]:
    name = str(Address(*key[:2])) if isinstance(key, tuple) else str(key)
    return {"device": name} | {direction: device.tallies[direction].as_json() for direction in DIRECTIONS}


class Link:
    """Carries frames of devices, known by name or socket address, through the channels that its settings name.

    Each device has state and random numbers of its own; at most `max_devices` are kept, the one silent for longest is
    forgotten first. `carry` is synchronous and takes the time from the caller.
    """

    def __init__(self, settings: LinkSettings, *, max_devices: int = 256):
        self.settings = settings
        self.max_devices = max_devices
        # Frames on their way, and sends that the operating system refused; both kept by the proxy.
        self.in_flight = 0
        self.send_errors = 0
        self.reset()

    def reset(self) -> None:
        """Back to the start: every generator at the seed, every state fresh, every count 0. Settings stay."""
        self.devices: OrderedDict[Hashable, Device] = OrderedDict()
        self.devices_seen = 0
        self.send_errors = 0
        self.tallies = {direction: Tally() for direction in DIRECTIONS}
        self._channel_counts: dict[str, list[Counter[str]]] = {}
        for direction in DIRECTIONS:
            self._restart(direction)

    def change(self, body: object) -> None:
        """Apply a PATCH body. A changed direction starts again at the seed; counts of frames and bits go on."""
        change = parse_change(body, self.settings.kind)
        for key, value in change.items():
            setattr(self.settings, key, value)
        for direction in DIRECTIONS:
            if direction in change or "seed" in change:
                self._restart(direction)

    def _restart(self, direction: str) -> None:
        self._channel_counts[direction] = [Counter() for _ in getattr(self.settings, direction)]
        for device in self.devices.values():
            device.chains.pop(direction, None)

    def _device(self, key: Hashable) -> Device:
        device = self.devices.get(key)
        if device is None:
            if len(self.devices) >= self.max_devices:
                self.devices.popitem(last=False)
            device = self.devices[key] = Device(self.devices_seen)
            self.devices_seen += 1
        else:
            self.devices.move_to_end(key)
        return device

    def carry(self, direction: str, key: Hashable, data: bytes, now: float) -> list[Transmission]:
        """What becomes of one frame of the device `key`, entering at `now` in seconds. Empty where it is lost."""
        device = self._device(key)
        chain = device.chains.get(direction)
        if chain is None:
            channels, counts = getattr(self.settings, direction), self._channel_counts[direction]
            chain = Chain(channels, self.settings.seed, direction, device.index, counts)
            device.chains[direction] = chain
        arrived, drop_outcome = chain.carry(data, now)
        fate = judge(data, arrived, drop_outcome)
        self.tallies[direction].add(fate)
        device.tallies[direction].add(fate)
        return arrived

    def room_at(self, direction: str, key: Hashable) -> float:
        """From when on no channel drops a frame of the device `key` for want of room."""
        device = self.devices.get(key)
        chain = None if device is None else device.chains.get(direction)
        return 0.0 if chain is None else chain.room_at()

    def refuse(self, direction: str) -> None:
        """Count a frame that found the link's own buffers full."""
        self.tallies[direction].frames["queue_full"] += 1

    def as_json(self) -> dict[str, object]:
        """Settings as they were given, with the bound port; counts by direction, channel and device.

        `devices` lists the latest `SHOWN_DEVICES` of those that the link remembers; `stats` counts them all.
        """
        settings = self.settings
        answer: dict[str, object] = {
            "name": settings.name,
            "kind": settings.kind,
            "listen": str(settings.listen),
            "upstream": str(settings.upstream),
            "seed": settings.seed,
            "up": [channel_settings(channel) for channel in settings.up],
            "down": [channel_settings(channel) for channel in settings.down],
        }
        stats: dict[str, object] = {
            "devices": len(self.devices),
            "in_flight": self.in_flight,
            "send_errors": self.send_errors,
        }
        for direction in DIRECTIONS:
            stats[direction] = self.tallies[direction].as_json() | {"channels": self._channels_json(direction)}
        answer["stats"] = stats
        latest = islice(reversed(self.devices.items()), SHOWN_DEVICES)
        answer["devices"] = [_device_json(key, device) for key, device in latest]
        return answer

    def _channels_json(self, direction: str) -> list[dict[str, object]]:
        rows = []
        for channel, counts in zip(getattr(self.settings, direction), self._channel_counts[direction], strict=True):
            row: dict[str, object] = {"channel": channel.name} | dict(counts)
            if isinstance(channel, BitChannel):
                row["expected_ber"] = channel.expected_ber
            rows.append(row)
        return rows
