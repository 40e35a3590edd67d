"""Bundles as C: what is written compiles, and holds the encoder and its sizes."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from codec_training import export, export_c
from semantic_codec.bundle import find_bundle
from semantic_codec.errors import ConfigError
from tests.conftest import ROOT

INCLUDE = f"-I{export_c.LIBRARY / 'include'}"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]


def test_a_pair_of_files_with_the_encoder_and_its_sizes(tmp_path, capsys):
    bundle = find_bundle("digits")
    assert export.main(["digits", "--target", "c", "--output", str(tmp_path)]) == 0
    header, source = tmp_path / "weaklink_digits.h", tmp_path / "weaklink_digits.c"
    assert capsys.readouterr().out.split() == [str(header), str(source)]
    assert f"#define WEAKLINK_DIGITS_MACS {bundle.manifest.encoder['macs']}u" in header.read_text()
    numbers = source.read_text().split("{\n")[1].split("\n}")[0].replace(",", " ").split()
    assert bytes(map(int, numbers)) == bundle.encoder_bin


@pytest.mark.parametrize("compiler", ["gcc", "arm-none-eabi-gcc"])
def test_the_pair_compiles(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}, which is not on PATH")
    export.main(["digits", "--target", "c", "--output", str(tmp_path)])
    # Freestanding: the C library of the cross compiler is a package of its own, and not needed.
    flags = ["-std=c99", "-ffreestanding", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-c", "weaklink_digits.c"]
    subprocess.run([compiler, *flags], cwd=tmp_path, check=True)


def test_a_bundle_given_by_its_folder_becomes_a_firmware_folder(tmp_path):
    folder = find_bundle("digits").folder
    assert export.main([str(folder), "--target", "stm32", "--output", str(tmp_path)]) == 0
    names = {"Makefile", "main.c", "codec.h", "weaklink_digits.c", "library/src/wl_encoder.c", "library/include/wl_encoder.h"}
    assert all((tmp_path / name).is_file() for name in names)


def test_a_file_that_was_changed_is_not_overwritten(tmp_path):
    again = ["digits", "--target", "stm32", "--output", str(tmp_path)]
    assert export.main(again) == 0
    (tmp_path / "board_mine.c").write_text("mine")
    assert export.main([*again[1:], "cifar10"]) == 0  # and files of one's own, and another codec, are no change
    (tmp_path / "board_f405.c").write_text("mine")
    with pytest.raises(ConfigError, match="board_f405.c was changed since"):
        export.main(again)
    assert (tmp_path / "board_f405.c").read_text() == (tmp_path / "board_mine.c").read_text() == "mine"
    (tmp_path / "board_f405.c").unlink()
    assert export.main(again) == 0 and (tmp_path / "board_f405.c").is_file()
    (tmp_path / export_c.RECORD).unlink()  # as of a folder that an earlier version wrote
    with pytest.raises(ConfigError, match="holds a Makefile and no exported.sha256"):
        export.main(again)


def test_a_key_goes_into_the_firmware_folder_for_its_owner_only(tmp_path):
    secret = tmp_path / "device.key"
    secret.touch(mode=0o600)
    secret.write_text("0f" * 32)
    folder = tmp_path / "firmware"
    assert export.main(["digits", "--target", "stm32", "--key-file", str(secret), "--output", str(folder)]) == 0
    assert "15, 15, 15" in (folder / "key.h").read_text() and (folder / "key.h").stat().st_mode & 0o777 == 0o600
    assert "MODE ?= keyed" in (folder / "Makefile").read_text()
    assert export.main(["digits", "--target", "stm32", "--output", str(folder)]) == 0
    assert not (folder / "key.h").exists() and "MODE ?= open" in (folder / "Makefile").read_text()


def test_a_key_without_a_firmware_is_refused(capsys):
    with pytest.raises(SystemExit):
        export.main(["digits", "--target", "c", "--key-file", "device.key"])
    assert "--key-file is for a firmware; allowed: with --target stm32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target", "c", "--report", "stm32f405"], "--report writes nothing"),
        (["--output", "there", "--report", "stm32f405"], "--report writes nothing"),
        (["--target", "c", "--link", "lora"], "--link is given alone"),
        (["--output", "there"], "--output is for C and firmware"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(capsys, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        export.main(["digits", *arguments])
    assert told in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_a_bundle_that_does_not_exist_is_named(run_weaklink):
    done = run_weaklink("export", "nothing", "--target", "c")
    assert done.returncode == 2
    assert "nothing" in done.stderr


@pytest.fixture
def example(tmp_path) -> str:
    """docs/device.md writes of cifar10; any bundle's pair, written to tmp_path, has the same names but for the codec's."""
    export.main(["digits", "--target", "c", "--output", str(tmp_path)])
    text = re.search(r"```c\n(.*?)```", (ROOT / "docs" / "device.md").read_text(), re.DOTALL)[1]
    return text.replace("cifar10", "digits").replace("CIFAR10", "DIGITS")


def test_the_example_of_the_documentation_compiles(example, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc, which is not on PATH")
    (tmp_path / "example.c").write_text(example)
    subprocess.run(["gcc", "-std=c99", *WARNINGS, INCLUDE, "-c", "example.c"], cwd=tmp_path, check=True)


def test_the_example_counts_on_beyond_the_last_number(example, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc, which is not on PATH")
    main = """
