"""The table of benchmarks and its door."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from semantic_codec.errors import ConfigError


def test_help_lists_every_benchmark(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and line in shown for name, (_, line) in BENCHMARKS.items())


def test_no_name_shows_the_help_as_an_error(capsys):
    assert main([]) == 2
    assert "usage: weaklink bench NAME" in capsys.readouterr().err


def test_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="unknown benchmark 'framez'; allowed: codecs, device, flood, frames, "):
        main(["framez"])


@pytest.mark.parametrize("name", sorted(BENCHMARKS.keys() - {"codecs", "rivals"}))  # which write row by row
def test_results_that_cannot_be_written_end_before_the_measurement(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write .*rows.json: File exists"):
        main([name, "--json", str(tmp_path / "file" / "rows.json")])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_of_each(name, capsys):
    assert callable(importlib.import_module(BENCHMARKS[name][0]).main)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: weaklink bench {name}" in capsys.readouterr().out
