"""The axis of bit error rates."""

import pytest

from codec_training.plots import LEFT_END, ber_axis, place_of_zero, plt


def test_zero_stands_at_the_left_end_or_left_of_a_smaller_rate():
    assert place_of_zero([0.0, 1e-3, 0.1]) == place_of_zero([0.0]) == LEFT_END
    assert place_of_zero([0.0, 1e-4, 0.1]) == pytest.approx(1e-4 / 3)


def test_every_rate_has_a_tick_of_its_own():
    figure, axes = plt.subplots()
    ber_axis(axes, [0.0, 1e-5, 1e-4, 0.1])
    assert list(axes.get_xticks()) == pytest.approx([1e-5 / 3, 1e-5, 1e-4, 0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1e-05", "0.0001", "0.1"]
    plt.close(figure)
