"""The editor in a real browser, served by a real `nodegraph serve` with the embedded model.

Chromium is looked for at $CHROMIUM, then on the path. Where it or playwright is missing, these tests are skipped and say so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium: install it, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with one worker, at work for all tests."""
    command = [sys.executable, "-m", "nodegraph", "serve", "--port", "0", "--device", "cpu", "--no-browser"]
    command += ["--data-dir", str(tmp_path_factory.mktemp("data"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = server.stdout.readline()
        found = re.search(r"http://[\w.:]+", told)
        assert found is not None, told
        try:
            yield found.group()
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The editor with its first example, in a profile of its own. An error that its script does not catch fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 860}, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    errors: list[str] = []
    found = context.new_page()
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    found.goto(address)
    found.get_by_role("button", name="Run", exact=True).wait_for()
    yield found
    context.close()
    assert [error for error in errors if "net::ERR_ABORTED" not in error] == []


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    """The editor on a small screen that is touched."""
    context = browser.new_context(
        viewport={"width": 400, "height": 800}, has_touch=True, reduced_motion="reduce"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Run", exact=True).wait_for()
    yield page
    context.close()
