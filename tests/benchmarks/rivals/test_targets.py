from dataclasses import replace

from benchmarks.rivals.channels import BERS
from benchmarks.rivals.targets import bytes_at, verdicts
from semantic_codec.bundle import find_bundle


def coded(family, variant, above, size=8):
    return [
        {"bundle": "digits", "family": family, "variant": variant, "payload_bytes": size, "channel": "bsc", "ber": ber,
         "accuracy_percent": 90.0, "ours_above_percent": each}
        for ber, each in zip(BERS, above, strict=True)
    ]  # fmt: skip


def ours(accuracy=90.0):
    return {"bundle": "digits", "family": "weaklink", "variant": "8 B", "payload_bytes": 8, "on_air_bytes": 26, "channel": "bsc",
            "ber": 0.0, "accuracy_percent": accuracy}  # fmt: skip


def picture(variant, on_air, accuracy, receiver="as trained"):
    return {"bundle": "digits", "family": "jpeg", "variant": variant, "receiver": receiver, "channel": "bsc", "ber": 0.0,
            "on_air_bytes": on_air, "file_on_air_bytes": on_air + 300, "accuracy_percent": accuracy}  # fmt: skip


def found(rows):
    return {row["verdict"]: row for row in verdicts(rows, [find_bundle("digits").manifest])}


def test_a_single_rate_that_is_better_somewhere_by_too_much():
    rows = found([ours(), *coded("ldpc-5g", "2 B in 8 B", [-1.5, 0, 0, 0, 5, 5, 5])])
    assert rows["mean over all BERs above ldpc-5g, 2 B in 8 B: points"]["reached"] is True
    least = rows["least distance above any single rate at any BER: points"]
    assert least["value"] == -1.5 and least["reached"] is False


def test_the_genie_has_a_limit_of_its_own_at_each_ber():
    rows = found([ours(), *coded("genie", "best rate in 8 B", [-1, -1, -1, -1.1, -1.9, -3, -9])])
    at = {ber: rows[f"least distance above the genie at BER {ber:g}: points"] for ber in BERS}
    assert [at[ber]["reached"] for ber in BERS] == [True, True, True, False, True, True, None]


def test_rows_that_the_paired_interval_does_not_tell_apart_are_counted():
    rows = coded("ldpc-5g", "2 B in 8 B", [1] * 7)
    for row, low in zip(rows, (-0.2, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True):
        row["ours_above_interval_percent"] = [low, 2.0]
    name = "single rates at one BER each, 7 rows: those whose paired interval does not lie above 0"
    assert found([ours(), *rows])[name]["value"] == 2


def test_a_grid_that_is_not_whole_has_no_mean():
    rows = found([ours(), *coded("ldpc-5g", "2 B in 8 B", [1] * 7)[:-1]])
    assert rows["mean over all BERs above ldpc-5g, 2 B in 8 B: points"]["value"] is None


def test_bytes_between_two_qualities_and_the_better_colours():
    rows = [picture("quality 20, 4:2:0", 100, 80), picture("quality 80, 4:2:0", 400, 90), picture("quality 50, 4:4:4", 150, 85)]
    assert bytes_at(rows, "jpeg", "as trained", "on_air_bytes", 85) == 150
    assert round(bytes_at(rows[:2], "jpeg", "as trained", "on_air_bytes", 85)) == 200
    assert bytes_at(rows, "jpeg", "as trained", "on_air_bytes", 91) is None
    assert bytes_at(rows, "jpeg", "fine-tuned", "on_air_bytes", 85) is None


def test_the_ratio_counts_the_header_on_both_sides():
    rows = found([ours(85.0), picture("quality 50, 4:4:4", 78, 85.0)])
    ratio = rows["jpeg, stripped, network as trained: times the on-air bytes of 8 B at equal accuracy"]
    assert ratio["value"] == 3 and ratio["reached"] is True
    whole = rows["jpeg, whole file, network as trained: times the on-air bytes of 8 B at equal accuracy"]
    assert whole["limit"] == 15 and whole["reached"] is False


def test_a_bundle_of_another_family_that_lies_elsewhere():
    manifest = replace(find_bundle("digits").manifest, name="parts", family="semanticnn", training={"config": {"edge": {}}})
    row = ours() | {"bundle": "parts", "family": "semanticnn"}
    (verdict,) = verdicts([row], [manifest])
    assert verdict["bundle"] == "parts" and verdict["verdict"].startswith("raw 8-bit image")
