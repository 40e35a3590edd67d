import json

import pytest

from benchmarks.rivals.store import Store, refuse_fewer
from semantic_codec.errors import ConfigError


def test_a_finished_row_is_not_measured_again(tmp_path):
    path = tmp_path / "rows.json"
    first = Store(path, 0)
    first.row({"ber": 0.1}, lambda: {"accuracy_percent": 80.0})
    again = Store(path, 0)
    again.row({"ber": 0.1}, lambda: 1 / 0)
    assert again.rows == first.rows


def test_a_row_names_the_commit_that_measured_it(tmp_path, monkeypatch):
    for state, told in ((("abc", False), "abc"), (("abc", True), "abc, changed since")):
        monkeypatch.setattr("benchmarks.rivals.store.git_state", lambda state=state: state)
        assert Store(None, 0).row({"ber": 0.1}, lambda: {})["commit"] == told


def test_other_parameters_are_measured(tmp_path):
    path = tmp_path / "rows.json"
    Store(path, 0).row({"ber": 0.1}, lambda: {"accuracy_percent": 80.0})
    other = Store(path, 0)
    assert other.row({"ber": 0.2}, lambda: {"accuracy_percent": 70.0})["accuracy_percent"] == 70.0


def test_rows_of_an_interrupted_run_stay_until_a_whole_run_closes(tmp_path):
    path = tmp_path / "rows.json"
    first = Store(path, 0)
    for ber in (0.1, 0.2):
        first.row({"ber": ber}, lambda: {})
    second = Store(path, 0)
    second.row({"ber": 0.3}, lambda: {})
    assert [row["ber"] for row in json.loads(path.read_text())["rows"]] == [0.3, 0.1, 0.2]
    second.close([{"verdict": "one"}])
    assert [row.get("ber") for row in json.loads(path.read_text())["rows"]] == [0.3, None]


def test_a_store_without_a_file_keeps_rows_in_memory():
    store = Store(None, 0)
    store.row({"ber": 0.0}, lambda: {"accuracy_percent": None})
    store.close([])
    assert [row["accuracy_percent"] for row in store.rows] == [None]


def test_a_store_that_measures_nothing_leaves_rows_for_later(tmp_path):
    path = tmp_path / "rows.json"
    Store(path, 0).row({"ber": 0.1}, lambda: {"accuracy_percent": 80.0})
    reading = Store(path, 0, measures=False)
    assert reading.row({"ber": 0.1}, lambda: 1 / 0)["accuracy_percent"] == 80.0
    assert reading.row({"ber": 0.2}, lambda: 1 / 0)["accuracy_percent"] is None
    reading.close([])
    assert Store(path, 0).row({"ber": 0.2}, lambda: {"accuracy_percent": 70.0})["accuracy_percent"] == 70.0


def test_a_file_takes_no_rows_of_fewer_images_or_draws(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"rows": [{"images": 1000, "draws": 3}, {"images": None}, {"verdict": "one"}]}))
    for images, draws in ((500, 3), (0, 2), (1000, 1)):
        with pytest.raises(ConfigError, match=f"images {images or 'all'}, draws {draws}: .* has rows of 1000 and 3"):
            refuse_fewer(path, images, draws)
    for images, draws in ((0, 3), (1000, 4), (2000, 3)):
        refuse_fewer(path, images, draws)
    refuse_fewer(tmp_path / "none.json", 500, 1)
    refuse_fewer(None, 500, 1)
