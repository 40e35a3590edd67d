"""Key files: what is read, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_key, read_keys

ONE, TWO = "01" * 32, "ab" * 32


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_both_formats(tmp_path: Path):
    toml = read_keys(secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n65535 = "{TWO}"\n', 0o640))
    assert {device: key.secret.hex() for device, key in toml.items()} == {7: ONE, 65535: TWO}
    assert read_keys(secret(tmp_path / "keys.json", f'{{"7": "{ONE}", "65535": "{TWO}"}}')) == toml
    assert read_keys(secret(tmp_path / "none.toml", "")) == {}


def test_a_devices_own_key(tmp_path: Path):
    assert read_key(secret(tmp_path / "key", f"{ONE}\n")).secret.hex() == ONE
    with pytest.raises(ConfigError, match="31 bytes"):
        read_key(secret(tmp_path / "key", ONE[2:]))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620])
def test_what_others_may_read_is_no_secret(tmp_path: Path, mode):
    with pytest.raises(ConfigError, match=f"mode 0{mode:o}.*chmod 600"):
        read_keys(secret(tmp_path / "keys.toml", f'7 = "{ONE}"', mode))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("keys.toml", "7 = ", "is no TOML"),
        ("keys.json", "[", "is no JSON"),
        ("keys.json", "[1]", "holds a list"),
        ("keys.json", f'{{"7": "{ONE}", "7": "{TWO}"}}', "'7' stands there twice"),
        ("keys.toml", f'camera = "{ONE}"', "names the device 'camera'"),
        ("keys.toml", f'65536 = "{ONE}"', "names the device '65536'"),
        ("keys.toml", f'7 = "{ONE}"\n07 = "{TWO}"', "names the device '07'"),
        ("keys.toml", "7 = 5", "device 7: the device key is not hexadecimal"),
        ("keys.toml", '7 = "abc"', "device 7: the device key is not hexadecimal"),
        ("keys.toml", '7 = "abcd"', "device 7: the device key has 2 bytes"),
    ],
)
def test_refusals_name_the_entry_and_no_secret(tmp_path: Path, name, text, message):
    with pytest.raises(ConfigError, match=message) as refused:
        read_keys(secret(tmp_path / name, text))
    assert ONE not in str(refused.value) and TWO not in str(refused.value)


def test_no_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "keys.toml")
