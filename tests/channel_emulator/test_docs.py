"""What docs/link.md says holds: its Python and JSON run, and its table has every channel with every setting."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from channel_emulator.channels import CHANNELS, Transmission, create_channel
from channel_emulator.settings import FIELDS, parse_link


@pytest.fixture
def page(repository):
    return (repository / "docs" / "link.md").read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_table_names_every_channel_and_setting(page):
    rows = {name: row for name, row in re.findall(r"^\| `(\w+)` \|([^|]*)\|", page, flags=re.MULTILINE)}
    for name, channel in CHANNELS.items():
        for field in dataclasses.fields(channel):
            assert f"`{field.name}`" in rows[name]


def test_the_config_file_works(page):
    (text,) = blocks(page, "json")
    links = [parse_link(body) for body in json.loads(text)["links"]]
    assert [link.kind for link in links] == ["udp", "serial", "grpc"]
    assert all(f"`{field}`" in page for field in FIELDS)


def test_the_offline_example_runs(page):
    exec(compile(blocks(page, "python")[0], "docs/link.md", "exec"), {})


def test_the_channel_to_add_works(page, monkeypatch):
    monkeypatch.setattr("channel_emulator.channels.registry.CHANNELS", {})
    exec(compile(blocks(page, "python")[1], "docs/link.md", "exec"), {"__name__": "channel_emulator.channels.base"})
    channel = create_channel("every_nth", n=3)
    channel.start(np.random.default_rng(0))
    assert [len(channel.carry(Transmission(b"", 0.0))) for _ in range(6)] == [1, 1, 0, 1, 1, 0]
