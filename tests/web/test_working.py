"""Tabs, drafts, the queue, history and plan of the editor, in a real browser against a real server."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.test_editor import downloaded, field, node, run, status

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Error, Locator, Page
else:
    Error = pytest.importorskip("playwright.sync_api").Error

RUN = "Run"


@pytest.fixture(autouse=True)
def idle(address: str) -> Iterator[None]:
    """Nothing of one test runs, waits or is paused in the next."""
    yield
    for path, body in (("/queue", {"clear": True}), ("/interrupt", {}), ("/queue/resume", {})):
        kind = {"Content-Type": "application/json"}
        urllib.request.urlopen(
            urllib.request.Request(address + path, json.dumps(body).encode(), kind)
        ).close()


def press(page: Page, name: str) -> None:
    """Press a button by its whole name."""
    page.get_by_role("button", name=name, exact=True).click()


def until(page: Page, check: Callable[[], bool]) -> None:
    """Wait for something that no locator says. (The page's policy forbids `wait_for_function`.)"""
    for _ in range(300):
        if check():
            return
        page.wait_for_timeout(50)
    assert check()


def file_menu(page: Page, entry: str) -> None:
    press(page, "File")
    press(page, entry)


def panel(page: Page, name: str) -> Locator:
    """A panel; it is opened where it is not."""
    found = page.get_by_role("region", name=name, exact=True)
    if not found.count():
        page.get_by_role("button", name=re.compile(rf"^{name}( \(\d+\))?$")).click()
    found.wait_for()
    return found


def entries(page: Page) -> list[str]:
    """The titles in the queue, the first to run first."""
    return page.locator(".jobs li b").all_inner_texts()


def in_tab(page: Page, title: str, steps: int) -> None:
    """Give the workflow a title and a number of steps, and queue it."""
    page.get_by_label("Title of the workflow").fill(title)
    field(page, "steps of Sampler").fill(str(steps))
    field(page, "steps of Sampler").press("Enter")
    press(page, RUN)


def test_what_was_done_is_there_after_a_reload(page: Page) -> None:
    field(page, "text of Prompt").fill("two hats and a fox")
    file_menu(page, "New, empty")
    page.get_by_label("Title of the workflow").fill("Second")
    # At once: nothing waits for a timer.
    page.reload()
    strip = page.get_by_role("navigation", name="Open workflows")
    strip.wait_for()
    assert strip.locator("li").all_inner_texts() == ["Text to image", "Second"]
    assert page.get_by_label("Title of the workflow").input_value() == "Second"
    strip.get_by_role("button", name="Text to image", exact=True).click()
    assert field(page, "text of Prompt").input_value() == "two hats and a fox"


def test_a_crash_of_the_page_loses_nothing(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    field(page, "text of Prompt").fill("a fox that must not be lost")
    page.wait_for_timeout(600)
    with page.expect_event("crash"), contextlib.suppress(Error):
        page.goto("chrome://crash")
    page.close()
    # A new window, which knows nothing of the one before.
    again = context.new_page()
    again.goto(address)
    text = field(again, "text of Prompt")
    text.wait_for()
    assert text.input_value() == "a fox that must not be lost"
    # Another window beside it begins anew, and leaves the first one's work alone.
    beside = context.new_page()
    beside.goto(address)
    field(beside, "text of Prompt").wait_for()
    assert "fox" not in field(beside, "text of Prompt").input_value()
    again.reload()
    assert field(again, "text of Prompt").input_value() == "a fox that must not be lost"
    context.close()


def test_a_run_and_its_picture_are_found_again_after_a_reload(page: Page) -> None:
    field(page, "steps of Sampler").fill("400")
    press(page, RUN)
    node(page, "Sampler").get_by_text("of 400").wait_for()
    page.reload()
    node(page, "Sampler").get_by_text("of 400").wait_for()
    press(page, "Cancel")
    page.get_by_text("Cancelled").wait_for()
    field(page, "steps of Sampler").fill("2")
    run(page)
    source = page.locator("figure img").first.get_attribute("src")
    page.reload()
    assert page.locator("figure img").first.get_attribute("src") == source


def test_each_tab_has_its_own_history_and_run(page: Page) -> None:
    field(page, "steps of Sampler").fill("2")
    run(page)
    file_menu(page, "New, empty")
    assert page.locator(".node").count() == 0
    assert status(page) == ""
    assert page.get_by_role("button", name="Undo").is_disabled()
    press(page, "Text to image")
    assert "Done" in status(page)
    page.get_by_role("button", name="Undo").click()
    assert field(page, "steps of Sampler").input_value() == "20"
    page.get_by_role("button", name="Redo").click()
    assert field(page, "steps of Sampler").input_value() == "2"
    press(page, "Close Text to image")
    assert page.get_by_role("navigation", name="Open workflows").count() == 0
    press(page, "Open again")
    node(page, "Sampler").wait_for()
    assert field(page, "steps of Sampler").input_value() == "2"


def test_runs_wait_and_are_moved_cancelled_and_paused(page: Page) -> None:
    queue = panel(page, "Queue")
    press(page, "Pause")
    queue.get_by_text("Paused").wait_for()
    for place, title in enumerate(("First", "Second", "Third")):
        in_tab(page, title, place + 1)
        page.locator(".jobs li").nth(place).wait_for()
    assert entries(page) == ["First", "Second", "Third"]
    assert "2 more waiting" in status(page)
    press(page, "Run Third earlier")
    until(page, lambda: entries(page) == ["First", "Third", "Second"])
    press(page, "Run First later")
    until(page, lambda: entries(page) == ["Third", "First", "Second"])
    press(page, "Cancel First")
    until(page, lambda: entries(page) == ["Third", "Second"])
    press(page, "Resume")
    queue.get_by_text("Nothing runs or waits.").wait_for(timeout=60_000)
    history = panel(page, "History")
    history.locator("li").nth(2).wait_for()
    # The newest of those that were posted first; what was cancelled says so.
    assert history.locator("li b").all_inner_texts()[:3] == ["Third", "Second", "First"]
    assert history.locator("li").nth(2).get_by_text("Cancelled").count() == 1


def test_runs_that_wait_are_dragged_and_moved_by_keys(page: Page) -> None:
    panel(page, "Queue")
    press(page, "Pause")
    page.get_by_text("Paused:").wait_for()
    for place, title in enumerate(("First", "Second", "Third", "Fourth")):
        in_tab(page, title, place + 1)
        page.locator(".jobs li").nth(place).wait_for()

    def grip(title: str) -> tuple[float, float]:
        box = page.locator(f".jobs li[aria-label='{title}'] .place").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    (x, y), (_, below) = grip("Fourth"), grip("Second")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, below - 12, steps=5)
    assert page.locator(".jobs li[data-mark=above] b").inner_text() == "Second"
    page.mouse.up()
    until(page, lambda: entries(page) == ["First", "Fourth", "Second", "Third"])
    (x, y), (_, below) = grip("First"), grip("Third")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, below + 15, steps=5)
    assert page.locator(".jobs li[data-mark=below] b").inner_text() == "Third"
    page.mouse.up()
    until(page, lambda: entries(page) == ["Fourth", "Second", "Third", "First"])
    # By keys: the run that is moved keeps the focus.
    page.locator(".jobs li").nth(3).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    until(page, lambda: entries(page) == ["Fourth", "Third", "Second", "First"])
    page.keyboard.press("Shift+Home")
    until(page, lambda: entries(page) == ["Third", "Fourth", "Second", "First"])
    page.get_by_text("Third is number 1 now.").wait_for(state="attached")
    page.keyboard.press("Shift+ArrowDown")
    until(page, lambda: entries(page) == ["Fourth", "Third", "Second", "First"])
    page.keyboard.press("Delete")
    until(page, lambda: entries(page) == ["Fourth", "Second", "First"])
    # Delete was for the queue: the graph has all of its nodes.
    assert page.locator(".node").count() == 7
    # The order is the server's: another page has it too.
    page.reload()
    panel(page, "Queue")
    until(page, lambda: entries(page) == ["Fourth", "Second", "First"])


