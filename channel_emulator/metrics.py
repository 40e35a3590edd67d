"""The emulator's Prometheus metrics, read from the links whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from channel_emulator.chain import DIRECTIONS
from channel_emulator.emulator import Emulator
from channel_emulator.link import OUTCOMES


class LinkCollector(Collector):
    """Counts of every link by direction; a reset or deleted link starts again at 0, as a restarted process would."""

    def __init__(self, emulator: Emulator):
        self._emulator = emulator

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not depend on the links of the moment."""
        return []

    def collect(self) -> Iterator[Metric]:
        where = ["link", "direction"]
        bits = CounterMetricFamily("weaklink_link_bits", "Bits of frames that arrived.", labels=where)
        flipped = CounterMetricFamily("weaklink_link_bits_flipped", "Bits that arrived wrong.", labels=where)
        ber = GaugeMetricFamily("weaklink_link_true_ber", "Share of wrong bits since the reset.", labels=where)
        frames = CounterMetricFamily("weaklink_link_frames", "Frames by outcome.", labels=[*where, "outcome"])
        waiting = GaugeMetricFamily("weaklink_link_frames_in_flight", "Frames on their way.", labels=["link"])
        devices = GaugeMetricFamily("weaklink_link_devices", "Devices that the link remembers.", labels=["link"])
        errors = CounterMetricFamily("weaklink_link_send_errors", "Sends that failed.", labels=["link"])
        for link in self._emulator.links():
            name = link.settings.name
            waiting.add_metric([name], link.in_flight)
            devices.add_metric([name], len(link.devices))
            errors.add_metric([name], link.send_errors)
            for direction in DIRECTIONS:
                tally = link.tallies[direction]
                bits.add_metric([name, direction], tally.bits)
                flipped.add_metric([name, direction], tally.flipped)
                if tally.bits:
                    ber.add_metric([name, direction], tally.flipped / tally.bits)
                for outcome in (*OUTCOMES, "duplicate"):
                    frames.add_metric([name, direction, outcome], tally.frames[outcome])
        yield from (bits, flipped, ber, frames, waiting, devices, errors)
