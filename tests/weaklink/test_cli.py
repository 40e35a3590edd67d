"""The command's doors: help of every verb, clear refusals, what is imported."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from semantic_codec.errors import InvalidRequest
from weaklink import cli

DEVICE_VERBS = ["send", "codecs", "link"]


@pytest.fixture
def door(monkeypatch):
    """Puts a verb "probe" in the table whose door does what the test sets as `door.main`."""
    module = types.ModuleType("weaklink_probe")
    monkeypatch.setitem(sys.modules, "weaklink_probe", module)
    monkeypatch.setitem(cli.VERBS, "probe", cli.Verb("weaklink_probe", "a probe", "Try it", "edge"))
    return module


def test_help_lists_every_verb_by_group(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, verb in cli.VERBS.items():
        assert any(line.split()[:1] == [name] and verb.help in line for line in lines)
        assert f"{verb.group}:" in lines
    assert max(map(len, lines)) <= 100


def test_no_verb_shows_the_help_as_an_error(capsys):
    assert cli.main([]) == 2
    assert "usage: weaklink VERB" in capsys.readouterr().err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_names_it(verb, run_weaklink):
    shown = run_weaklink(verb, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"usage: weaklink {verb}" in shown.stdout
    assert shown.stderr == ""


def test_unknown_verb_names_what_is_allowed(capsys):
    assert cli.main(["serv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown verb 'serv'") and "serve" in error and "weaklink --help" in error


def test_version_of_the_installed_distribution(run_weaklink, repository):
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    shown = run_weaklink("--version")
    assert shown.stdout.split() in (["weaklink", declared], ["weaklink", "unknown"])


def test_arguments_and_status_pass_through(door):
    seen = []
    door.main = lambda argv: seen.append(argv) or 7
    assert cli.main(["probe", "--level", "2"]) == 7
    assert seen == [["--level", "2"]]


def test_a_refusal_is_one_line_and_status_2(door, capsys):
    def refuse(argv):
        raise InvalidRequest("level 9", allowed="0, 1, 2", fix="leave it out")

    door.main = refuse
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "error: level 9; allowed: 0, 1, 2; fix: leave it out\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_status_2(door, capsys):
    door.main = lambda argv: Path("/dev/full").write_text("rows")
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err.startswith("error: No space left on device, so not all was written; fix: free ")


@pytest.mark.parametrize("argv", [["codecs"], ["--help"], ["codecs", "cifar10"]])
def test_a_full_disk_at_the_end_is_one_line_and_status_2(argv):
    """What was printed goes to the disk when the command ends, as where Python buffers it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-m", "weaklink", *argv], stdout=full, stderr=subprocess.PIPE, env=environment, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("error: No space left on device") and ended.stderr.count("\n") == 1


def test_a_path_that_cannot_be_used_is_one_line_and_status_2(door, capsys, tmp_path):
    (tmp_path / "file").touch()
    door.main = lambda argv: (tmp_path / "file" / "below").mkdir()
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file/below cannot be used (Not a directory); allowed: a path ")


def test_an_operating_system_s_error_about_no_path_is_a_defect_and_raised(door):
    def reset(argv):
        raise ConnectionResetError(104, "Connection reset by peer")

    door.main = reset
    with pytest.raises(ConnectionResetError):
        cli.main(["probe"])


def test_an_interrupt_ends_without_a_traceback(door, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    door.main = interrupted
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_package_names_the_extra(door, capsys):
    def import_lazily(argv):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    door.main = import_lazily
    assert cli.main(["probe"]) == 2
    assert "needs the package torch; fix: pip install 'weaklink[edge]'" in capsys.readouterr().err


def test_a_missing_module_of_ours_is_a_defect_and_raised(door):
    def import_lazily(argv):
        raise ModuleNotFoundError("No module named 'edge_server.nothing'", name="edge_server.nothing")

    door.main = import_lazily
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_every_extra_that_a_verb_names_is_declared(repository):
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {verb.extra for verb in cli.VERBS.values()} - {""} <= extras.keys()


def test_a_reader_that_goes_away_is_no_error(repository):
    """More than a pipe holds, to a reader that never reads."""
    script = """
import sys, types
from weaklink import cli
sys.modules["probe"] = types.SimpleNamespace(main=lambda argv: print("x" * 1_000_000))
cli.VERBS["probe"] = cli.Verb("probe", "a probe", "Try it", "")
sys.exit(cli.main(["probe"]))
"""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=repository, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


@pytest.mark.parametrize("verb", DEVICE_VERBS)
def test_a_device_needs_no_torch(verb, repository):
    """`--help` of the verbs that a device uses runs where torch, numba and the web stack cannot be imported."""
    script = f"""
import sys
for name in ("torch", "numba", "fastapi", "uvicorn", "pydantic", "prometheus_client", "scipy", "matplotlib"):
    sys.modules[name] = None
from weaklink.cli import main
sys.exit(main([{verb!r}, "--help"]))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
