"""Air times against values published elsewhere, and what must hold for every link."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel_emulator.link import Link as EmulatedLink
from channel_emulator.settings import parse_link
from semantic_codec.airtime import LINKS, find_link
from semantic_codec.errors import InvalidRequest, NotFound

EACH_LINK = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)


@pytest.mark.parametrize(
    ("name", "payload_bytes", "milliseconds"),
    [
        # Semtech's LoRa calculator: 125 kHz, 4/5, 8 preamble symbols, explicit header, CRC; DE from SF11 on.
        ("lora-sf7", 48, 97.536),
        ("lora-sf9", 13, 164.864),
        ("lora-sf9", 48, 308.224),
        ("lora-sf10", 20, 370.688),
        ("lora-sf12", 13, 1155.072),
        ("lora-sf12", 48, 2301.952),
        # The longest frame, 6 + 127 bytes of 32 us; IEEE 802.15.4's well-known 4.256 ms.
        ("802154", 116, 4.256),
        # The longest uncoded packets, which the Core Specification gives as 2,120 and 1,064 us with 4 B for encryption.
        ("ble-1m", 251, 2.088),
        ("ble-2m", 251, 1.048),
        ("ble-1m", 0, 0.080),
        ("uart-115200", 26, 29 * 10 / 115.2),
        # 1,500 B and 28 B of MAC in 6 Mbit/s OFDM: 511 symbols behind 20 us.
        ("wifi-6m", 1500, 2.064),
    ],
)
def test_known_air_times(name, payload_bytes, milliseconds):
    assert 1e3 * find_link(name).packet_s(payload_bytes) == pytest.approx(milliseconds, rel=1e-9)


def test_wifi_acknowledgement_takes_44_us_behind_a_sifs():
    assert find_link("wifi-6m").acknowledgement_s() == pytest.approx(60e-6)


def test_energy_is_time_by_current_by_voltage():
    assert find_link("lora-sf7").energy_j(0.1) == pytest.approx(0.1 * 29e-3 * 3.3)
    assert find_link("uart-115200").energy_j(0.1) is None


@EACH_LINK
@settings(max_examples=50)
@given(total=st.integers(0, 10_000), most=st.one_of(st.none(), st.integers(1, 3000)))
def test_packets_carry_everything_and_fit(link, total, most):
    sizes = link.packets(total, most)
    assert sum(sizes) == total
    assert all(1 <= size <= min(most or link.most_bytes, link.most_bytes) for size in sizes)
    assert link.on_air_s(total) >= 0


@EACH_LINK
@settings(max_examples=50)
@given(data=st.data())
def test_a_longer_packet_is_never_faster_and_one_is_faster_than_two(link, data):
    sizes = st.integers(0, link.most_bytes // 2)
    first, second = data.draw(sizes), data.draw(sizes)
    assert link.packet_s(first + second) >= link.packet_s(max(first, second))
    assert link.packet_s(first + second) < link.packet_s(first) + link.packet_s(second)


@EACH_LINK
def test_a_packet_over_the_bound_is_refused(link):
    with pytest.raises(InvalidRequest, match=f"0 to {link.most_bytes} bytes"):
        link.packet_s(link.most_bytes + 1)


@EACH_LINK
def test_every_link_says_where_its_figures_come_from(link):
    assert link.source and (link.radio is None or link.radio.source)


def test_an_unknown_link_is_refused():
    with pytest.raises(NotFound, match="there is no link 'lora'; allowed: lora-sf7"):
        find_link("lora")


@EACH_LINK
@pytest.mark.parametrize("frame_bytes", [26, 50])
def test_the_emulator_schedules_arrivals_by_these_formulas(link, frame_bytes):
    """On the link's own clock, so that nothing else on this machine counts."""
    body = {"name": "air", "kind": "udp", "upstream": "127.0.0.1:9", "up": link.emulated_by(frame_bytes)}
    emulated = EmulatedLink(parse_link(body))
    (transmission,) = emulated.carry("up", ("127.0.0.1", 1), bytes(frame_bytes), 100.0)
    assert transmission.time - 100.0 == pytest.approx(link.packet_s(frame_bytes), rel=1e-6)
