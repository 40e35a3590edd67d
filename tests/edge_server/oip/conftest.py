"""One process of tritonclient for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge_server.oip.triton_client import TritonClient


@pytest.fixture(scope="module")
def triton() -> Iterator[TritonClient]:
    client = TritonClient()
    yield client
    client.close()
