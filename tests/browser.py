"""Opens Prefect's pages in the system's Chromium, headless and with an empty profile."""

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
# A run starts within 15 seconds, on a busy machine within a minute or more.
_TIMEOUT_MS: Final = 180_000.0


@contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """Open an empty page; the browser is closed at the end."""
    expect.set_options(timeout=_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_FLAGS, viewport=ViewportSize(width=1200, height=900)
        )
        browser.set_default_timeout(_TIMEOUT_MS)
        yield browser.new_page()
        browser.close()
