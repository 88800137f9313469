"""A real Chromium that looks at a service, for the tests of the page."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser():
    """Start the browser of this machine; skip the tests if there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [dev]")
    path = next(filter(None, map(shutil.which, PLACES)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        # in a container, root's Chromium has no sandbox of its own
        options = ["--no-sandbox", "--disable-gpu"]
        running = started.chromium.launch(executable_path=path, args=options, timeout=120_000)
        yield running
        running.close()


class Tab:
    """One person's tab: a page, and what went wrong in it."""

    def __init__(self, browser, url, *, phone=False, **options):
        size = {"width": 360, "height": 740} if phone else {"width": 1280, "height": 860}
        self.url = url
        self.context = browser.new_context(viewport=size, **options)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _note(self, message):
        if message.type == "error" and "status of 4" not in message.text:
            self.faults.append(message.text)

    def open(self, place="", key=None):
        """Go to a view of the page, with a key if one is given; wait until it is drawn."""
        if key:
            self.page.goto(f"{self.url}/page/icon.svg")
            self.page.evaluate("key => sessionStorage.setItem('evomem-key', key)", key)
        self.page.goto("about:blank")  # else the old view could be taken for the new one
        self.page.goto(f"{self.url}/#/{place}")
        return self.settled()

    def settled(self):
        """Wait until nothing is on its way."""
        self.page.wait_for_selector("h1")
        self.page.wait_for_selector("[aria-busy]", state="detached")
        return self.page

    def close(self):
        """Close the tab; nothing may have gone wrong, or have been asked elsewhere."""
        self.context.close()
        assert self.faults == []
        assert [url for url in self.asked if not url.startswith((self.url, "about:"))] == []
