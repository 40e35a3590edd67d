"""``weaklink bench NAME [options]``: run one measurement; each is a module with ``main(argv) -> int``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from semantic_codec.errors import ConfigError

BENCHMARKS: dict[str, tuple[str, str]] = {
    "codecs": ("benchmarks.codecs.command", "every family's codecs and their rivals on one channel, in one table"),
    "device": ("benchmarks.device", "instructions, flash and RAM of the encoder on emulated microcontrollers"),
    "flood": ("benchmarks.flood", "answers of honest devices while somebody floods the raw-frame port with noise"),
    "frames": ("benchmarks.frames", "header loss and decoding speed of the frame over BER and bursts"),
    "latency": ("benchmarks.latency", "time to answer and transmit energy per image, against raw images, JPEG and no link"),
    "links": ("benchmarks.links", "accuracy through whole links, with the true, the estimated and no BER"),
    "overload": ("benchmarks.overload", "answers of an edge node that gets ten times what it can answer"),
    "rivals": ("benchmarks.rivals.command", "the codec against FEC, JPEG, WebP, the raw image and the device alone"),
    "serial": ("benchmarks.serial", "frames found on a noisy serial line, and frames found in noise"),
    "growth": ("benchmarks.growth", "what a request costs as devices, bundles and the queue grow"),
    "serving": ("benchmarks.serving", "requests/s, latency and memory against other model servers hosting the same engine"),
    "runtimes": ("benchmarks.runtimes", "speed and accuracy of the edge node's runtimes and precisions"),
}


def usage() -> str:
    """The text of ``weaklink bench --help``."""
    lines = ["usage: weaklink bench NAME [options]", "", "Measurements behind the published tables:"]
    lines += [f"  {name:<12}{line}" for name, (_, line) in BENCHMARKS.items()]
    lines += ["", "weaklink bench NAME --help shows the options of one."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that `argv` names. ConfigError: no such benchmark."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in BENCHMARKS:
        raise ConfigError(
            f"unknown benchmark {name!r}", allowed=", ".join(BENCHMARKS), fix="see weaklink bench --help"
        )
    return importlib.import_module(BENCHMARKS[name][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
