"""What ``weaklink export NAME --report BOARD`` prints."""

from __future__ import annotations

import json

import pytest

from codec_training import export
from codec_training.report_device import device_report, layer_rows, link_rows
from semantic_codec.airtime import LINKS, find_link
from semantic_codec.boards import BOARDS, DeviceMeasurement, find_board, read_measurement
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import NotFound


@pytest.fixture
def bundle():
    return find_bundle("digits")


@pytest.mark.parametrize("board", BOARDS)
def test_the_report_names_board_layers_links_and_sources(board, bundle, capsys):
    assert export.main(["digits", "--report", board]) == 0
    shown = capsys.readouterr().out
    assert find_board(board).title in shown and find_board(board).source in shown
    assert all(name in shown and link.source in shown for name, link in LINKS.items())


def test_one_link_only(capsys, bundle):
    assert export.main([str(bundle.folder), "--report", "stm32f405", "--link", "lora-sf9"]) == 0
    shown = capsys.readouterr().out
    assert "lora-sf9" in shown and "lora-sf7" not in shown and "ESP32" not in shown


def test_layers_add_up(bundle):
    program = EncoderProgram.from_bytes(bundle.encoder_bin)
    rows = layer_rows(program, find_board("stm32f405"), DeviceMeasurement())
    assert sum(row["macs"] for row in rows) == program.macs == bundle.manifest.encoder["macs"]
    assert sum(row["weight_bytes"] for row in rows) == bundle.manifest.encoder["weights"]
    assert rows[-1]["output"] == "x".join(str(program.latent_shape[axis]) for axis in (1, 2, 0))


def test_measured_figures_are_shown_and_missing_ones_said_to_be(tmp_path, bundle):
    program, path = EncoderProgram.from_bytes(bundle.encoder_bin), tmp_path / "device.json"
    board = find_board("stm32f405")
    assert "not measured" in device_report(bundle, board, ["802154"], path)
    common = {"codec": "digits", "board": "f405"}
    rows = [common | {"layer": "all", "instructions": 1_680_000, "flash_bytes": 98_765, "ram_bytes": 43_210}]
    rows += [common | {"layer": str(index), "macs": macs, "instructions": 1680 * (index + 1)} for index, macs in enumerate(program.layer_macs)]
    path.write_text(json.dumps({"rows": rows}))
    text = device_report(bundle, board, ["802154"], path)
    assert "not measured" not in text
    assert all(figure in text for figure in ("1680000", "98765", "43210"))
    assert layer_rows(program, board, read_measurement(bundle, "f405", path))[1]["time_ms"] == pytest.approx(0.02)
    assert read_measurement(bundle, "m7", path) == read_measurement(find_bundle("cifar10"), "f405", path) == DeviceMeasurement()
    rows[3]["macs"] += 1  # of another encoder of that name
    path.write_text(json.dumps({"rows": rows}))
    assert read_measurement(bundle, "f405", path) == DeviceMeasurement()


def test_frames_on_a_link(bundle):
    rows = link_rows(bundle, ["lora-sf7", "uart-115200"])
    assert rows[2]["on_air_ms"] == pytest.approx(1e3 * find_link("lora-sf7").packet_s(26))
    assert rows[5]["energy_mj"] == "-"


def test_unknown_boards_and_links_are_refused():
    with pytest.raises(NotFound, match="there is no board 'avr'; allowed: stm32f405"):
        export.main(["digits", "--report", "avr"])
    with pytest.raises(NotFound, match="there is no link 'wire'"):
        export.main(["digits", "--report", "stm32f405", "--link", "wire"])
