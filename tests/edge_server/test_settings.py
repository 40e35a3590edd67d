from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_server.settings import Settings, build_parser, flag, load_settings
from semantic_codec.errors import ConfigError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WEAKLINK_{name.upper()}", raising=False)


def test_defaults_stay_on_this_machine():
    settings = load_settings([])
    assert settings.host == "127.0.0.1"
    assert (settings.grpc_port, settings.udp_port, settings.http_port) == (50051, 50052, 8080)
    assert settings.compute_threads >= 1


def test_flags_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "edge.toml"
    file.write_text("max_batch = 3\nqueue_limit = 30\ndevice_limit = 300\n")
    monkeypatch.setenv("WEAKLINK_MAX_BATCH", "2")
    monkeypatch.setenv("WEAKLINK_QUEUE_LIMIT", "20")
    settings = load_settings(["--config", str(file), "--max-batch", "1"])
    assert (settings.max_batch, settings.queue_limit, settings.device_limit) == (1, 20, 300)


def test_json_file_and_several_bundle_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "edge.json"
    file.write_text(json.dumps({"bundles": ["/a", "/b"], "drain_s": 1.5}))
    settings = load_settings(["--config", str(file)])
    assert settings.bundles == (Path("/a"), Path("/b"))
    assert settings.drain_s == 1.5
    monkeypatch.setenv("WEAKLINK_BUNDLES", "/c:/d")
    assert load_settings([]).bundles == (Path("/c"), Path("/d"))


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        load_settings(["--help"])
    assert ended.value.code == 0
    text = "".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert flag(name) in text
        assert f"WEAKLINK_{name.upper()}" in text
        if isinstance(field.default, int | float):
            assert f"default:{field.default}" in text
    assert build_parser().prog == "weaklink serve"


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--grpc-port", "70000"], "70000"),
        (["--grpc-port", "many"], "many"),
        (["--runtime", "abacus"], "abacus"),
        (["--max-batch", "0"], "0"),
        (["--deadline-s", "nan"], "nan"),
        (["--log-level", "shout"], "shout"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed_and_where_to_fix_it(argv: list[str], value: str):
    with pytest.raises(ConfigError) as refused:
        load_settings(argv)
    assert value in refused.value.problem
    assert refused.value.allowed
    assert argv[0] in refused.value.fix


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if field.default is None])
def test_whatever_may_be_left_out_takes_none(name: str):
    assert getattr(load_settings([flag(name), "none"]), name) is None


@pytest.mark.parametrize("line", ["serial_port = false", "udp_port = true", "max_batch = true", "drain_s = true"])
def test_true_and_false_are_no_numbers(tmp_path: Path, line: str):
    (tmp_path / "edge.toml").write_text(line)
    name, _, value = line.split()
    with pytest.raises(ConfigError, match=f"{name} is {value.title()}; allowed: neither true nor false .*{flag(name)}"):
        load_settings(["--config", str(tmp_path / "edge.toml")])


@pytest.mark.parametrize(
    ("name", "text"),
    [("edge.toml", "max_bach = 3"), ("edge.toml", "max_batch ="), ("edge.json", "[1]"), ("absent.toml", None)],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, text: str | None):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        load_settings(["--config", str(tmp_path / name)])