def test_a_run_that_waits_is_shown_once_it_begins(page: Page) -> None:
    in_tab(page, "Long", 300)
    node(page, "Sampler").get_by_text("of 300").wait_for()
    in_tab(page, "Short", 2)
    page.get_by_text("1 more waiting").wait_for()
    press(page, "Cancel")
    page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    assert page.locator("figure img").count() == 1


def test_a_run_of_the_history_brings_its_workflow_back(page: Page) -> None:
    page.get_by_label("Title of the workflow").fill("Remembered")
    field(page, "text of Prompt").fill("a blue square")
    field(page, "steps of Sampler").fill("2")
    run(page)
    before = downloaded(page, "Download .json")
    source = page.locator("figure img").first.get_attribute("src")
    field(page, "text of Prompt").fill("something else")
    history = panel(page, "History")
    picture = history.locator("li img").first
    picture.wait_for()
    until(page, lambda: bool(picture.evaluate("image => image.naturalWidth > 0")))
    history.get_by_role("button", name="Open Remembered as it ran").first.click()
    page.get_by_role("navigation", name="Open workflows").wait_for()
    assert field(page, "text of Prompt").input_value() == "a blue square"
    assert downloaded(page, "Download .json") == before
    panel(page, "Result")
    assert page.locator("figure img").first.get_attribute("src") == source
    history = panel(page, "History")
    history.get_by_role("button", name="Forget this run of Remembered").first.click()
    until(page, lambda: history.get_by_text("Remembered").count() == 0)


