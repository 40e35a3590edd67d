"""The status page's picture in the operator's guide, taken while devices send through links of several BERs.

    python -m tests.edge_server.take_screenshot docs/images/status-page.png
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from selenium import webdriver

from tests.edge_server.browser import chromium, picture
from tests.edge_server.traffic import traffic
from weaklink.processes import Service

BERS = (0.0, 0.0005, 0.002, 0.008, 0.02, 0.04, 0.06, 0.09)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="take_screenshot", description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path, help="PNG file to write; beside it -dark and -phone")
    parser.add_argument("--codec", default="cifar10", help="whose recording is sent (default: cifar10)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of traffic before it is taken (default: 120)")
    parser.add_argument("--rate", type=float, default=20.0, help="images per second of each device (default: 20)")
    options = parser.parse_args(argv)
    with (
        Service(["serve", "--grpc-port", "0", "--udp-port", "0", "--http-port", "0"]) as edge,
        Service(["emulate", "--control-port", "0"]) as emulator,
        traffic(edge.ready, emulator.ready["control"], options.codec, BERS, options.rate),
        chromium() as browser,
    ):
        browser.get(f"http://{edge.ready['http']}/")
        time.sleep(options.seconds)
        save(browser, options.picture)
    return 0


def save(browser: webdriver.Chrome, file: Path) -> None:
    """The whole page, light, dark and as narrow as a phone."""
    for suffix, width, dark in (("", 1280, False), ("-dark", 1280, True), ("-phone", 390, False)):
        file.with_stem(file.stem + suffix).write_bytes(picture(browser, width, dark))


if __name__ == "__main__":
    sys.exit(main())
