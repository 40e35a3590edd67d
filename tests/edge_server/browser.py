"""A real Chromium, headless, where this machine has one."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium or its driver is not installed (Debian's chromium and chromium-driver)"
)


@contextlib.contextmanager
def chromium(width: int = 1280, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A window of so many pixels; ``dark`` is what the person prefers."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        look(driver, width, dark)
        yield driver
    finally:
        driver.quit()


def look(driver: webdriver.Chrome, width: int, dark: bool = False) -> None:
    """Give the page this width, which may be a phone's, narrower than any window."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def picture(driver: webdriver.Chrome, width: int, dark: bool = False) -> bytes:
    """PNG of the whole page, after it was drawn anew at this width."""
    look(driver, width, dark)
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")
    height = driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(taken["data"])
