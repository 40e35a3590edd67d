"""The operator's guide lists every setting and every metric, as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_server.http_infer import PARAMETERS
from edge_server.inference import MAX_ERASED
from edge_server.reference import main, rewritten
from edge_server.settings import Settings, flag
from semantic_codec.errors import ConfigError
from tests.conftest import ROOT
from weaklink.v1 import edge_pb2

GUIDE = ROOT / "docs/operating.md"


def test_the_guide_is_up_to_date(capsys: pytest.CaptureFixture):
    assert main(["--check", str(GUIDE)]) == 0, capsys.readouterr().err


def test_every_setting_and_metric_has_a_row_that_says_something():
    rows = [line.split(" | ") for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    named = [row for row in rows if len(row) == 4]
    meanings = {row[0].removeprefix("| ").strip("`"): row[-1].removesuffix(" |") for row in named}
    assert {flag(name) for name in Settings.model_fields} <= meanings.keys()
    assert {"weaklink_requests_total", "weaklink_latency_seconds", "weaklink_queue_depth"} <= meanings.keys()
    assert all(meanings.values())


def test_the_fields_of_http_requests_are_those_that_the_code_takes():
    tables = re.findall(r"^\| (field|feedback) \| JSON \|.*\n.*\n((?:\| .*\n)+)", GUIDE.read_text(), re.MULTILINE)
    named = {head: re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE) for head, rows in tables}
    assert sorted(named["field"]) == sorted(edge_pb2.InferRequest.DESCRIPTOR.fields_by_name)
    assert sorted(named["field"]) == sorted((*PARAMETERS, "bitstream"))
    assert sorted(named["feedback"]) == sorted(edge_pb2.FeedbackRequest.DESCRIPTOR.fields_by_name)
    assert f"at most {MAX_ERASED} ranges" in GUIDE.read_text()


def test_a_table_out_of_date_is_found_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "guide.md"
    file.write_text(GUIDE.read_text().replace("| `--host`", "| `--hostess`"))
    assert main(["--check", str(file)]) == 1
    assert "out of date; fix: python -m edge_server.reference" in capsys.readouterr().err
    assert main([str(file)]) == 0
    assert file.read_text() == GUIDE.read_text()


@pytest.mark.parametrize("text", ["", "<!-- settings: end -->\n<!-- settings: begin -->"])
def test_missing_markers_are_named(tmp_path: Path, text: str, capsys: pytest.CaptureFixture):
    with pytest.raises(ConfigError, match="markers of settings"):
        rewritten(text)
    (tmp_path / "guide.md").write_text(text)
    assert main([str(tmp_path / "guide.md")]) == 2
    assert main([str(tmp_path / "absent.md")]) == 2
    assert "absent.md" in capsys.readouterr().err
