"""MicroPython interpreters to run the device's code on: the npm package's, under Node, and any other.

MICROPYTHON_BIN names another one (a build of the unix port, for example). MICROPYTHON_NODE names a folder that the npm
package is installed in; without it the package goes to build/micropython.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "device_client" / "micropython" / "weaklink"
NPM_PACKAGE = "@micropython/micropython-webassembly-pyscript"
NPM_VERSION = "1.27.0"
PART = "\n#%%\n"
"""Between parts of a script: Node's interpreter collects garbage only there."""


class Unavailable(Exception):
    """Why an interpreter is not there."""


class Interpreter:
    """Runs scripts in a folder that holds the device's package; `sockets` tells whether it has a network."""

    def __init__(self, name: str, command: Callable[[Path, str], list[str]], sockets: bool):
        self.name, self._command, self.sockets = name, command, sockets

    def run(self, board: Path, script: str, timeout: float = 100) -> list[str]:
        """The lines that a script prints; an AssertionError with what it wrote to stderr where it fails."""
        (board / "main.py").write_text(script)
        done = subprocess.run(
            self._command(board, "main.py"),
            cwd=board,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{self.name}: {done.stdout}{done.stderr}"
        return done.stdout.splitlines()


def node() -> Interpreter:
    """MicroPython under Node; installs it by npm where that has not happened yet."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("node and npm are not installed")
    named = os.environ.get("MICROPYTHON_NODE")
    folder = Path(named or ROOT / "build" / "micropython")
    module = folder / "node_modules" / NPM_PACKAGE / "micropython.mjs"
    if not named:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:  # several test processes may want it at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not module.is_file():
                _npm_install(folder)
    elif not module.is_file():
        raise Unavailable(f"MICROPYTHON_NODE={named} holds no {NPM_PACKAGE}")
    script = Path(__file__).with_name("node_interpreter.mjs")
    return Interpreter("Node", lambda board, main: ["node", str(script), str(module), str(board), main], False)


def binary() -> Interpreter:
    """The interpreter that MICROPYTHON_BIN names."""
    path = os.environ.get("MICROPYTHON_BIN")
    if not path:
        raise Unavailable("MICROPYTHON_BIN names no interpreter")
    return Interpreter("MICROPYTHON_BIN", lambda board, main: [path, main], True)


def _npm_install(folder: Path) -> None:
    # A package.json of its own: npm would otherwise look for one in the folders above.
    (folder / "package.json").write_text('{"private": true}\n')
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{NPM_PACKAGE}@{NPM_VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
        )
    except subprocess.TimeoutExpired as problem:
        raise Unavailable("npm did not install the interpreter within 90 s") from problem
    if done.returncode:
        raise Unavailable(f"npm cannot install the interpreter: {done.stderr.strip()[-200:]}")