def test_the_plan_says_what_will_run_and_why(page: Page) -> None:
    plan = panel(page, "Plan")
    field(page, "steps of Sampler").fill("3")
    run(page)
    plan.get_by_text("A run would do nothing: every result is cached.").wait_for()
    field(page, "steps of Sampler").fill("4")
    field(page, "steps of Sampler").press("Enter")
    runs = plan.get_by_role("region", name="Will run")
    runs.get_by_text("input steps changed").wait_for()
    held = plan.get_by_role("region", name="Cached")
    held.get_by_role("button", name="Prompt", exact=True).wait_for()
    runs.get_by_role("button", name="Sampler").click()
    assert page.locator(".node[data-selected] .head .name").inner_text() == "Sampler"


def test_a_change_runs_by_itself_where_that_is_wanted(page: Page) -> None:
    field(page, "steps of Sampler").fill("2")
    press(page, "Run on change")
    page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    first = page.locator("figure img").first.get_attribute("src")
    assert first is not None
    field(page, "seed of Sampler").fill("77")
    field(page, "seed of Sampler").press("Enter")
    until(page, lambda: page.locator("figure img").first.get_attribute("src") != first)
    page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    # A title changes no picture: nothing is sent.
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.get_by_label("Title of the workflow").fill("Only the title")
    page.wait_for_timeout(1200)
    assert not [url for url in sent if url.endswith("/prompt")]


def test_a_problem_goes_once_its_input_is_mended(page: Page) -> None:
    node(page, "Prompt").locator(".head").click()
    page.keyboard.press("Delete")
    node(page, "Size").locator(".head").click()
    page.keyboard.press("Delete")
    run(page)
    problems = page.locator(".problems li")
    count = problems.count()
    assert count >= 2
    negative = page.get_by_label(re.compile("^Output CONDITIONING of"), exact=False).first
    negative.drag_to(page.get_by_label("Input positive of Sampler: CONDITIONING", exact=True))
    until(page, lambda: problems.count() == count - 1)
    assert node(page, "Sampler").locator("[data-troubled]").all_inner_texts() == ["latent_image"]


def test_a_link_carries_the_whole_workflow(page: Page, browser: Browser) -> None:
    page.get_by_label("Title of the workflow").fill("Sent by link")
    field(page, "seed of Sampler").fill("18446744073709551615")
    field(page, "text of Prompt").fill("ein Fuchs, 狐, 🦊")
    before = downloaded(page, "Download .json")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    file_menu(page, "Copy a link")
    page.get_by_text("Link copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    other = browser.new_context()
    there = other.new_page()
    there.goto(link)
    node(there, "Sampler").wait_for()
    assert downloaded(there, "Download .json") == before
    assert "#" not in there.url
    # An address that was cut off says so, and what is open stays.
    there.evaluate("link => { location.hash = link.slice(link.indexOf('#'), -40) }", link)
    there.get_by_text("The link cannot be opened").wait_for()
    assert node(there, "Sampler").count() == 1
    other.close()


def test_a_link_is_shown_where_it_cannot_be_copied(page: Page) -> None:
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    file_menu(page, "Copy a link")
    shown = page.get_by_role("dialog", name="Link to this workflow").get_by_role("textbox").input_value()
    assert "#workflow=" in shown
