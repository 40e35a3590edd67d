"""Links without sockets: seeds, devices, counts, changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel_emulator.chain import channel_rng
from channel_emulator.channels import CHANNELS, Transmission, create_channel
from channel_emulator.control_client import print_link
from channel_emulator.link import Link, bit_errors, judge
from channel_emulator.settings import parse_link
from semantic_codec.errors import ConfigError

FRAME = bytes(range(50))


def make_link(up, down=(), kind="udp", max_devices=256, seed=7):
    body = {"name": "radio", "kind": kind, "upstream": "127.0.0.1:9", "seed": seed, "up": up, "down": list(down)}
    return Link(parse_link(body), max_devices=max_devices)


def carry(link, key="device", frames=20, direction="up"):
    return [[one.data for one in link.carry(direction, key, FRAME, 0.01 * frame)] for frame in range(frames)]


BURSTS = [{"channel": "gilbert_elliott", "p": 0.01, "r": 0.1}, {"channel": "erasure", "probability": 0.3}]


def test_the_same_seed_and_frames_give_the_same_result_and_another_seed_another():
    assert carry(make_link(BURSTS)) == carry(make_link(BURSTS))
    assert carry(make_link(BURSTS)) != carry(make_link(BURSTS, seed=8))


def test_reset_starts_again_and_clears_the_counts():
    link = make_link(BURSTS)
    first = carry(link)
    link.reset()
    assert link.as_json()["stats"]["up"]["bits"] == 0 and link.as_json()["devices"] == []
    assert carry(link) == first


def test_devices_and_directions_have_flips_of_their_own():
    noise = [{"channel": "bsc", "ber": 0.1}]
    link = make_link(noise, noise)
    runs = [carry(link, "one"), carry(link, "two"), carry(link, "one", direction="down")]
    assert runs[0] != runs[1] != runs[2] != runs[0]
    # One device's traffic does not disturb another's.
    alone = make_link(noise, noise)
    assert carry(alone, "one") == runs[0]


def test_a_link_can_be_repeated_offline_from_its_seed():
    link = make_link([{"channel": "erasure", "probability": 0.0}, {"channel": "bsc", "ber": 0.1}])
    carry(link, "first")
    arrived = carry(link, "second", frames=10)
    mask = create_channel("bsc", ber=0.1).flip_mask(10, 400, channel_rng(7, "up", device=1, position=1))
    flips = np.packbits(mask, axis=1)
    sent = np.frombuffer(FRAME, np.uint8)
    assert [one[0] for one in arrived] == [(sent ^ row).tobytes() for row in flips]


def test_channel_generators_are_the_spawned_children_of_the_seed():
    up, down = np.random.SeedSequence(7).spawn(2)
    child = down.spawn(3)[2].spawn(2)[1]
    expected = np.random.default_rng(child).random(4)
    assert channel_rng(7, "down", device=2, position=1).random(4).tolist() == expected.tolist()


def test_every_frame_has_one_outcome_and_the_true_ber_is_counted():
    link = make_link(
        [
            {"channel": "bsc", "ber": 0.001},
            {"channel": "erasure", "probability": 0.2},
            {"channel": "duplication", "probability": 0.2},
            {"channel": "truncation", "probability": 0.2, "keep_fraction": 0.5},
            {"channel": "rate", "bits_per_s": 20_000, "queue_frames": 4},
        ]
    )
    arrived = carry(link, frames=500)
    flat = [data for frame in arrived for data in frame]
    tally = link.tallies["up"]
    outcomes = dict(tally.frames)
    assert outcomes["lost"] + outcomes["queue_full"] == arrived.count([])
    assert sum(outcomes.values()) - outcomes["duplicate"] == 500
    assert outcomes["duplicate"] == len(flat) - (500 - arrived.count([]))
    assert outcomes["clean"] == sum(bool(frame) and all(one == FRAME for one in frame) for frame in arrived)
    assert tally.bits == 8 * sum(map(len, flat))
    assert tally.flipped == sum(bit_errors(FRAME, data) for data in flat) > 0
    assert link.as_json()["stats"]["up"]["true_ber"] == tally.flipped / tally.bits


def test_one_damaged_copy_of_two_is_damage():
    sent = bytes(4)
    whole, hurt = Transmission(bytes(4), 0.0), Transmission(b"\1" + sent[1:], 0.0, sent)
    for copies in ([whole, hurt], [hurt, whole]):
        assert judge(sent, copies, "lost") == ("damaged", 1, 64, 1)


def test_each_channel_reports_what_it_did():
    link = make_link([{"channel": "bsc", "ber": 0.05}, {"channel": "erasure", "probability": 0.5}])
    carry(link, "one", frames=30)
    carry(link, "two", frames=10)
    bsc, erasure = link.as_json()["stats"]["up"]["channels"]
    assert bsc["bits"] == 40 * 400 and bsc["flipped"] > 0 and bsc["expected_ber"] == 0.05
    assert erasure["frames"] == 40 and 0 < erasure["lost"] == link.tallies["up"].frames["lost"]


def test_two_bit_channels_that_undo_each_other_count_no_wrong_bit():
    always = {"channel": "gilbert_elliott", "p": 1.0, "r": 0.0}
    link = make_link([always, always])
    assert carry(link, frames=3) == [[FRAME]] * 3
    assert link.tallies["up"].flipped == 0


def test_a_change_restarts_its_direction_at_the_seed_and_keeps_the_counts():
    link = make_link([{"channel": "bsc", "ber": 0.01}], [{"channel": "bsc", "ber": 0.1}])
    expected_down = carry(make_link([], [{"channel": "bsc", "ber": 0.1}]), direction="down", frames=20)
    down = carry(link, direction="down", frames=10)
    carry(link)
    link.change({"up": [{"channel": "bsc", "ber": 0.1}]})
    assert carry(link) == carry(make_link([{"channel": "bsc", "ber": 0.1}]))
    assert down + carry(link, direction="down", frames=10) == expected_down
    assert link.tallies["up"].bits == 2 * 20 * 400


def test_a_change_of_the_seed_alone_restarts_both_directions():
    noise = [{"channel": "bsc", "ber": 0.1}]
    link = make_link(noise, noise)
    for direction in ("up", "down"):
        carry(link, direction=direction)
    link.change({"seed": 8})
    fresh = make_link(noise, noise, seed=8)
    for direction in ("up", "down"):
        assert carry(link, direction=direction) == carry(fresh, direction=direction)


def test_a_refused_change_changes_nothing():
    link = make_link([{"channel": "bsc", "ber": 0.01}])
    before = link.as_json()
    for body in ({"up": [], "down": [{"channel": "bsc", "ber": 2}]}, {"seed": -1}, {"listen": "127.0.0.1:1"}, [], 5):
        with pytest.raises(ConfigError):
            link.change(body)
    assert link.as_json() == before


def test_only_the_latest_devices_are_remembered():
    link = make_link([], max_devices=3)
    for key in ("a", "b", "a", "c", "d"):
        carry(link, key, frames=1)
    assert [row["device"] for row in link.as_json()["devices"]] == ["d", "c", "a"]
    assert link.tallies["up"].frames["clean"] == 5


def test_more_devices_are_counted_than_listed(capsys):
    link = make_link([])
    for number in range(150):
        carry(link, f"camera{number}", 1)
    shown = link.as_json()
    assert (len(shown["devices"]), shown["devices"][0]["device"], shown["stats"]["devices"]) == (100, "camera149", 150)
    print_link(shown)
    assert "devices: 150," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"kind": "tcp"}, "kind is 'tcp'; allowed: udp, serial, grpc"),
        ({"listen": "8000"}, "listen is '8000'"),
        ({"listen": "::1:80"}, "listen is '::1:80'"),
        ({"upstream": "edge:0"}, "upstream is 'edge:0'"),
        ({"upstream": "edge:99999"}, "upstream is 'edge:99999'"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"color": "red"}, "'color'"),
        ({"kind": "grpc", "down": [{"channel": "bsc", "ber": 0.1}]}, r"down\[0\]: bsc would damage a gRPC reply"),
    ],
)
def test_links_that_cannot_work_are_refused(change, word):
    body = {"name": "radio", "kind": "udp", "upstream": "127.0.0.1:9"} | change
    with pytest.raises(ConfigError, match=word):
        parse_link(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
LISTENING = st.sampled_from(["127.0.0.1:0", "[::1]:5", "a:" + "9" * 5000]) | JSON
CHANNEL = st.fixed_dictionaries(
    {"channel": st.sampled_from(sorted(CHANNELS)) | JSON},
    optional={key: JSON for key in ("ber", "probability", "keep_bytes", "points", "file", "name", "delay_ms")},
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": st.just("radio") | JSON, "kind": st.sampled_from(["udp", "serial", "grpc"]) | JSON, "upstream": LISTENING},
        optional={"listen": LISTENING, "seed": JSON, "up": st.lists(CHANNEL, max_size=3) | JSON, "down": JSON},
    )
    | JSON
)
def test_any_json_is_a_link_or_refused(body):
    try:
        parse_link(body)
    except ConfigError as refused:
        assert "allowed:" in str(refused) and "fix:" in str(refused)


@pytest.mark.parametrize("missing", ["name", "kind", "upstream"])
def test_a_link_needs_name_kind_and_upstream(missing):
    body = {"name": "radio", "kind": "udp", "upstream": "[::1]:9"}
    del body[missing]
    with pytest.raises(ConfigError, match=f"lacks '{missing}'"):
        parse_link(body)
