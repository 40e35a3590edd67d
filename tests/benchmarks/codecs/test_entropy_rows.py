"""Entropy-coded symbols behind a code, on the digits bundle with frequencies of its own."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.codecs.entropy_rows import RATES, EntropyCoded, measure_entropy_coded
from benchmarks.rivals.channels import Condition
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Store
from semantic_codec.bitstream import unpack_symbols
from semantic_codec.bundle import Recording, find_bundle, load_recording
from semantic_codec.entropy_coding import count_symbols

IMAGES = 60


@pytest.fixture(scope="module")
def contest_and_recording():
    bundle = find_bundle("digits")
    whole = load_recording(bundle)
    recording = Recording(whole.bitstreams[:IMAGES], whole.labels[:IMAGES])
    counts = count_symbols(unpack_symbols(whole.bitstreams, 64, 1).reshape(-1, 4, 16), 1)
    manifest = replace(bundle.manifest, training=bundle.manifest.training | {"symbol_counts": counts.tolist()})
    return Contest(replace(bundle, manifest=manifest), recording, 1, 0, 1), recording


def test_whole_frames_answer_as_without_coding_and_lost_ones_are_wrong(contest_and_recording):
    contest, recording = contest_and_recording
    frames = EntropyCoded(contest, recording)
    clean, hurt, hopeless = (frames.row((1, 2), Condition("bsc", ber)) for ber in (0.0, 0.07, 0.3))
    assert clean["accuracy_percent"] == 100 * contest.ours(8, Condition("bsc")).mean() and clean["decoded_percent"] == 100
    assert 0 < hurt["decoded_percent"] < 100 and hurt["accuracy_percent"] < clean["accuracy_percent"]
    assert hurt["accuracy_answered_percent"] > hurt["accuracy_percent"]
    assert (hopeless["accuracy_percent"], hopeless["accuracy_answered_percent"]) == (0, None)
    assert clean["on_air_bytes"] == clean["payload_bytes"] + 18


def test_stronger_codes_are_longer_and_lose_fewer(contest_and_recording):
    frames = EntropyCoded(*contest_and_recording)
    rows = [frames.row(RATES[name], Condition("erasures", erased=0.4)) for name in ("1/3", "1/2", "3/4")]
    assert np.all(np.diff([row["payload_bytes"] for row in rows]) < 0)
    assert np.all(np.diff([row["decoded_percent"] for row in rows]) < 0)


def test_rows_are_for_bundles_that_count_their_symbols(contest_and_recording):
    contest, recording = contest_and_recording
    store, other = Store(None, 0), Contest(find_bundle("digits"), recording, 1, 0, 1)
    measure_entropy_coded(store, other, recording, {"bundle": "digits"}, (Condition("bsc"),))
    assert store.rows == []
    measure_entropy_coded(store, contest, recording, {"bundle": "digits"}, (Condition("bsc"),))
    assert [row["variant"] for row in store.rows] == [f"entropy-coded, rate {name}" for name in RATES]
