"""`weaklink codecs` over a folder of bundles, one of them broken."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from semantic_codec.errors import NotFound
from tests.device_client.tiny import random_program
from weaklink.codecs import main

ENCODER, EDGE = replace(random_program(), width=6).to_bytes(), b"weights"
MANIFEST = {
    "schema_version": 1, "name": "shapes", "version": 1, "codec_id": 9, "family": "weaklink",
    "tasks": [{"name": "shape", "classes": ["disc", "ring", "bar"]}], "height": 8, "width": 6,
    "symbols": 64, "bits_per_symbol": 1, "levels": [32, 64], "ber_min": 0.0, "ber_max": 0.2, "blind_ber": 0.02,
    "files": {"encoder.bin": hashlib.sha256(ENCODER).hexdigest(), "edge.safetensors": hashlib.sha256(EDGE).hexdigest()},
    "edge": {}, "calibration": {}, "encoder": {"macs": 1200},
    "accuracy": [{"level": 1, "payload_bytes": 8, "ber": 0.01, "accuracy_percent": 91.25}], "training": {},
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "shapes" / "1"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps(MANIFEST))
    (folder / "encoder.bin").write_bytes(ENCODER)
    (folder / "edge.safetensors").write_bytes(EDGE)
    return tmp_path


def test_list_shows_each_bundle_and_writes_json(root, tmp_path, capsys):
    target = tmp_path / "codecs.json"
    assert main(["--bundles", str(root), "--json", str(target)]) == 0
    heading, _, line = capsys.readouterr().out.splitlines()
    assert heading.startswith("codec")
    assert line.split() == ["shapes", "1", "9", "shape", "3", "6x8", "4/8", "1200", str(len(ENCODER)), "no"]
    written = json.loads(target.read_text())["rows"]
    assert written[0]["payload_bytes"] == [4, 8] and written[0]["encoder_macs"] == 1200


def test_one_codec_shows_its_accuracy(root, capsys):
    assert main(["shapes", "--bundles", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "accuracy_percent" in shown and "91.25" in shown


def test_a_broken_bundle_is_refused_and_the_others_listed(root, capsys):
    broken = root / "broken" / "2"
    broken.mkdir(parents=True)
    (broken / "bundle.json").write_text("{}")
    assert main(["--bundles", str(root)]) == 1
    shown = capsys.readouterr()
    assert "shapes" in shown.out
    assert str(broken) in shown.err and "schema_version" in shown.err


def test_a_folder_that_is_not_there_is_told_and_the_others_listed(root, capsys):
    assert main(["--bundles", str(root), "--bundles", str(root / "typo")]) == 1
    shown = capsys.readouterr()
    assert "shapes" in shown.out and f"refused: {root / 'typo'}: there is no such folder" in shown.err


def test_a_folder_without_bundles_is_refused(tmp_path):
    with pytest.raises(NotFound, match="no bundle in "):
        main(["--bundles", str(tmp_path)])


def test_an_unknown_name_lists_what_there_is(root):
    with pytest.raises(NotFound, match="allowed: shapes 1"):
        main(["discs", "--bundles", str(root)])
