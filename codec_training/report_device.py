"""``weaklink export NAME --report BOARD``: what a bundle's encoder asks of a device, and of a link.

Multiply-accumulates, weights and memory follow from ``encoder.bin``; instructions, flash and RAM are those that
``weaklink bench device`` measured, and read "not measured" where it did not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semantic_codec.airtime import LINKS, find_link
from semantic_codec.boards import MEASUREMENTS, Board, DeviceMeasurement, find_board, read_measurement
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.encoder_format import DEPTHWISE, EncoderProgram
from semantic_codec.frame import HEADER_BYTES
from semantic_codec.report import format_table


def print_report(name: str, board: str, link: str | None = None) -> int:
    """Print the report of a bundle, given by name or folder, for a board and one link, by default all of them."""
    bundle = find_bundle(name)
    print(device_report(bundle, find_board(board), [find_link(link).name] if link else list(LINKS)))
    return 0


def device_report(bundle: Bundle, board: Board, links: list[str], measurements: Path = MEASUREMENTS) -> str:
    """Layers, totals, times on the air and where the figures come from, as text."""
    manifest, program = bundle.manifest, EncoderProgram.from_bytes(bundle.encoder_bin)
    measured = read_measurement(bundle, board.core, measurements)
    parts = [
        f"{manifest.name}, version {manifest.version}, on {board.title}",
        format_table(layer_rows(program, board, measured)),
        format_table(total_rows(bundle, program, board, measured), ["what", "value", "unit"]),
        format_table(link_rows(bundle, links)),
        "Sources",
        *sources(board, links),
    ]
    return "\n\n".join(parts[:4]) + "\n\n" + "\n".join(parts[4:])


def layer_rows(program: EncoderProgram, board: Board, measured: DeviceMeasurement) -> list[dict[str, Any]]:
    """One row per layer: its shape, multiply-accumulates, bytes of weights, instructions, time."""
    rows, height, width = [], program.height, program.width
    instructions = measured.layers or (None,) * len(program.layers)
    for index, (layer, macs, count) in enumerate(zip(program.layers, program.layer_macs, instructions, strict=True)):
        shape = layer.shape
        height, width = shape.output_size(height), shape.output_size(width)
        kind = "depthwise" if shape.kind == DEPTHWISE else "full"
        rows.append({
            "layer": index,
            "kind": f"{kind} {shape.kernel}x{shape.kernel}" + (f", stride {shape.stride}" if shape.stride > 1 else ""),
            "output": f"{height}x{width}x{shape.outputs}",
            "macs": macs,
            "weight_bytes": layer.weights.size,
            "instructions": count,
            "instructions_per_mac": None if count is None else count / macs,
            "time_ms": None if count is None else 1e3 * board.seconds(count),
        })  # fmt: skip
    return rows


def total_rows(bundle: Bundle, program: EncoderProgram, board: Board, measured: DeviceMeasurement) -> list[dict[str, Any]]:
    count = measured.instructions
    time_s = None if count is None else board.seconds(count)
    energy_j = None if time_s is None else board.energy_j(time_s)
    rows = [
        ("multiply-accumulates", program.macs, "MACs"),
        ("encoder.bin", len(bundle.encoder_bin), "bytes"),
        ("flash, all in", measured.flash_bytes, "bytes"),
        ("RAM, all in", measured.ram_bytes, "bytes"),
        ("instructions", count, "per image"),
        ("instructions per MAC", None if count is None else count / program.macs, ""),
        ("estimated time", None if time_s is None else 1e3 * time_s, "ms per image, one instruction per cycle"),
        ("estimated energy", None if energy_j is None else 1e3 * energy_j, "mJ per image"),
    ]
    return [{"what": what, "value": value, "unit": unit} for what, value, unit in rows]


def link_rows(bundle: Bundle, links: list[str]) -> list[dict[str, Any]]:
    """Milliseconds on the air and millijoules of the radio of one frame, by link and level; a wire has no radio."""
    rows = []
    for link in map(find_link, links):
        for level in bundle.manifest.levels:
            frame_bytes = HEADER_BYTES + level.payload_bytes
            on_air_s = link.on_air_s(frame_bytes)
            energy_j = link.energy_j(on_air_s)
            rows.append({
                "link": link.name,
                "payload_bytes": level.payload_bytes,
                "frame_bytes": frame_bytes,
                "on_air_ms": 1e3 * on_air_s,
                "energy_mj": "-" if energy_j is None else 1e3 * energy_j,
            })  # fmt: skip
    return rows


def sources(board: Board, links: list[str]) -> list[str]:
    """A line for the board, and one or two for each kind of link."""
    lines = {f"- {board.title}: {board.source}": None}
    for link in map(find_link, links):
        kind = "LoRa" if link.name.startswith("lora") else link.title
        lines[f"- {kind}: {link.source}"] = None
        if link.radio:
            lines[f"- {link.radio.name}, {link.radio.transmit_ma:g} mA at {link.radio.volts:g} V: {link.radio.source}"] = None
    return list(lines)
