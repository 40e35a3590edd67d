import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from semantic_codec.bundle import Bundle, bundle_folders, find_bundle, load_bundle, load_recording
from semantic_codec.calibration import Calibration
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import BundleError, NotFound


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "digits" / "1"
    shutil.copytree(find_bundle("digits").folder, folder)
    return folder


def edit(folder, **changes):
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_is_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = find_bundle("digits")
    assert isinstance(bundle, Bundle) and bundle.manifest.levels[-1].payload_bytes <= 8
    assert IntegerEncoder.from_bytes(bundle.encoder_bin).symbols == bundle.manifest.symbols


def test_the_newest_version_is_taken_and_an_older_one_by_number(copy):
    newer = copy.parent / "10"
    shutil.copytree(copy, newer)
    edit(newer, version=10)
    roots = [copy.parents[1]]
    assert [folder.name for folder in bundle_folders(roots[0])] == ["1", "10"]
    assert find_bundle("digits", roots=roots).manifest.version == 10
    assert find_bundle("digits", 1, roots=roots).manifest.version == 1


def test_the_folder_of_a_codec_is_its_newest_version(copy, monkeypatch):
    shutil.copytree(copy, copy.parent / "10")
    edit(copy.parent / "10", version=10)
    assert find_bundle(str(copy.parent)).manifest.version == 10
    assert find_bundle(str(copy.parent), 1).manifest.version == find_bundle(str(copy)).manifest.version == 1
    monkeypatch.chdir(copy.parents[1])
    assert find_bundle("./digits").manifest.version == 10
    assert find_bundle("digits").manifest.version == 1, "a name is looked up where bundles lie"


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(NotFound, match="no bundle 'digit'; allowed: .*digits 1"):
        find_bundle("digit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2; allowed: 1"),
        ({"codec_id": 64}, "codec_id is 64; allowed: 0 to 63"),
        ({"version": 0}, "version is 0"),
        ({"version": 202611211530}, "version is 202611211530; allowed: 1 to 999999999"),
        ({"levels": [32, 16, 64]}, r"levels are \[32, 16, 64\]"),
        ({"levels": [16, 32]}, "levels are"),
        ({"levels": [-8, 32, 64]}, r"levels are \[-8, 32, 64\]; allowed: ascending whole numbers of symbols from 1 on"),
        ({"levels": [0, 32, 64]}, "levels are"),
        ({"levels": [16.9, 32, 64]}, "levels are"),
        ({"levels": [True, 32, 64]}, "levels are"),
        ({"levels": [16, 57, 64]}, r"levels are \[16, 57, 64\], of \[2, 8, 8\] bytes; allowed: a length of its own for each"),
        ({"tasks": [{"name": "label"}]}, "tasks cannot be read"),
        ({"tasks": [{"name": "label", "classes": ["caf\udce9", "tea"]}]}, r"tasks name 'caf\\udce9'; allowed: text that UTF-8 can write"),
        ({"ber_max": 0.7}, "BER range is 0.0 to 0.7"),
        ({"blind_ber": 0}, "blind_ber is 0"),
        ({"name": 5}, "name is 5"),
        ({"name": "../digits"}, "name is '../digits'; allowed: a letter or digit"),
        ({"files": {}}, "files are"),
        ({"accuracy": [5]}, "accuracy has the row 5; allowed: objects whose ber is from 0 to 0.5"),
        ({"accuracy": [{"level": 1.0}]}, "accuracy has the row {'level': 1.0}"),
        ({"accuracy": [{"level": 3}]}, "accuracy has the row {'level': 3}"),
        ({"accuracy": [{"bundle": "digits-blind", "level": 16}]}, "accuracy has the row"),
        ({"accuracy": [{"ber": 5}]}, "accuracy has the row {'ber': 5}"),
        ({"accuracy": [{"ber": "0.1"}]}, "accuracy has the row {'ber': '0.1'}"),
        ({"accuracy": [{"level": 0, "accuracy_percent": float("nan")}]}, "accuracy has the row"),
        ({"files": {"../../etc/passwd": "00", "encoder.bin": "", "edge.safetensors": ""}}, "plain file names"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"floor": "0.1"}, "has the floor '0.1'; allowed: 0 to 1"),
        ({"ber": [0.1, 0.0]}, r"has the BERs \[0.1, 0.0\]; allowed: ascending"),
        ({"ber": [0.0, float("nan")]}, "has the BERs"),
        ({"ber": []}, "has the temperatures"),
        ({"temperature": []}, "allowed: 3 rows, one per level, of 2 numbers, one per BER"),
        ({"temperature": [[1, 2], [3, 4]]}, "has the temperatures"),
        ({"temperature": [[1, 2], [3, 4], [5]]}, "has the temperatures"),
        ({"temperature": [[1, 2], [3, 4], [5, 0]]}, "numbers, one per BER, from 0.01 to 100.0"),
        ({"temperature": [[1, 2], [3, 4], [5, None]]}, "has the temperatures"),
    ],
)
def test_a_calibration_that_cannot_be_applied_is_refused(copy, changes, message):
    edit(copy, calibration={"floor": 0.01, "ber": [0.0, 0.1], "temperature": [[1, 2], [3, 4], [5, 6]], **changes})
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


