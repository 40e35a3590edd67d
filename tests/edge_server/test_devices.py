from __future__ import annotations

import pytest

from edge_server.answers import Given
from edge_server.devices import WINDOW, DeviceTable
from semantic_codec.header import SEQUENCES

HERE, THERE = ("10.0.0.1", 1), ("10.0.0.2", 1)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(clock: FakeClock) -> DeviceTable:
    return DeviceTable(limit=3, answers=2, clock=clock, max_age=30.0)


def is_new(accepted: tuple) -> bool:
    return accepted[2]


def test_a_repeated_sequence_is_a_duplicate_within_the_window(table: DeviceTable):
    for sequence in range(1, WINDOW + 1):
        assert is_new(table.accept_frame("7", sequence, HERE))
    assert table.accept_frame("7", 1, HERE)[:2] == (table.find("7"), table.find("7").frames[1])
    assert not is_new(table.accept_frame("7", WINDOW, HERE))
    assert is_new(table.accept_frame("7", WINDOW + 1, HERE))
    assert is_new(table.accept_frame("7", 1, HERE)), "64 others came since"


def test_devices_do_not_share_a_window(table: DeviceTable):
    assert is_new(table.accept_frame("7", 5, HERE))
    assert is_new(table.accept_frame("8", 5, HERE))


def test_a_restart_from_zero_is_accepted_and_clears_the_window(table: DeviceTable):
    for sequence in (0, 1, 2):
        assert is_new(table.accept_frame("7", sequence, HERE))
    for sequence in (0, 1, 2):
        assert is_new(table.accept_frame("7", sequence, HERE))
    assert not is_new(table.accept_frame("7", 2, HERE))


def test_a_restart_is_known_where_the_earlier_zero_is_forgotten(table: DeviceTable):
    for sequence in range(WINDOW + 1):
        table.accept_frame("7", sequence, HERE)
    assert is_new(table.accept_frame("7", 0, HERE))
    assert is_new(table.accept_frame("7", 2, HERE)), "frame 1 was lost"


def test_zero_behind_the_last_number_is_no_restart(table: DeviceTable):
    for sequence in range(SEQUENCES - 2, SEQUENCES):
        table.accept_frame("7", sequence, HERE)
    assert is_new(table.accept_frame("7", 0, HERE))
    assert not is_new(table.accept_frame("7", SEQUENCES - 1, HERE))


def test_a_restart_behind_one_of_the_last_numbers_is_known(table: DeviceTable):
    for sequence in (1, 2, 3, SEQUENCES - 6):
        table.accept_frame("7", sequence, HERE)
    for sequence in (0, 1, 2):
        assert is_new(table.accept_frame("7", sequence, HERE))
    assert not is_new(table.accept_frame("7", SEQUENCES - 6, HERE))


def test_a_restart_soon_after_the_numbers_ran_out_is_known(table: DeviceTable):
    for sequence in (SEQUENCES - 1, 0, 1):
        table.accept_frame("7", sequence, HERE)
    for sequence in (0, 1):
        assert is_new(table.accept_frame("7", sequence, HERE))


def test_zero_right_behind_zero_is_a_retry(table: DeviceTable):
    assert is_new(table.accept_frame("7", 0, HERE))
    assert not is_new(table.accept_frame("7", 0, HERE))


def test_an_old_frame_does_not_block_its_number(table: DeviceTable, clock: FakeClock):
    assert is_new(table.accept_frame("7", 0, HERE))
    clock.now = 31.0
    assert is_new(table.accept_frame("7", 0, HERE))


def test_a_frame_without_an_answer_may_come_again(table: DeviceTable):
    table.accept_frame("7", 4, HERE)
    table.forget_frame("7", 4)
    assert is_new(table.accept_frame("7", 4, HERE))


def test_failures_push_up_the_estimate_of_the_device_that_speaks_from_there(table: DeviceTable):
    for device, source in (("7", HERE), ("8", THERE)):
        table.accept_frame(device, 1, source)
        table.open(device).evidence().update(0, 144)
    before = table.estimated_ber("7")
    table.failed_from(HERE)
    table.failed_from(("192.0.2.1", 9))
    assert table.estimated_ber("7") > before
    assert table.estimated_ber("8") == before
    assert table.estimated_ber("9") is None


def test_the_source_silent_for_longest_is_forgotten(table: DeviceTable):
    others = [("10.0.0.3", port) for port in range(3)]
    for sequence, source in enumerate((HERE, *others[:2], HERE, others[2]), start=1):
        table.accept_frame("7", sequence, source)
    table.open("7").evidence().update(0, 144)
    before = table.estimated_ber("7")
    table.failed_from(others[0])
    assert table.estimated_ber("7") == before
    table.failed_from(HERE)
    assert table.estimated_ber("7") > before


def test_memory_is_bounded(table: DeviceTable):
    for number in range(10):
        table.accept_frame(str(number), 1, ("10.0.0.3", number))
        for sequence in range(5):
            table.remember_all([str(number)], [sequence], [0.0], [Given("toy", 2, {})])
    assert len(table) == 3
    assert table.find("6") is None
    assert table.remembered("9", 2) is None
    assert table.remembered("9", 4) is not None


def test_a_device_is_active_until_it_is_silent_and_once_is_not_enough(table: DeviceTable, clock: FakeClock):
    for at, device in ((0.0, "a"), (1.0, "a"), (2.0, "b"), (3.0, "b"), (4.0, "noise")):
        clock.now = at
        table.remember_all([device], [int(at)], [0.0], [Given("toy", 2, {})])
    assert table.active(10.0) == 2
    clock.now = 11.5
    assert table.active(10.0) == 1
    assert [(name, state.answered, age) for name, state, age in table.recent()] == [
        ("noise", 1, 7.5), ("b", 2, 8.5), ("a", 2, 10.5),
    ]  # fmt: skip


def test_the_least_recently_used_device_is_forgotten(table: DeviceTable):
    for device in ("a", "b", "c", "a", "d"):
        table.open(device)
    assert table.find("a") is not None and table.find("b") is None
