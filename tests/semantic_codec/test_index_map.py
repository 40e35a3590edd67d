import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import ConfigError
from semantic_codec.index_map import KINDS, make_index_map, mean_squared_jump

UNIFORM, EVEN = np.arange(8.0), np.full(8, 1 / 8)


def by_hand(index_map, centers, usage) -> float:
    level_of = {symbol: level for level, symbol in enumerate(index_map)}
    bits = len(centers).bit_length() - 1
    jumps = [
        usage[level] * (centers[level] - centers[level_of[int(index_map[level]) ^ (1 << bit)]]) ** 2
        for level in range(len(centers)) for bit in range(bits)
    ]  # fmt: skip
    return sum(jumps) / bits / sum(usage)


@pytest.mark.parametrize(("kind", "jump"), [("natural", 7), ("gray", 9), ("searched", 7)])
def test_mean_squared_jump_of_eight_uniform_levels(kind, jump):
    assert mean_squared_jump(make_index_map(kind, UNIFORM, EVEN), UNIFORM, EVEN) == pytest.approx(jump)


def test_the_mean_over_all_maps_is_that_of_a_random_one():
    maps = itertools.islice(itertools.permutations(range(8)), 0, None, 97)
    assert np.mean([mean_squared_jump(np.array(one), UNIFORM, EVEN) for one in maps]) == pytest.approx(12, rel=0.05)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8), st.lists(st.floats(0.01, 1), min_size=8, max_size=8))
def test_a_searched_map_is_a_permutation_and_no_other_kind_beats_it(centers, usage):
    centers, usage = np.sort(centers), np.array(usage)
    maps = {kind: make_index_map(kind, centers, usage) for kind in KINDS}
    jumps = {kind: mean_squared_jump(one, centers, usage) for kind, one in maps.items()}
    assert all(sorted(one) == list(range(8)) for one in maps.values())
    assert jumps["searched"] <= min(jumps.values()) + 1e-9
    assert jumps["gray"] == pytest.approx(by_hand(maps["gray"], centers, usage), abs=1e-9)


def test_more_levels_are_searched_by_swaps():
    centers, usage = np.sort(np.random.default_rng(0).normal(size=16)), np.full(16, 1 / 16)
    searched = make_index_map("searched", centers, usage)
    assert sorted(searched) == list(range(16))
    assert mean_squared_jump(searched, centers, usage) <= mean_squared_jump(np.arange(16), centers, usage)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="index map is 'grey'"):
        make_index_map("grey", UNIFORM, EVEN)
