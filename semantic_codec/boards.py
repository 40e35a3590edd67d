"""Microcontroller boards, and what the device library was measured to need on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semantic_codec.bundle import Bundle
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import NotFound
from semantic_codec.report import read_rows

MEASUREMENTS = Path(__file__).parents[1] / "benchmarks" / "results" / "device.json"


@dataclass(frozen=True)
class Board:
    """A part at a clock. core: whose instruction counts hold for it. run_ma: current while it computes, None: not given.

    Times are instructions / clock, that is at one cycle per instruction: wait states of the flash, branches and loads
    cost cycles that instruction counts do not show, and a Cortex-M7 may run two instructions in one.
    """

    name: str
    title: str
    core: str
    clock_hz: float
    source: str
    run_ma: float | None = None
    volts: float = 3.3

    def seconds(self, instructions: float) -> float:
        return instructions / self.clock_hz

    def energy_j(self, seconds: float) -> float | None:
        return None if self.run_ma is None else seconds * self.run_ma * self.volts / 1e3


BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        Board("stm32f405", "STM32F405, Cortex-M4F at 168 MHz", "f405", 168e6,
              "ST DS8626: 168 MHz; 40 mA assumed, after its table of run mode with the ART accelerator and without "
              "peripherals (typical, 25 °C); `weaklink bench latency --run-ma MA` changes it", run_ma=40.0),
        Board("stm32f746", "STM32F746, Cortex-M7 at 216 MHz", "m7", 216e6, "ST DS10916: 216 MHz"),
        Board("stm32h743", "STM32H743, Cortex-M7 at 480 MHz", "m7", 480e6, "ST DS12110: 480 MHz"),
    )
}  # fmt: skip


def find_board(name: str) -> Board:
    """A board by its name. NotFound: there is none."""
    if name not in BOARDS:
        raise NotFound(f"there is no board {name!r}", allowed=", ".join(BOARDS), fix="name one of these")
    return BOARDS[name]


@dataclass(frozen=True)
class DeviceMeasurement:
    """What one codec's encoder needs on one core. None: not measured. layers: instructions of each layer."""

    instructions: int | None = None
    layers: tuple[int, ...] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None


def read_measurement(bundle: Bundle, core: str, path: Path = MEASUREMENTS) -> DeviceMeasurement:
    """What ``weaklink bench device`` wrote for a codec and a core ("f405", "m7"); all None where there is nothing, or of an
    encoder of that name with other layers.

    Its rows carry codec, board, layer ("all", "0", "1", ...), macs and instructions; that of all layers flash and RAM too.
    """
    layers = {row["layer"]: row for row in read_rows(path) if (row["codec"], row["board"]) == (bundle.manifest.name, core)}
    if "all" not in layers or not bundle.runs_on_devices:
        return DeviceMeasurement()
    whole = layers.pop("all")
    program = EncoderProgram.from_bytes(bundle.encoder_bin)
    if {layer: row["macs"] for layer, row in layers.items()} != {str(layer): macs for layer, macs in enumerate(program.layer_macs)}:
        return DeviceMeasurement()
    counts = tuple(layers[str(index)]["instructions"] for index in range(len(layers)))
    return DeviceMeasurement(whole["instructions"], counts, whole.get("flash_bytes"), whole.get("ram_bytes"))
