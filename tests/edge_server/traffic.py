"""Real traffic: devices that send a codec's recording through links of several BERs, and tell the true classes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from channel_emulator.control_client import call
from device_client.device import Device
from device_client.feedback import Feedback
from device_client.samples import recording_samples
from semantic_codec.bundle import find_bundle

TIMEOUT_S = 30.0  # repeats are for lost frames here, not for a machine that is busy


@contextmanager
def traffic(edge: dict[str, str], control: str, codec: str, bers: tuple[float, ...], rate: float) -> Iterator[None]:
    """One device behind each BER, numbered from 101, each sending ``rate`` images per second until the context ends.

    ``edge`` are the addresses of a running edge node, ``control`` that of the emulator.
    """
    bundle, stop = find_bundle(codec), threading.Event()
    samples = recording_samples(bundle)

    def send(number: int, link: str) -> None:
        until = itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(samples))
        with Device(bundle, "udp", link, device=number, timeout_s=TIMEOUT_S) as device, closing(Feedback(edge["grpc"])) as feedback:
            for sample, delivery in device.stream(until, rate=rate):
                if delivery.answer is not None:
                    feedback.post(number, delivery.answer.sequence, sample.label, codec=codec)

    with ExitStack() as senders:
        senders.callback(stop.set)
        for number, ber in enumerate(bers, 101):
            spec = {"name": f"radio-{number}", "kind": "udp", "upstream": edge["udp"], "seed": number}
            link = call(control, "POST", "/links", {**spec, "up": [{"channel": "bsc", "ber": ber}]})
            thread = threading.Thread(target=send, args=(number, link["listen"]))
            thread.start()
            senders.callback(thread.join)
            senders.callback(stop.set)
        yield