int main(void)
{
    wl_reply reply;
    uint8_t noise[WL_REPLY_BYTES] = {0};
    if (start() != WL_OK || make_frame(7, 0) != WL_OK) return 1;
    for (unsigned place = 0; place < sizeof frame; place++) first[place] = frame[place];
    if (make_frame(7, 4096) != WL_OK || read_reply(noise, 7, 4096, &reply) != WL_ERROR_DAMAGED) return 2;
    for (unsigned place = 0; place < sizeof frame; place++)
        if (frame[place] != first[place]) return 3;
    return make_frame(7, 70001) == WL_OK ? 0 : 4;
}
"""
    (tmp_path / "example.c").write_text(f"{example}\nstatic uint8_t first[sizeof frame];\n{main}")
    sources = [*map(str, sorted((export_c.LIBRARY / "src").glob("*.c"))), "weaklink_digits.c", "example.c"]
    subprocess.run(["gcc", "-std=c99", *WARNINGS, INCLUDE, *sources, "-o", "example"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "example")], check=True)


@pytest.mark.parametrize(("c", "cpp"), [("gcc", "g++"), ("clang", "clang++")])
def test_cpp_links_with_every_name_of_the_headers(example, tmp_path, c, cpp):
    for tool in (c, cpp):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}, which is not on PATH")
    headers = sorted((export_c.LIBRARY / "include").glob("*.h"))
    names = {name for header in headers for name in re.findall(r"\b(wl_\w+)\(", header.read_text())}
    assert {"wl_encoder_run", "wl_reply_read_keyed", "wl_sequence_next"} < names
    includes = "".join(f'#include "{header.name}"\n' for header in headers)
    uses = ", ".join(f"(const void *){name}" for name in [*sorted(names), "wl_sync_word", "weaklink_digits_hash"])
    main = f"const void *const used[] = {{{uses}}};\nint main() {{ return used[0] == nullptr || start() != WL_OK; }}\n"
    (tmp_path / "example.cpp").write_text(includes + example + main)
    sources = [*map(str, sorted((export_c.LIBRARY / "src").glob("*.c"))), "weaklink_digits.c"]
    subprocess.run([c, "-std=c99", INCLUDE, "-c", *sources], cwd=tmp_path, check=True)
    objects = sorted(path.name for path in tmp_path.glob("*.o"))
    subprocess.run([cpp, "-std=c++11", *WARNINGS, INCLUDE, "example.cpp", *objects, "-o", "example"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "example")], check=True)
