import json

from benchmarks import links
from semantic_codec.bundle import find_bundle


def test_a_row_for_each_thing_the_decoder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "LINKS", {name: links.LINKS[name] for name in ("bsc 0", "bsc 0.05")})
    path = tmp_path / "links.json"
    assert links.main(["--codec", "digits", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["ber_source"] for row in rows] == ["true", "estimated", "prior"] * 2
    clean = next(row for row in find_bundle("digits").manifest.accuracy if row["level"] == 2 and row["ber"] == 0)
    assert abs(rows[0]["accuracy_percent"] - clean["accuracy_percent"]) < 0.01
    assert 0.03 < rows[4]["estimated_ber"] < 0.07
