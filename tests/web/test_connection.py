"""The editor while its server is away, and beside another tab on the same workflow."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.serving import start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Server:
    """A server of its own at one address, which can be killed and started again."""

    def __init__(self, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = data
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it says where it is."""
        self.process, _ = start(self.data, self.port, threads=1)

    def kill(self) -> None:
        """End it at once, with no time to tell anybody."""
        self.process.kill()
        self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "data")
    yield found
    found.kill()


def opened(browser: Browser, address: str) -> Page:
    """The editor in a profile of its own."""
    page = browser.new_context(viewport={"width": 1440, "height": 860}, reduced_motion="reduce").new_page()
    page.set_default_timeout(30_000)
    page.goto(address)
    page.get_by_role("button", name="Run", exact=True).wait_for()
    return page


def test_a_run_outlives_its_server_and_so_does_what_was_edited(browser: Browser, server: Server) -> None:
    page = opened(browser, server.address)
    steps = page.get_by_role("textbox", name="steps of Sampler", exact=True)
    steps.fill("150")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("of 150").wait_for(timeout=60_000)
    server.kill()
    page.get_by_text("Connection lost").wait_for()
    page.get_by_role("textbox", name="text of Prompt", exact=True).fill("edited while it was away")
    server.start()
    page.get_by_text("Connection lost").wait_for(state="detached")
    page.locator('.status:is([data-status="success"], [data-status="failed"])').wait_for(timeout=120_000)
    assert page.locator(".status").get_attribute("data-status") == "success"
    assert page.locator("figure img").count() == 1
    assert (
        page.get_by_role("textbox", name="text of Prompt", exact=True).input_value()
        == "edited while it was away"
    )
    page.context.close()


def test_a_run_that_cannot_be_sent_says_so_and_can_be_sent_later(browser: Browser, server: Server) -> None:
    page = opened(browser, server.address)
    server.kill()
    page.get_by_text("Connection lost").wait_for()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("region", name="Problems").get_by_text("cannot be reached").wait_for()
    server.start()
    page.get_by_text("Connection lost").wait_for(state="detached")
    page.get_by_role("textbox", name="steps of Sampler", exact=True).fill("1")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    page.context.close()


def test_two_tabs_on_one_workflow_do_not_overwrite_each_other_silently(
    browser: Browser, address: str
) -> None:
    first = opened(browser, address)
    first.get_by_label("Title of the workflow").fill("Shared")
    first.keyboard.press("Control+s")
    first.get_by_text("Saved as “Shared”").wait_for()
    second = first.context.new_page()
    second.goto(address)
    second.get_by_role("button", name="File", exact=True).click()
    second.get_by_role("button", name="Shared", exact=True).click()
    second.get_by_role("textbox", name="text of Prompt", exact=True).fill("the second's")
    second.keyboard.press("Control+s")
    second.get_by_text("Saved as “Shared”").wait_for()
    first.get_by_text("“Shared” was saved in another tab").wait_for()
    first.get_by_role("textbox", name="text of Prompt", exact=True).fill("the first's")
    first.keyboard.press("Control+s")
    asked = first.get_by_role("dialog", name="Changed since it was opened")
    asked.get_by_text("“Shared” was changed on the server").wait_for()

    def saved(name: str) -> str:
        return first.request.get(f"{address}/api/workflows/{name}").text()

    assert "the second's" in saved("Shared")
    asked.get_by_role("button", name="Cancel").click()
    assert "the second's" in saved("Shared")
    # Beside it, under a name of its own, which can be undone like any other change.
    first.keyboard.press("Control+s")
    asked.get_by_role("button", name="Keep both").click()
    first.get_by_text("Saved as “Shared 2”").wait_for()
    assert "the second's" in saved("Shared")
    assert "the first's" in saved("Shared%202")
    assert first.get_by_label("Title of the workflow").input_value() == "Shared 2"
    first.get_by_role("button", name="Undo").click()
    assert first.get_by_label("Title of the workflow").input_value() == "Shared"
    # What was asked about is still known after a reload, and only that is replaced.
    first.reload()
    first.get_by_role("button", name="Run", exact=True).wait_for()
    first.keyboard.press("Control+s")
    asked.get_by_role("button", name="Replace it").click()
    first.get_by_text("Saved as “Shared”.").wait_for()
    assert "the first's" in saved("Shared")
    # Now it is this tab's: nobody is asked again, before a reload or after.
    for words in ("once more", "and again"):
        first.get_by_role("textbox", name="text of Prompt", exact=True).fill(words)
        first.keyboard.press("Control+s")
        first.wait_for_timeout(400)
        first.get_by_text("Saved as “Shared”.").wait_for()
        assert words in saved("Shared")
        first.wait_for_timeout(500)
        first.reload()
        first.get_by_role("button", name="Run", exact=True).wait_for()
    second.keyboard.press("Control+s")
    second.get_by_role("dialog").get_by_role("button", name="Open the other").click()
    second.get_by_role("navigation", name="Open workflows").wait_for()
    assert second.get_by_role("textbox", name="text of Prompt", exact=True).input_value() == "and again"
    first.context.close()