def test_an_encoder_that_is_not_the_manifests_is_refused(copy):
    program = EncoderProgram.from_bytes((copy / "encoder.bin").read_bytes())
    last = program.layers[-1]
    half = last.shape.outputs // 2
    shape = replace(last.shape, outputs=half)
    shorter = replace(last, shape=shape, weights=last.weights[:half], thresholds=last.thresholds[:half])
    files = json.loads((copy / "bundle.json").read_text())["files"]
    for data, message in (
        (replace(program, layers=(*program.layers[:-1], shorter)).to_bytes(), "encoder.bin has symbols 32; allowed: 64, as in"),
        (replace(program, height=7).to_bytes(), "encoder.bin has height 7; allowed: 8"),
        (b"junk", "encoder.bin is damaged"),
    ):
        (copy / "encoder.bin").write_bytes(data)
        edit(copy, files={**files, "encoder.bin": hashlib.sha256(data).hexdigest()})
        with pytest.raises(BundleError, match=message):
            load_bundle(copy)


def test_a_wrong_hash_a_missing_file_and_broken_json_are_refused(copy):
    weights = copy / "edge.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(BundleError, match="edge.safetensors has the SHA-256"):
        load_bundle(copy)
    weights.unlink()
    with pytest.raises(BundleError, match="edge.safetensors is missing"):
        load_bundle(copy)
    (copy / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        load_bundle(copy)
    with pytest.raises(NotFound, match="there is no"):
        load_bundle(copy / "nowhere")


def test_a_recording_of_the_wrong_shape_is_refused(copy):
    bundle = load_bundle(copy)
    assert len(load_recording(bundle).labels) == 450
    np.savez(copy / "recording.npz", bitstreams=np.zeros((3, 5), np.uint8), labels=np.zeros(3))
    with pytest.raises(BundleError, match=r"bitstreams are uint8 \(3, 5\); allowed: uint8 \(3, 8\)"):
        load_recording(bundle)
    np.savez(copy / "recording.npz", bitstreams=np.zeros((3, 8), np.uint8), labels=np.zeros((3, 1)))
    with pytest.raises(BundleError, match=r"labels have the shape \(3, 1\)"):
        load_recording(bundle)
    (copy / "recording.npz").unlink()
    with pytest.raises(NotFound, match="has no recording"):
        load_recording(bundle)


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "flipped", "array", "nameless"])
def test_a_damaged_recording_is_refused(copy, damage):
    path = copy / "recording.npz"
    data = path.read_bytes()
    if damage == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "nameless":
        np.savez(path, bitstreams=np.zeros((3, 8), np.uint8))
    else:
        flipped = data[:200] + bytes([data[200] ^ 255]) + data[201:]
        path.write_bytes({"cut": data[: len(data) // 2], "junk": b"hello", "empty": b"", "flipped": flipped}[damage])
    with pytest.raises(BundleError, match="recording.npz cannot be read.*allowed: arrays bitstreams and labels"):
        load_recording(load_bundle(copy))


def test_temperature_is_the_table_and_linear_between(copy):
    edit(copy, calibration={"ber": [0, 0.1], "temperature": [[1, 2], [3, 4], [5, 6]]})
    manifest = load_bundle(copy).manifest
    assert Calibration(manifest).temperature(np.array([0, 1, 2, 2]), np.array([0, 0.1, 0.05, 0.5])).tolist() == [1, 4, 5.5, 6]
    edit(copy, calibration={})
    assert Calibration(load_bundle(copy).manifest).temperature(np.array([0, 1]), np.array([0, 0.1])).tolist() == [1, 1]
