"""What a device's remembered answers keep, against a plain model of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_server.answers import Given, RememberedAnswers, shared_given


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 0.5)), max_size=60), st.integers(1, 12))
def test_the_latest_of_each_number_among_the_last_ones_is_found(added: list, most: int):
    answers = RememberedAnswers()
    for place, (sequence, ber) in enumerate(added):
        answers.add(sequence, ber, Given("toy", place, {"label": place}), most)
    last = {sequence: (place, ber) for place, (sequence, ber) in list(enumerate(added))[-most:]}
    for sequence in range(10):
        found = answers.find(sequence)
        assert (found and (found.given.version, found.ber)) == last.get(sequence)


def test_feedback_is_of_the_answer_and_not_of_its_place():
    answers = RememberedAnswers()
    answers.add(7, 0.1, shared_given("toy", 1, ("label",), 3), 1)
    answers.find(7).judged.add("label")
    assert answers.find(7).judged == {"label"}
    answers.add(7, 0.1, shared_given("toy", 1, ("label",), 3), 1)
    assert answers.find(7).judged == set()


def test_what_many_answers_say_is_held_once():
    assert shared_given("toy", 1, ("a", "b"), 3, 4) is shared_given("toy", 1, ("a", "b"), 3, 4)
    assert shared_given("toy", 1, ("a", "b"), 3, 4) == Given("toy", 1, {"a": 3, "b": 4})
    assert shared_given("toy", 1, ("a",), 4) != shared_given("toy", 2, ("a",), 4)
