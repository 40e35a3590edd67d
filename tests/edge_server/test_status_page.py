"""The status page in a real Chromium, over a real server that answers meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.edge_server.browser import chromium, look, needs_browser
from tests.edge_server.conftest import make_bundle, running
from tests.edge_server.test_http_api import body, http

PATIENCE_S = 30
NASTY = "<img src=x onerror=alert(1)>"
CHARTS = ("accuracy", "throughput", "latency", "quality")


def text(driver: webdriver.Chrome, selector: str) -> str:
    return driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def wait_for(driver: webdriver.Chrome, condition: Callable[[], Any]) -> None:
    WebDriverWait(driver, PATIENCE_S, poll_frequency=0.2).until(lambda _: condition())


async def ask(client: httpx.AsyncClient, sequence: int) -> None:
    """One image of the nasty device, and what was in it."""
    asked = body(device=NASTY, sequence=sequence, ber_estimate=0.04)
    right = (await client.post("/v1/infer", json=asked)).json()["results"][0]["top"][0]["index"]
    await client.post("/v1/feedback", json={"device": NASTY, "sequence": sequence, "true_class": right})


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@needs_browser
async def test_the_page_is_live_readable_and_on_its_own(bundle_root: Path, browser: webdriver.Chrome):
    async with running(bundle_root) as (_, at), http(at["http"]) as client:
        for sequence in (1, 2):
            await ask(client, sequence)
        await asyncio.to_thread(open_and_read, browser, f"http://{at['http']}/")
        await ask(client, 3)
        await asyncio.to_thread(wait_for, browser, lambda: "3 since the start" in text(browser, "#tiles"))
        await asyncio.to_thread(narrow_and_dark, browser)
    await asyncio.to_thread(wait_for, browser, lambda: text(browser, "#state") == "the edge cannot be reached")


@needs_browser
async def test_the_page_follows_what_serves(tmp_path: Path, browser: webdriver.Chrome):
    """Also where nothing does, and where the codec that was judged most does no more."""
    make_bundle(tmp_path)
    async with running(tmp_path) as (server, at), http(at["http"]) as client:
        await ask(client, 1)
        await asyncio.to_thread(browser.get, f"http://{at['http']}/")
        shown = lambda: text(browser, "#accuracy-task option:checked")  # noqa: E731
        await asyncio.to_thread(wait_for, browser, lambda: shown() == "toy shape")
        await server.bundles.unload("toy")
        await asyncio.to_thread(wait_for, browser, lambda: shown() == "" and text(browser, "#codecs-table") == "none yet")
        make_bundle(tmp_path, "other one", codec_id=9)
        await server.bundles.load("other one")
        await asyncio.to_thread(wait_for, browser, lambda: shown() == "other one shape")
        await asyncio.to_thread(wait_for, browser, lambda: "other one, shape" in text(browser, "#accuracy-table caption"))
        log = await asyncio.to_thread(browser.get_log, "browser")
        assert [entry["message"] for entry in log] == []


@needs_browser
async def test_numbers_are_short_and_keep_their_size(bundle_root: Path, browser: webdriver.Chrome):
    answered_with = """const asked = window.fetch;
        window.fetch = async (...given) =>
            Response.json({ ...await (await asked(...given)).json(), batch_size: window.size });"""
    numbers = {99.97: "100", 1.5: "1.5", 1e-10: "1e-10", 1234: "1,234"}

    def show() -> None:
        browser.get(f"http://{at['http']}/")
        browser.execute_script(answered_with)
        for number, shown in numbers.items():
            browser.execute_script("window.size = arguments[0]", number)
            wait_for(browser, lambda: f"; {shown} in a batch" in text(browser, "#tiles"))

    async with running(bundle_root) as (_, at):
        await asyncio.to_thread(show)


def open_and_read(driver: webdriver.Chrome, address: str) -> None:
    driver.get(address)
    wait_for(driver, lambda: text(driver, "#state") == "serving")
    tiles = text(driver, "#tiles")
    assert "2 since the start" in tiles and "100.0 %" in tiles and "1 remembered" in tiles
    # A device's name is text, whatever it says.
    assert text(driver, "#devices-table tbody td") == NASTY
    assert "toy" in text(driver, "#codecs-table") and "2, 4, 8 B" in text(driver, "#codecs-table")
    for name in CHARTS:
        label = driver.execute_script(f"return document.querySelector('#{name}-chart svg[role=img]').ariaLabel")
        assert len(label) > 20
        assert "1" in text(driver, f"#{name}-table tbody") or "now" in text(driver, f"#{name}-table tbody")
    assert "BER ≤0.05: 100.0 %" in driver.execute_script("return document.querySelector('#accuracy-chart svg').ariaLabel")
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded and all(name.startswith(address) for name in loaded)
    # What the policy refuses, and what fails in a script, would be here.
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    headers = driver.execute_script("return [...document.querySelectorAll('th[aria-sort]')].map((cell) => cell.ariaSort)")
    assert headers == ["descending"]
    driver.execute_script("document.querySelector('[data-key=device]').click()")
    assert driver.execute_script("return document.querySelector('th:has([data-key=device])').ariaSort") == "ascending"


def narrow_and_dark(driver: webdriver.Chrome) -> None:
    light = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    look(driver, 360, dark=True)
    dark = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, dark[4:-1].split(","))) < sum(map(int, light[4:-1].split(","))) / 3
    width = "return [document.documentElement.scrollWidth, window.innerWidth]"
    wait_for(driver, lambda: driver.execute_script(width) == [360, 360])
