"""Payloads whose end repeats their beginning, on the digits bundle."""

import pytest

from benchmarks.codecs.repeat_rows import RepeatedBytes, measure_repeated
from benchmarks.rivals.channels import Condition
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Store
from semantic_codec.bundle import Recording, find_bundle, load_recording


@pytest.fixture(scope="module")
def contest_and_recording():
    bundle = find_bundle("digits")
    whole = load_recording(bundle)
    recording = Recording(whole.bitstreams[:200], whole.labels[:200])
    return Contest(bundle, recording, 2, 0, 1), recording


def test_a_prefix_that_arrives_twice_answers_like_the_prefix_and_survives_more(contest_and_recording):
    contest, recording = contest_and_recording
    answers = RepeatedBytes(contest, recording)
    clean = answers.right(4, Condition("bsc"))
    assert clean.shape == (1, 200) and abs(clean.mean() - contest.ours(4, Condition("bsc")).mean()) < 0.02
    hurt = Condition("bsc", 0.2)
    assert answers.right(4, hurt).mean() > contest.ours(4, hurt).mean()


def test_rows_stand_beside_the_payload_of_their_size(contest_and_recording):
    contest, recording = contest_and_recording
    store = Store(None, 0)
    measure_repeated(store, contest, recording, {"bundle": "digits"}, (Condition("bsc", 0.05), Condition("bursts", 0.05)))
    assert [row["variant"] for row in store.rows] == ["8 B: 6 B, the first 2 B twice", "8 B: 4 B, the first 4 B twice"]
    ours = 100 * contest.ours(8, Condition("bsc", 0.05)).mean()
    assert all(row["ours_above_percent"] == pytest.approx(ours - row["accuracy_percent"]) for row in store.rows)
