"""``weaklink serve``: run the edge node until SIGTERM."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

signal.signal(signal.SIGHUP, signal.SIG_IGN)

import uvloop  # noqa: E402  they take seconds, and a reload that is asked for meanwhile must not end it
from prometheus_client import disable_created_metrics  # noqa: E402

from edge_server.log_format import set_up_logs  # noqa: E402
from edge_server.server import EdgeServer  # noqa: E402
from edge_server.settings import load_settings  # noqa: E402
from semantic_codec.errors import WeaklinkError  # noqa: E402
from semantic_codec.open_files import raise_open_files  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a drained shutdown; 2 where a setting, a bundle folder or a port cannot work."""
    try:
        settings = load_settings(argv)
        set_up_logs(settings.log_format, settings.log_level)
        raise_open_files()
        disable_created_metrics()  # a second series per counter, of no use to a PromQL rate
        uvloop.run(EdgeServer(settings).run(_announce))
    except WeaklinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    atexit.register(_leave)
    return 0


def _leave() -> None:
    """Everything is answered and closed. What is left is gRPC's own threads, whose waits end by the wall clock: set back
    by hours, it would hold up the exit for as long."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _announce(addresses: Addresses) -> None:
    """The one line on stdout, for whoever started us with ephemeral ports."""
    print(json.dumps(addresses.ready_line()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
