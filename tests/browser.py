"""A page of a real headless Chromium, with a profile of its own and no network but this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE = 90_000  # ms for a page on a busy machine
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)


@contextmanager
def browser_page(**context: Any) -> Iterator[Any]:
    """A playwright page; skips the test where there is no Chromium. ``context``: of playwright's."""
    chromium = os.environ.get("GOODNET_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("no Chromium found; install it or name one with GOODNET_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        opened = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium,
            headless=True,
            args=list(QUIET),
            viewport={"width": 1500, "height": 1000},
            **context,
        )
        opened.set_default_timeout(PATIENCE)
        yield opened.new_page()
        opened.close()
