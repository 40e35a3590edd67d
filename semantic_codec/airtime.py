"""How long a packet is on the air, and what sending it costs: published formulas and data-sheet currents.

Times are of one packet, from the first preamble bit to the last bit of the check, in seconds. Energy is what the
radio draws while it sends, in joules; listening, sleeping and the microcontroller are not in it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from semantic_codec.errors import InvalidRequest, NotFound


@dataclass(frozen=True)
class Radio:
    """What a part draws while it sends. source: where the current is published."""

    name: str
    transmit_ma: float
    volts: float
    source: str

    @property
    def part(self) -> str:
        return self.name.partition(",")[0]

    @property
    def watts(self) -> float:
        return self.transmit_ma * self.volts / 1e3


SX1276 = Radio(
    "SX1276, +13 dBm", 29.0, 3.3,
    "assumed, after the power consumption table of the Semtech SX1276/77/78/79 data sheet (RFO pin, +13 dBm); "
    "`weaklink bench latency --transmit-ma SX1276=MA` changes it",
)  # fmt: skip
NRF52840 = Radio(
    "nRF52840, 0 dBm", 6.4, 3.0,
    "Nordic nRF52840 product specification, current consumption: I_RADIO_TX1 (1 Mbit/s) and I_RADIO_TX5 (802.15.4), DC/DC",
)  # fmt: skip
ESP32 = Radio(
    "ESP32, +16 dBm", 190.0, 3.3,
    "Espressif ESP32 data sheet, RF power consumption: 802.11g at 54 Mbit/s, a mean at 50 % duty cycle; "
    "it gives none at 6 Mbit/s",
)  # fmt: skip


class Link(ABC):
    """One way of sending packets.

    name; title for people; source of the formula; radio, None for a wire; most_bytes: of one packet's payload;
    overhead_bytes: what the link adds to each packet, in bytes; checked_bytes: those of them that a receiver with its
    CRC on needs whole, beside the payload; access_s: mean wait for the medium before a packet.
    """

    name: str
    title: str
    source: ClassVar[str]
    radio: Radio | None = None
    most_bytes: int
    overhead_bytes: int
    checked_bytes: int
    access_s: float = 0.0

    def packet_s(self, payload_bytes: int) -> float:
        """Seconds on the air of one packet with 0 to `most_bytes` of payload. InvalidRequest: more."""
        if not 0 <= payload_bytes <= self.most_bytes:
            raise InvalidRequest(
                f"a packet of {payload_bytes} bytes on {self.title}",
                allowed=f"0 to {self.most_bytes} bytes",
                fix="split it with packets()",
            )
        return self._packet_s(payload_bytes)

    @abstractmethod
    def _packet_s(self, payload_bytes: int) -> float: ...

    @abstractmethod
    def acknowledgement_s(self) -> float:
        """Seconds between the end of a packet and that of its acknowledgement."""

    @property
    @abstractmethod
    def acknowledgement_bits(self) -> int:
        """Bits of an acknowledgement that must arrive whole."""

    def packets(self, total_bytes: int, most_bytes: int | None = None) -> list[int]:
        """Payload bytes of the packets that carry `total_bytes`, all full but the last."""
        most = min(most_bytes or self.most_bytes, self.most_bytes)
        full, rest = divmod(total_bytes, most)
        return [most] * full + [rest] * (rest > 0)

    def on_air_s(self, total_bytes: int) -> float:
        """Seconds on the air of `total_bytes` in as few packets as possible, each sent once."""
        return sum(self.packet_s(size) for size in self.packets(total_bytes))

    def energy_j(self, on_air_s: float) -> float | None:
        """Joules that the radio draws for sending so long; None for a wire."""
        return None if self.radio is None else on_air_s * self.radio.watts

    def emulated_by(self, payload_bytes: int) -> list[dict[str, Any]]:
        """Channels of the emulator that take as long as this link over packets of `payload_bytes`."""
        return [{"channel": "delay", "delay_ms": 1e3 * self.packet_s(payload_bytes)}]


@dataclass(frozen=True)
class LoRa(Link):
    """LoRa at 125 kHz, coding rate 4/5, explicit header, CRC on, 8 preamble symbols.

    n = 8 + max(ceil((8 PL - 4 SF + 28 + 16) / (4 (SF - 2 DE))) (CR + 4), 0) symbols of 2^SF / BW behind a preamble of
    12.25; low data rate optimization DE = 1 where a symbol lasts over 16 ms. Its own FEC is inside these symbols: a BER
    given for this link is one that is left behind it.
    """

    spreading_factor: int
    source = "Semtech AN1200.13 and SX1276/77/78/79 data sheet, 4.1.1.7 Time on air"
    radio = SX1276
    most_bytes = 255
    overhead_bytes = 5  # explicit header of 20 bits and CRC of 16, in whole bytes
    checked_bytes = 2
    bandwidth_hz: ClassVar[float] = 125e3
    preamble_symbols: ClassVar[float] = 8 + 4.25
    acknowledgement_bytes: ClassVar[int] = 4  # device and sequence; LoRa itself has no acknowledgement

    @property
    def name(self) -> str:
        return f"lora-sf{self.spreading_factor}"

    @property
    def title(self) -> str:
        return f"LoRa SF{self.spreading_factor}"

    @property
    def acknowledgement_bits(self) -> int:
        return 8 * (self.acknowledgement_bytes + self.checked_bytes)

    def _packet_s(self, payload_bytes: int) -> float:
        factor, symbol_s = self.spreading_factor, 2**self.spreading_factor / self.bandwidth_hz
        optimized = symbol_s > 16e-3
        bits = 8 * payload_bytes - 4 * factor + 28 + 16
        symbols = 8 + max(math.ceil(bits / (4 * (factor - 2 * optimized))) * 5, 0)
        return (self.preamble_symbols + symbols) * symbol_s

    def acknowledgement_s(self) -> float:
        return self.packet_s(self.acknowledgement_bytes)


class SteadyLink(Link):
    """A link that sends every byte, its own included, at one rate."""

    bits_per_s: float

    def _packet_s(self, payload_bytes: int) -> float:
        return 8 * (payload_bytes + self.overhead_bytes) / self.bits_per_s

    def emulated_by(self, payload_bytes: int) -> list[dict[str, Any]]:
        return [{"channel": "rate", "bits_per_s": self.bits_per_s, "overhead_bytes": self.overhead_bytes}]


class Ieee802154(SteadyLink):
    """O-QPSK at 2.4 GHz: 4 B preamble, 1 B start, 1 B length; then at most 127 B with 9 B MAC header (short addresses,
    one PAN) and 2 B check. Unslotted CSMA-CA: 3.5 backoffs of 320 us on average, 128 us of listening, 192 us to turn."""

    name, title = "802154", "802.15.4"
    source = "IEEE 802.15.4-2020, clauses 6.2.5.1 (CSMA-CA), 7.2 (MAC frame) and 12 (O-QPSK PHY)"
    radio = NRF52840
    bits_per_s = 250e3
    most_bytes, overhead_bytes, checked_bytes = 116, 17, 12  # checked: MAC header, check, length
    access_s = 3.5 * 320e-6 + 128e-6 + 192e-6
    acknowledgement_bits = 8 * 6

    def acknowledgement_s(self) -> float:
        return 192e-6 + 8 * (6 + 5) / self.bits_per_s


class Ble(SteadyLink):
    """Uncoded Bluetooth LE data packets: preamble of 8 us, 4 B access address, 2 B header, at most 251 B, 3 B check.
    Connection events follow each other without a pause here, 150 us between packets."""

    source = "Bluetooth Core Specification, vol. 6 part B, 2.1 (uncoded packet format) and 4.1 (T_IFS)"
    radio = NRF52840
    most_bytes, checked_bytes = 251, 5
    acknowledgement_bits = 8 * 5

    def __init__(self, megabits_per_s: int):
        self.name, self.title = f"ble-{megabits_per_s}m", f"BLE {megabits_per_s}M"
        self.bits_per_s = megabits_per_s * 1e6
        self.overhead_bytes = megabits_per_s + 4 + 2 + 3

    def acknowledgement_s(self) -> float:
        return 150e-6 + self.packet_s(0) + 150e-6


class Uart(SteadyLink):
    """A serial line, 8N1: 10 bit times for each byte and a sync word of 3 B in front of each packet; a check, if any, is payload."""

    name, title = "uart-115200", "UART 115,200 8N1"
    source = "one start bit, 8 data bits, one stop bit: 10 / 115,200 s for each byte"
    bits_per_s = 0.8 * 115_200
    most_bytes, overhead_bytes, checked_bytes = 255, 3, 0
    acknowledgement_bits = 8 * 4

    def acknowledgement_s(self) -> float:
        return 8 * (4 + self.overhead_bytes) / self.bits_per_s


class Wifi(Link):
    """802.11 OFDM at 6 Mbit/s: 20 us of preamble and SIGNAL, then symbols of 4 us with 24 bits each: 16 service bits, 24 B
    MAC header, payload, 4 B check, 6 tail bits. Access: DIFS of 34 us and 7.5 slots of 9 us on average; SIFS 16 us."""

    name, title = "wifi-6m", "Wi-Fi 6 Mbit/s"
    source = "IEEE 802.11-2020, clause 17 (OFDM PHY): TXTIME, and 9.3 (frame formats)"
    radio = ESP32
    most_bytes, overhead_bytes, checked_bytes = 2304, 28, 28
    access_s = 34e-6 + 7.5 * 9e-6
    acknowledgement_bits = 8 * 14

    def _packet_s(self, payload_bytes: int) -> float:
        return self._bytes_s(payload_bytes + self.overhead_bytes)

    def acknowledgement_s(self) -> float:
        return 16e-6 + self._bytes_s(14)

    @staticmethod
    def _bytes_s(count: int) -> float:
        return 20e-6 + 4e-6 * math.ceil((16 + 8 * count + 6) / 24)


LINKS: dict[str, Link] = {
    link.name: link for link in (*map(LoRa, range(7, 13)), Ieee802154(), Ble(1), Ble(2), Uart(), Wifi())
}


def find_link(name: str) -> Link:
    """A link by its name. NotFound: there is none."""
    if name not in LINKS:
        raise NotFound(f"there is no link {name!r}", allowed=", ".join(LINKS), fix="name one of these")
    return LINKS[name]
