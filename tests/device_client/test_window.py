"""The loop that every transport shares, on a scripted line and a clock that moves only when the line waits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.messages import Answer, Request
from device_client.window import MOST_BEHIND_S, Line, exchange
from semantic_codec.errors import DeadlineExceeded, InvalidRequest, Unavailable

BYTES = 26


def request(sequence: int) -> Request:
    return Request("tiny", 9, 1, 2, bytes(8), bytes(32), 1, sequence)


def answer(sequence: int) -> Answer:
    return Answer(0, "", 0.5, 2, sequence)


class ScriptedLine(Line):
    """Answers a transmission after `delays[n]` seconds, or never where that is None, or at once with an error."""

    def __init__(self, script, repeats: bool = True):
        self.repeats_after_silence = repeats
        self.script = list(script)
        self.now, self.sent_at, self.waiting = 0.0, [], []
        self.most_open = self.open = 0

    def clock(self) -> float:
        return self.now

    def send(self, sent: Request) -> int:
        step = self.script[len(self.sent_at) % len(self.script)]
        self.sent_at.append((sent.sequence, self.now))
        if isinstance(step, Exception):
            self.waiting.append((self.now, sent.sequence, step))
        elif step is not None:
            self.waiting.append((self.now + step, sent.sequence, answer(sent.sequence)))
        return BYTES

    def receive(self, wait_s: float):
        due = [item for item in self.waiting if item[0] <= self.now + wait_s]
        self.now = min([max(self.now, item[0]) for item in due], default=self.now + wait_s)
        ready = [item for item in self.waiting if item[0] <= self.now]
        self.waiting = [item for item in self.waiting if item[0] > self.now]
        return [(sequence, heard) for _, sequence, heard in ready]

    def silence(self, sent: Request, attempts: int):
        return DeadlineExceeded("silence", allowed="an answer", fix="none")


def carry(line: ScriptedLine, count: int, **settings):
    options = {"window": 4, "timeout_s": 1.0, "retries": 2} | settings
    return list(exchange(map(request, range(count)), line, clock=line.clock, **options))


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(
        st.one_of(st.none(), st.floats(0, 3), st.just(Unavailable("busy", allowed="-", fix="-"))), min_size=1, max_size=7
    ),
    window=st.integers(1, 8),
    retries=st.integers(0, 3),
    repeats=st.booleans(),
)
def test_every_request_ends_exactly_once_within_its_bounds(script, window, retries, repeats):
    line = ScriptedLine(script, repeats)
    deliveries = carry(line, 20, window=window, retries=retries)
    assert sorted(delivery.request.sequence for delivery in deliveries) == list(range(20))
    for delivery in deliveries:
        assert (delivery.answer is None) != (delivery.error is None)
        transmissions = sum(sequence == delivery.request.sequence for sequence, _ in line.sent_at)
        assert delivery.attempts == transmissions <= retries + 1
        assert delivery.on_air_bytes == BYTES * transmissions


def test_a_lost_message_is_repeated_after_the_timeout_and_latency_counts_from_the_first():
    line = ScriptedLine([None, None, 0.25])
    (delivery,) = carry(line, 1)
    assert [time for _, time in line.sent_at] == [0.0, 1.0, 2.0]
    assert delivery.answer.latency_s == 2.25 and delivery.attempts == 3


def test_a_line_that_loses_nothing_is_not_repeated_on():
    (delivery,) = carry(ScriptedLine([None], repeats=False), 1)
    assert isinstance(delivery.error, DeadlineExceeded) and delivery.attempts == 1


def test_a_passing_error_is_repeated_with_doubling_backoff_and_a_refusal_never():
    line = ScriptedLine([Unavailable("busy", allowed="-", fix="-")], repeats=False)
    (delivery,) = carry(line, 1, retries=2, backoff_s=0.25)
    assert [time for _, time in line.sent_at] == [0.0, 0.25, 0.75]
    assert isinstance(delivery.error, Unavailable)
    (delivery,) = carry(ScriptedLine([InvalidRequest("no", allowed="-", fix="-")]), 1)
    assert isinstance(delivery.error, InvalidRequest) and delivery.attempts == 1


def test_the_window_bounds_what_is_under_way():
    line = ScriptedLine([None])
    stream = exchange(map(request, range(20)), line, window=3, timeout_s=1.0, retries=0, clock=line.clock)
    for ended, _ in enumerate(stream, start=1):
        assert len(line.sent_at) - ended <= 3


def test_the_rate_is_held_on_an_even_beat():
    line = ScriptedLine([0.01])
    carry(line, 10, rate=4.0)
    assert [time for _, time in line.sent_at] == [0.25 * i for i in range(10)]


def test_a_sender_that_fell_behind_makes_up_for_a_second_at_most():
    line, rate, back = ScriptedLine([0.0]), 4.0, 100.0

    def requests():
        for sequence in range(50):
            if sequence == 5:
                line.now = back
            yield request(sequence)

    list(exchange(requests(), line, window=50, timeout_s=1.0, retries=0, rate=rate, clock=line.clock))
    assert 1 <= sum(time == back for _, time in line.sent_at) <= 2 + MOST_BEHIND_S * rate


def test_a_request_is_taken_when_it_can_be_sent():
    line = ScriptedLine([0.01])
    taken = []

    def requests():
        for sequence in range(5):
            taken.append(line.now)
            yield request(sequence)

    list(exchange(requests(), line, window=4, timeout_s=1.0, retries=0, rate=2.0, clock=line.clock))
    assert taken == [time for _, time in line.sent_at] == [0.5 * i for i in range(5)]


def test_a_late_answer_to_what_was_given_up_is_ignored():
    deliveries = carry(ScriptedLine([1.5, 0.9]), 2, retries=0, window=2)
    assert [(delivery.request.sequence, delivery.answer is None) for delivery in deliveries] == [(1, False), (0, True)]
