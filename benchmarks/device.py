"""``weaklink bench device``: what the encoder costs on an emulated STM32F405 and Cortex-M7.

Instructions are counted by the emulator, one nanosecond each, and read from SysTick: runs differ by one of its
ticks at most, 6 instructions of the STM32F405 and 40 of the Cortex-M7.
They are not cycles: flash wait states, loads and multiplications of more than one cycle come on top.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.emulated_board import MACHINES, emulated_board, firmware_sizes
from codec_training.export_c import write_firmware
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.errors import NotFound, WeaklinkError
from semantic_codec.keyed import DeviceKey
from semantic_codec.report import print_table, results_file, write_json

TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "make", "qemu-system-arm")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench device", description=__doc__)
    parser.add_argument("codecs", nargs="*", default=["digits", "cifar10", "cifar100"], metavar="CODEC", help="bundles by name or folder")
    parser.add_argument("--board", choices=sorted(MACHINES), action="append", help="default: all")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows there")
    arguments = parser.parse_args(argv)
    rows = []
    for name in arguments.codecs:
        bundle = find_bundle(name)
        rows += measure(bundle, arguments.board or sorted(MACHINES))
    columns = ["codec", "board", "layer", "macs", "instructions", "instructions_per_mac", "flash_bytes", "ram_bytes", "stack_bytes"]
    columns += ["keyed_flash_bytes", "keyed_ram_bytes"]
    print_table(rows, columns)
    if arguments.json:
        write_json(arguments.json, rows, seed=1)
    return 0


def measure(bundle: Bundle, boards: Sequence[str]) -> list[dict[str, Any]]:
    """A row for all layers and one for each, by board. WeaklinkError: a bitstream differs from NumPy's."""
    encoder = IntegerEncoder.from_bytes(bundle.encoder_bin)
    shape = (3, encoder.height, encoder.width, 3)
    images = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    expected = pack_symbols(encoder.encode(images), encoder.bits_per_symbol)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in boards:
            keyed_flash, keyed_ram = firmware_sizes(build(bundle, Path(folder) / "keyed", kind, DeviceKey(bytes(32))))
            firmware = build(bundle, Path(folder), kind)
            flash, ram = firmware_sizes(firmware)
            with emulated_board(kind, firmware) as board:
                for image, bitstream in zip(images, expected, strict=True):
                    found, report = board.encode(image.tobytes())
                    if found != bitstream.tobytes():
                        raise WeaklinkError("the board's bitstream differs", allowed="NumPy's", fix="report this as a fault")
            common = {"codec": bundle.manifest.name, "board": kind}
            sizes = {"flash_bytes": flash, "ram_bytes": ram, "stack_bytes": report.stack_bytes}
            sizes |= {"keyed_flash_bytes": keyed_flash, "keyed_ram_bytes": keyed_ram}
            rows.append(common | _row("all", encoder.program.macs, report.instructions) | sizes)
            for number, (macs, count) in enumerate(zip(encoder.program.layer_macs, report.layers, strict=True)):
                rows.append(common | _row(str(number), macs, count))
    return rows


def _row(layer: str, macs: int, instructions: int) -> dict[str, Any]:
    return {"layer": layer, "macs": macs, "instructions": instructions, "instructions_per_mac": round(instructions / macs, 3)}


def build(bundle: Bundle, folder: Path, kind: str, key: DeviceKey | None = None, keep: str = "flash") -> Path:
    """The firmware image of one board, with a key that of keyed mode. NotFound: a tool is missing.

    keep: where keyed mode keeps its sequences; "ram" for emulators, which have no flash to write to.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise NotFound(f"there is no {missing[0]}", allowed=", ".join(TOOLS), fix="apt install gcc-arm-none-eabi qemu-system-arm make")
    write_firmware(bundle, folder, key)
    target = f"build/weaklink-{kind}.elf"
    subprocess.run(["make", "-s", "-C", str(folder), target, f"KEEP={keep}"], check=True, stdout=subprocess.DEVNULL)
    return folder / target


if __name__ == "__main__":
    raise SystemExit(main())
