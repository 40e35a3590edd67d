"""The committed bundles keep what they promise, on every image of their recordings."""

import pytest

from benchmarks.codecs.rows import RIVAL_BUNDLES, find_trained
from codec_training.evaluate import evaluate
from semantic_codec.bundle import MAX_BUNDLE_BYTES, bundle_folders, bundle_roots, find_bundle, load_bundle, load_recording
from semantic_codec.encoder_format import EncoderProgram

BERS = (0.0, 1e-2, 5e-2, 0.1)
# 200,000 passes of the edge network take minutes on two busy cores.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def cifar10():
    """Rows of `weaklink evaluate cifar10 --recording --draws 1` by payload bytes and BER."""
    bundle = find_bundle("cifar10")
    return {(row["payload_bytes"], row["ber"]): row for row in evaluate(bundle, load_recording(bundle), BERS, draws=1)}


@pytest.mark.parametrize(("payload_bytes", "least"), [(32, 89.5), (16, 89.5), (8, 89), (4, 84)])
def test_cifar10_on_an_error_free_link(cifar10, payload_bytes, least):
    row = cifar10[payload_bytes, 0.0]
    assert row["images"] == 10_000 and row["accuracy_percent"] >= least


@pytest.mark.parametrize(("ber", "most"), [(1e-2, 0.5), (5e-2, 1), (0.1, 2)])
def test_cifar10_bends_and_does_not_break(cifar10, ber, most):
    assert cifar10[32, 0.0]["accuracy_percent"] - cifar10[32, ber]["accuracy_percent"] <= most


@pytest.mark.parametrize(("payload_bytes", "most"), [(32, 2), (16, 2), (8, 2), (4, 4)])
def test_cifar10_confidence_is_calibrated(cifar10, payload_bytes, most):
    assert max(cifar10[payload_bytes, ber]["calibration_error_percent"] for ber in BERS) <= most


def test_cifar100_on_an_error_free_link():
    bundle = find_bundle("cifar100")
    rows = {row["payload_bytes"]: row for row in evaluate(bundle, load_recording(bundle), (0.0,))}
    assert rows[48]["images"] == 10_000
    assert rows[48]["accuracy_percent"] >= 62.5 and rows[24]["accuracy_percent"] >= 61 and rows[12]["accuracy_percent"] >= 58


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_encoders_of_small_pictures_fit_the_device(name):
    data = find_bundle(name).encoder_bin
    assert EncoderProgram.from_bytes(data).macs <= 8_000_000 and len(data) <= 112_000


def test_digits_in_8_bytes():
    bundle = find_bundle("digits")
    rows = {row["ber"]: row for row in evaluate(bundle, load_recording(bundle), (0.0, 0.05)) if row["payload_bytes"] == 8}
    assert bundle.manifest.levels[-1].payload_bytes == 8
    assert rows[0.0]["accuracy_percent"] >= 97 and rows[0.05]["accuracy_percent"] >= 93


def test_semanticnn_has_what_its_manifest_says_and_is_not_served(tmp_path):
    name = "cifar100_semanticnn_mobilenet_65"
    bundle = find_trained(name, tmp_path)
    (row,) = evaluate(bundle, load_recording(bundle), (0.0,))
    assert row["accuracy_percent"] == pytest.approx(bundle.manifest.accuracy[0]["accuracy_percent"], abs=0.1)
    assert name not in {folder.parent.name for root in bundle_roots() for folder in bundle_folders(root)}


@pytest.mark.parametrize("folder", [*bundle_folders(bundle_roots()[0]), *bundle_folders(RIVAL_BUNDLES)], ids=lambda folder: folder.parent.name)
def test_every_bundle_is_whole_and_small_enough(folder):
    bundle = load_bundle(folder)
    assert bundle.manifest.name == folder.parent.name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BUNDLE_BYTES
    assert len({(row["level"], row["ber"]) for row in bundle.manifest.accuracy}) == len(bundle.manifest.accuracy) > 0


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits"])
def test_a_blind_twin_decodes_the_same_bits(name):
    codec, twin = find_bundle(name), find_bundle(f"{name}-blind")
    assert twin.manifest.twin_of == name and twin.encoder_bin == codec.encoder_bin
