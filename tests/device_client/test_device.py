"""Images' numbers: an image after a restart is not answered as an earlier one was."""

from __future__ import annotations

import random
from contextlib import closing
from itertools import islice

import pytest

from device_client import device as module
from device_client.device import Device
from device_client.transports import create_transport
from edge_server.devices import DeviceState
from edge_server.settings import Settings
from semantic_codec.errors import InvalidRequest

NUMBER = 4711


@pytest.fixture
def clock(monkeypatch):
    """`clock[0] += 1` lets a second pass, in a process that has numbered nothing yet."""
    now = [1_760_000_000.0]
    monkeypatch.setattr(module, "_latest", {})
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def sent(tiny, images: int, **settings) -> list[int]:
    """The numbers of a device's next images."""
    with Device(tiny, create_transport("udp", "127.0.0.1:9"), device=NUMBER, **settings) as device:
        return [device.request(bytes(8)).sequence for _ in range(images)]


@pytest.mark.parametrize(("images", "pause_s"), [(1, 1.0), (1, 0.25), (40, 0.5), (200, 0.01)])
def test_no_image_after_a_restart_is_a_repeat(clock, images, pause_s):
    edge, max_age = DeviceState(), Settings().duplicate_s
    for _ in range(200):
        module._latest.clear()  # another process
        clock[0] += 0.5
        for number in islice(module._numbers(NUMBER, None, 4096), images):
            assert edge.accept(number, clock[0], max_age)[1]
            clock[0] += pause_s


def test_images_faster_than_the_clock_are_not_where_the_next_process_begins(clock, monkeypatch):
    edge, max_age, seeded, repeats = DeviceState(), Settings().duplicate_s, random.Random(1), 0
    monkeypatch.setattr(module.secrets, "randbelow", seeded.randrange)
    for _ in range(300):
        module._latest.clear()
        numbers = list(islice(module._numbers(NUMBER, None, 4096), 150))
        accepted = [edge.accept(number, clock[0], max_age)[1] for number in numbers]
        repeats += not all(accepted)
        assert all(accepted[64:])
        clock[0] += 0.85
    assert repeats < 30  # one restart in 32, by chance


def test_devices_of_one_number_share_the_clock(tiny, clock):
    numbers = sent(tiny, 3) + sent(tiny, 50) + sent(tiny, 1)
    assert [(later - first) % 4096 for first, later in zip(numbers, numbers[1:])] == [1] * 53
    clock[0] += 10
    assert (sent(tiny, 1)[0] - numbers[0]) % 4096 == 1280


def test_a_first_number_of_the_users(tiny, clock):
    assert sent(tiny, 3, first_sequence=4094) == [4094, 4095, 0]


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        ((), {"key": "ab" * 32, "sequences": "sequences"}, "key, sequences given"),
        ((), {"timeout": 3}, "timeout given"),
        (("127.0.0.1:9",), {"retries": 3}, "address, retries given"),
    ],
)
def test_a_transport_s_settings_beside_the_object_are_refused(tiny, arguments, settings, named):
    """Dropped without a word, a key would leave the images in the clear."""
    with closing(create_transport("udp", "127.0.0.1:9")) as transport:
        with pytest.raises(InvalidRequest, match=f"{named} beside a transport object.*UdpTransport"):
            Device(tiny, transport, *arguments, **settings)
