"""The axis of bit error rates."""

import pytest

from codec_training.plots import LEFT_END, ber_axis, place_of_zero, plot_accuracy, plt


def test_zero_stands_at_the_left_end_or_left_of_a_smaller_rate():
    assert place_of_zero([0.0, 1e-3, 0.1]) == place_of_zero([0.0]) == LEFT_END
    assert place_of_zero([0.0, 1e-4, 0.1]) == pytest.approx(1e-4 / 3)


def test_versions_of_a_bundle_are_lines_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(plt, "close", lambda figure: None)
    row = {"bundle": "parts", "payload_bytes": 8, "interval_percent": 1.0}
    rows = [row | {"version": version, "ber": ber, "accuracy_percent": 80.0 + version} for version in (1, 2) for ber in (0.0, 0.1)]
    rows += [row | {"bundle": "parts-blind", "version": 2, "ber": 0.1, "accuracy_percent": 70.0}]
    plot_accuracy(rows, tmp_path / "plot.png")
    labels = [text.get_text() for text in plt.gca().get_legend().get_texts()]
    assert labels == ["parts 1, 8 B", "parts 2, 8 B", "parts-blind, 8 B"] and (tmp_path / "plot.png").is_file()
    monkeypatch.undo()
    plt.close("all")


def test_every_rate_has_a_tick_of_its_own():
    figure, axes = plt.subplots()
    ber_axis(axes, [0.0, 1e-5, 1e-4, 0.1])
    assert list(axes.get_xticks()) == pytest.approx([1e-5 / 3, 1e-5, 1e-4, 0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1e-05", "0.0001", "0.1"]
    plt.close(figure)
