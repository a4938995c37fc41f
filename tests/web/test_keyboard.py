"""The editor by the keyboard alone: something is built and run, and the focus is always somewhere, where it can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.web.test_accessibility import focused, has_focus, into_graph
from tests.web.test_editor import node, run

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The element with the focus, where it or the node in it can be told from what has none.
SHOWN = """() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return 'nothing has the focus';
  const accent = getComputedStyle(document.querySelector('.button.primary')).backgroundColor;
  const marked = [focused, ...focused.children].some(element => {
    const style = getComputedStyle(element);
    return style.outlineStyle !== 'none' || style.borderBottomColor === accent || style.boxShadow.includes(accent);
  });
  const box = focused.getBoundingClientRect();
  const within = box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight && box.width > 0;
  const name = focused.ariaLabel ?? focused.textContent;
  return marked && within ? '' : `${focused.tagName} ${name}: ${marked ? 'out of view' : 'not marked'}`;
}"""


def check(page: Page, name: str | None = None) -> None:
    """The focus is there, can be seen, and is on what has this name."""
    if name is not None:
        has_focus(page, name)
    page.wait_for_timeout(80)
    assert page.evaluate(SHOWN) == ""


def tab_to(page: Page, name: str, most: int = 30) -> None:
    """Press Tab until something of this name has the focus."""
    for _ in range(most):
        if focused(page).strip() == name:
            return check(page, name)
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {name}, but to {focused(page)}")


def test_something_is_built_run_and_looked_at_without_a_mouse(page: Page) -> None:
    page.keyboard.press("t")
    for words in ("emptyimage", "preview image"):
        page.keyboard.press("a")
        check(page, "Add a node")
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        check(page)
    has_focus(page, "Preview Image")  # the new node has the focus
    first, second = (page.locator(".node").nth(index).bounding_box() for index in range(2))
    assert first is not None and second is not None
    assert first["x"] + first["width"] < second["x"], "it is not laid over the other"
    page.keyboard.press("Enter")
    check(page, "Input images of Preview Image: IMAGE")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    check(page, "Output IMAGE of EmptyImage: IMAGE")
    page.keyboard.press("Enter")
    assert page.locator(".react-flow__edge").count() == 1
    tab_to(page, "width of EmptyImage")
    page.keyboard.press("Control+a")
    page.keyboard.type("96")
    page.keyboard.press("Enter")
    check(page, "width of EmptyImage")
    page.keyboard.press("Control+Enter")
    page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    check(page, "EmptyImage")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    tab_to(page, "Result of Preview Image")
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    viewer.wait_for()
    check(page)
    assert (
        viewer.locator(".stage img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    )
    page.keyboard.press("Escape")
    assert viewer.count() == 0
    check(page, "Result of Preview Image")


def test_the_focus_is_never_lost(page: Page) -> None:
    into_graph(page)
    check(page, "Model")
    page.keyboard.press("a")
    page.keyboard.press("Escape")
    check(page, "Model")
    page.keyboard.press("ContextMenu")
    page.get_by_role("menu").wait_for()
    check(page)
    page.keyboard.press("Escape")
    check(page, "Model")
    page.keyboard.press("F2")
    check(page)
    page.keyboard.type("Weights")
    page.keyboard.press("Enter")
    check(page, "Weights")
    page.keyboard.press("?")
    check(page)
    page.keyboard.press("Enter")  # on its button
    assert page.get_by_role("dialog").count() == 0
    check(page, "Weights")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    check(page, "Sampler")
    page.keyboard.press("Delete")
    assert node(page, "Sampler").count() == 0
    check(page)
    page.keyboard.press("Enter")
    assert focused(page) in ("Save", "Decode", "Prompt", "Negative prompt"), "what was next to it"
    check(page)
    page.get_by_role("button", name="Undo", exact=True).focus()
    while page.get_by_role("button", name="Undo", exact=True).is_enabled():
        page.keyboard.press("Enter")
    check(page)
    page.get_by_role("button", name="History", exact=True).focus()
    page.keyboard.press("Enter")
    close = page.get_by_role("button", name="Close panel")
    close.focus()
    page.keyboard.press("Enter")
    assert close.count() == 0
    check(page, "History")
    page.keyboard.press("t")
    page.get_by_role("navigation", name="Open workflows").get_by_role("button", name="Close ").last.focus()
    page.keyboard.press("Enter")
    check(page)


def test_what_is_taken_from_a_list_leaves_the_focus_in_it(page: Page) -> None:
    run(page)
    page.get_by_role("button", name="History", exact=True).click()
    forget = page.get_by_role("button", name="Forget this run")
    forget.first.wait_for()
    count = forget.count()
    forget.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(600)
    assert forget.count() == count - 1
    assert page.evaluate("document.activeElement.closest('.panels') !== null")
    check(page)
    page.get_by_role("button", name="App view").click()
    page.get_by_role("button", name="Edit the form").click()
    page.get_by_role("button", name="Remove the parameter seed").focus()
    page.keyboard.press("Enter")
    check(page, "Name of steps")
