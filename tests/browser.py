"""A real browser for Prefect's pages: the system's Chromium, without a window, with an empty profile."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

CHROMIUM: Final = shutil.which("chromium")
_FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# A run takes a quarter of a minute to start, and a busy machine several times that.
_PATIENCE_MS: Final = 180_000.0


@contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """An empty page; the browser is closed in the end."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_FLAGS, viewport=ViewportSize(width=1200, height=900)
        )
        browser.set_default_timeout(_PATIENCE_MS)
        yield browser.new_page()
        browser.close()
