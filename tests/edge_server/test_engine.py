from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from edge_server.engine import Engine, EngineRequest
from edge_server.runtimes import RUNTIMES, load_network
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.errors import BundleError, ConfigError, NotFound
from tests.edge_server.conftest import LEVELS, make_bundle

BITS = LEVELS[-1]


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine([bundle])


def request(bitstream: bytes, level: int = 2, ber: float = 0.01, **changes) -> EngineRequest:
    return EngineRequest("toy", 0, level, bitstream, ber, **changes)


def mixed(bitstreams: np.ndarray) -> tuple[list[EngineRequest], np.ndarray, np.ndarray, np.ndarray]:
    """100 requests of all levels, several BERs and some erasures, and the same as arrays."""
    rng = np.random.default_rng(1)
    level = rng.integers(0, 3, len(bitstreams))
    ber = rng.choice([0.0, 1e-3, 0.05, 0.2, 0.5], len(bitstreams)).astype(np.float32)
    erased = np.zeros((len(bitstreams), BITS), bool)
    requests = []
    for row, bits in enumerate(bitstreams):
        ranges = ((0, 3), (7, 5)) if row % 3 == 0 else ()
        for first, count in ranges:
            erased[row, first : first + count] = True
        payload = bits.tobytes()[: LEVELS[level[row]] // 8]
        requests.append(request(payload, int(level[row]), float(ber[row]), erased=ranges, top_k=10))
    return requests, level, ber, erased


def test_batched_requests_arrays_and_lone_requests_agree(engine: Engine, bitstreams: np.ndarray):
    requests, level, ber, erased = mixed(bitstreams)
    answers = engine.infer(requests)
    arrays = engine.infer_arrays("toy", np.unpackbits(bitstreams, axis=1), level, ber, erased)
    for row, (asked, answer) in enumerate(zip(requests, answers)):
        lone = engine.infer([asked])[0]
        for task, values in arrays.items():
            best = dict(answer.tasks[task])
            assert list(best.values()) == sorted(best.values(), reverse=True)
            np.testing.assert_allclose([best[index] for index in range(len(values[row]))], values[row], atol=1e-5)
            np.testing.assert_allclose(sorted(best.items()), sorted(dict(lone.tasks[task]).items()), atol=1e-5)
    assert arrays["shape"].shape == (100, 10) and arrays["colour"].shape == (100, 3)
    np.testing.assert_allclose(arrays["shape"].sum(axis=1), 1, atol=1e-5)


def test_offline_chunks_join_in_order(engine: Engine, bitstreams: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    bits = np.unpackbits(bitstreams, axis=1)
    level, ber = np.full(100, 2), np.full(100, 0.02, np.float32)
    whole = engine.infer_arrays("toy", bits, level, ber)
    monkeypatch.setattr("edge_server.engine.CHUNK", 7)
    np.testing.assert_allclose(engine.infer_arrays("toy", bits, level, ber)["shape"], whole["shape"], atol=1e-5)


def test_bits_beyond_the_level_are_ignored(engine: Engine, bitstreams: np.ndarray):
    bits = np.unpackbits(bitstreams, axis=1)
    level, ber = np.zeros(100, int), np.full(100, 0.01, np.float32)
    scrambled = bits.copy()
    scrambled[:, LEVELS[0] :] ^= 1
    ours, theirs = (engine.infer_arrays("toy", each, level, ber)["shape"] for each in (bits, scrambled))
    np.testing.assert_array_equal(ours, theirs)


def test_what_the_channel_said_changes_the_answer(engine: Engine, bitstreams: np.ndarray):
    payload = bitstreams[0].tobytes()
    plain, worse, erased = engine.infer(
        [request(payload, ber=0.0), request(payload, ber=0.2), request(payload, ber=0.0, erased=((0, 40),))]
    )
    confidences = {answer.tasks["shape"][0][1] for answer in (plain, worse, erased)}
    assert len(confidences) == 3


def test_only_the_tasks_asked_for(engine: Engine):
    answer = engine.infer([request(bytes(8), tasks=("colour",), top_k=2)])[0]
    assert list(answer.tasks) == ["colour"] and len(answer.tasks["colour"]) == 2


def test_codecs_and_versions_share_a_batch(bundle_root: Path, tmp_path: Path):
    other = load_bundle(make_bundle(tmp_path, "other", codec_id=6))
    old, new = (load_bundle(bundle_root / "toy" / version) for version in "12")
    engine = Engine([new, other, old])
    asked = [replace(request(bytes(8)), codec=codec, version=version) for codec, version in
             (("toy", 1), ("other", 0), ("toy", 0), ("toy", 2))]  # fmt: skip
    first, foreign, newest, second = (answer.tasks["shape"][0] for answer in engine.infer(asked))
    assert newest == pytest.approx(second)
    assert len({round(confidence, 6) for _, confidence in (first, foreign, newest)}) == 3
    with pytest.raises(NotFound, match="other version 1, toy version 1, toy version 2"):
        engine.infer([replace(request(bytes(8)), codec="none")])


def test_a_batch_keeps_the_networks_that_it_began_with(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    engine = Engine([bundle])
    engine.add(bundle, 1)
    first = engine._codec("toy", 2)
    infer = first.infer

    def remove_the_other(requests):
        engine.remove("toy", 2, 1)
        return infer(requests)

    monkeypatch.setattr(first, "infer", remove_the_other)
    batch = [EngineRequest("toy", 2, 2, bytes(8), 0.01, revision=revision) for revision in (0, 1)]
    one, other = engine.infer(batch)
    assert one.tasks == other.tasks
    with pytest.raises(NotFound):
        engine.infer(batch[1:])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    folder = make_bundle(tmp_path, edge={"width": 48})
    with pytest.raises(BundleError, match="does not fit the manifest"):
        Engine([load_bundle(folder)])


def test_weights_that_answer_no_number_are_refused(tmp_path: Path):
    bundle = load_bundle(make_bundle(tmp_path))
    weights = safetensors.torch.load(bundle.edge_data)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    with pytest.raises(BundleError, match="confidence of nan; allowed: finite weights"):
        Engine([replace(bundle, edge_data=safetensors.torch.save(weights))])


def test_an_unknown_runtime_is_refused(bundle: Bundle):
    with pytest.raises(ConfigError, match="abacus"):
        load_network("abacus", bundle, 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # Inductor's own imports
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_agrees_with_eager(bundle: Bundle, bitstreams: np.ndarray, runtime: str):
    _, level, ber, erased = mixed(bitstreams)
    bits = np.unpackbits(bitstreams, axis=1)
    expected = Engine([bundle]).infer_arrays("toy", bits, level, ber, erased)
    actual = Engine([bundle], runtime).infer_arrays("toy", bits, level, ber, erased)
    tolerance = 1e-4 if runtime in ("compiled", "onnxruntime", "openvino") else 0.1
    for task, values in expected.items():
        np.testing.assert_allclose(actual[task], values, atol=tolerance)
