from __future__ import annotations

import gc

from edge_server.heap import settle_heap


def test_what_is_loaded_is_not_looked_at_again():
    before = gc.get_freeze_count()
    try:
        settle_heap()
        # A list of everything that the collector looks at, which by now is what this test made.
        assert len(gc.get_objects()) < 1000
        assert gc.get_freeze_count() > before + 1000
    finally:
        gc.unfreeze()
