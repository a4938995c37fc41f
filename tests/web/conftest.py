"""The editor in a real browser, served by a real `nodegraph serve` with the embedded model.

Chromium is looked for at $CHROMIUM, then on the path. Where it or playwright is missing, these tests are skipped and say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.serving import FLAGS, chromium, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium: install it, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with one worker, at work for all tests."""
    with served(tmp_path_factory.mktemp("data"), threads=1) as found:
        yield found


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
