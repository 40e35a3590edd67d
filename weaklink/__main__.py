"""``python -m weaklink``: the same as the ``weaklink`` command."""

import sys

from weaklink.cli import main

sys.exit(main())
