"""The editor for everyone: what axe finds, and work without a mouse or on a small screen that is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page, part: str | None = None) -> list[str]:
    """What axe finds against levels A and AA on the page, or in a part of it, with the elements that it names.

    What is on the canvas is as small as it was zoomed; the size of targets there is held at 100 %.
    """
    page.wait_for_timeout(200)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        """async ([levels, part]) => {
          const found = (await axe.run(part ?? document, {runOnly: levels})).violations;
          const view = document.querySelector('.react-flow__viewport');
          const far = view && new DOMMatrix(getComputedStyle(view).transform).a < 1;
          const zoomed = node => far && document.querySelector(node.target[0])?.closest('.react-flow__viewport');
          for (const item of found.filter(item => item.id === 'target-size'))
            item.nodes = item.nodes.filter(node => !zoomed(node));
          return found;
        }""",
        [LEVELS, part],
    )
    return [
        f"{item['id']}: {node['target']} {node['failureSummary']}" for item in found for node in item["nodes"]
    ]


needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: run `npm ci` in web")


def button(page: Page, name: str) -> Locator:
    """A button by its whole name."""
    return page.get_by_role("button", name=name, exact=True)


def rail(page: Page, name: str) -> None:
    """Open a panel."""
    tab = page.locator(f".rail [data-opens=panel-{name}]")
    if tab.get_attribute("aria-pressed") == "false":
        tab.click()
    page.wait_for_timeout(300)


@needs_axe
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    found: dict[str, list[str]] = {}

    def look(place: str, part: str | None = None) -> None:
        if wrong := violations(page, part):
            found[place] = wrong

    look("canvas")
    steps = page.get_by_role("textbox", name="steps of Sampler", exact=True)
    for count in ("1", "2"):
        steps.fill(count)
        steps.press("Enter")
        button(page, "Run").click()
        page.wait_for_timeout(200)
        page.locator('.status[data-status="success"]').wait_for(timeout=60_000)
    look("result", ".work")
    rail(page, "history")
    look("history", ".panels")
    rail(page, "plan")
    page.get_by_role("region", name="Cached").wait_for()
    look("plan", ".panels")
    rail(page, "list")
    page.get_by_role("region", name="Graph as a list").get_by_role("button", name="Sampler").click()
    look("list", ".panels")
    rail(page, "result")
    page.get_by_role("button", name="large").first.click()
    for name in ("Compare side by side", "Compare with a slider", "Details"):
        page.get_by_role("dialog").get_by_role("button", name=name).click()
        look(name, "dialog")
    page.keyboard.press("Escape")
    button(page, "File").click()
    look("menu", "#file-menu")
    page.keyboard.press("Escape")
    button(page, "App view").click()
    look("app view", ".editor")
    button(page, "Edit the form").click()
    look("form", ".app")
    button(page, "App view").click()
    steps.fill("900")
    steps.press("Enter")
    for _ in range(2):
        button(page, "Run").click()
        page.wait_for_timeout(200)
    rail(page, "queue")
    button(page, "Pause").click()
    page.locator(".jobs li").nth(1).wait_for()
    look("queue", ".work")
    button(page, "Resume").click()
    button(page, "Cancel all that wait").click()
    button(page, "Cancel").click()
    page.locator('.status[data-status="cancelled"]').wait_for()
    page.locator(".node .head", has_text="Sampler").click(button="right")
    look("context menu", "[role=menu]")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    look("help", "dialog")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.locator("#search-list li").first.wait_for()
    look("search", ".veil")
    page.keyboard.press("Escape")
    page.locator(".node .head", has_text="Negative prompt").click()
    page.locator(".node .head", has_text="Negative prompt").click(button="right")
    page.get_by_role("menuitem", name="Make a sub-graph").click()
    look("sub-graph", ".canvas")
    page.locator(".subgraph").get_by_role("button", name="Open").click()
    page.keyboard.press("Control+s")
    page.locator(".toast").wait_for()
    look("open sub-graph, toast", ".editor")
    page.get_by_role("navigation", name="Where this is").get_by_role("button").first.click()
    page.locator(".node .head", has_text="Prompt").first.click()
    page.keyboard.press("Delete")
    button(page, "Run").click()
    page.locator('.status[data-status="failed"]').wait_for(timeout=60_000)
    look("problems", ".work")
    page.keyboard.press("t")
    look("tabs, empty", ".editor")
    page.get_by_role("navigation", name="Open workflows").get_by_role("button").first.click()
    page.set_viewport_size({"width": 3200, "height": 1400})
    page.keyboard.press("f")
    look("full size", ".work")
    page.set_viewport_size({"width": 400, "height": 800})
    page.keyboard.press("f")
    look("400 pixels")
    button(page, "App view").click()
    look("app view in 400 pixels")
    assert not found, json.dumps(found, indent=1)


def focused(page: Page) -> str:
    """The name of what has the focus."""
    return str(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))


def has_focus(page: Page, name: str) -> None:
    """Wait until the focus is on what has this name: Escape in a field and a node that comes into view take a moment."""
    from playwright.sync_api import TimeoutError

    try:
        page.wait_for_function(
            "name => (document.activeElement.ariaLabel ?? document.activeElement.textContent).trim() === name",
            arg=name,
            timeout=5000,
        )
    except TimeoutError:
        raise AssertionError(f"{name} should have the focus, and {focused(page)} has it") from None


def into_graph(page: Page) -> None:
    """Press Tab from the last button of the bar."""
    page.get_by_role("button", name="Run", exact=True).focus()
    page.keyboard.press("Tab")


def test_arrows_go_from_node_to_node_and_tab_through_one_and_out(page: Page) -> None:
    into_graph(page)
    assert page.locator(".react-flow__node:focus").count() == 1
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    has_focus(page, "Save")
    page.keyboard.press("ArrowUp")
    has_focus(page, "Decode")
    page.keyboard.press("Enter")
    has_focus(page, "Input samples of Decode: LATENT")
    page.keyboard.press("Tab")
    has_focus(page, "Output IMAGE of Decode: IMAGE")
    page.keyboard.press("Escape")
    has_focus(page, "Decode")
    page.keyboard.press("Shift+Tab")
    has_focus(page, "Run")
    page.keyboard.press("Tab")
    has_focus(page, "Decode")  # the graph remembers where it was left
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.locator(".react-flow__node :focus").count() == 0


def test_a_link_is_cut_and_drawn_and_a_node_moved_by_keys(page: Page) -> None:
    into_graph(page)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    has_focus(page, "Input images of Save: IMAGE")
    links = page.locator(".react-flow__edge").count()
    page.keyboard.press("Delete")
    assert page.locator(".react-flow__edge").count() == links - 1
    page.keyboard.press("Enter")
    page.get_by_text("Now the output (IMAGE)").wait_for()
    page.keyboard.press("Tab")
    has_focus(page, "Output IMAGE of Decode: IMAGE")
    page.keyboard.press("Enter")
    assert page.locator(".react-flow__edge").count() == links
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    before = page.locator(".react-flow__node:focus").bounding_box()
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_timeout(300)
    after = page.locator(".react-flow__node:focus").bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] > before["y"]


def test_escape_in_a_field_gives_up_what_was_typed_and_a_link_that_is_drawn(page: Page) -> None:
    steps = page.get_by_role("textbox", name="steps of Sampler", exact=True)
    was = steps.input_value()
    steps.fill("77")
    page.keyboard.press("Escape")
    page.wait_for_timeout(100)
    has_focus(page, "Sampler")
    assert steps.input_value() == was
    page.get_by_label("Output LATENT of Sampler: LATENT", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_text("Now the input (LATENT)").wait_for()
    page.keyboard.press("Escape")
    assert page.get_by_text("Now the input").count() == 0


def test_the_graph_is_a_list_in_which_links_are_chosen(page: Page) -> None:
    page.get_by_role("button", name="Graph as a list").click()
    panel = page.get_by_role("region", name="Graph as a list")
    names = panel.get_by_role("listitem").all_inner_texts()
    assert names.index("Model") < names.index("Prompt") < names.index("Sampler") < names.index("Save")
    panel.get_by_role("button", name="Save").click()
    source = panel.get_by_label("What feeds images of Save")
    links = page.locator(".react-flow__edge").count()
    source.select_option("nothing")
    assert page.locator(".react-flow__edge").count() == links - 1
    source.select_option("Decode (8): IMAGE")
    assert page.locator(".react-flow__edge").count() == links
    panel.get_by_role("button", name="Go to Save").click()
    has_focus(page, "Save")


SCALE = "new DOMMatrix(getComputedStyle(document.querySelector('.react-flow__viewport')).transform)"


def touch(page: Page, *steps: list[tuple[float, float]]) -> None:
    """Put fingers down at the first places, move them through the others, and lift them."""
    session = page.context.new_cdp_session(page)
    for index, step in enumerate(steps):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(step)]
        session.send(
            "Input.dispatchTouchEvent",
            {"type": "touchMove" if index else "touchStart", "touchPoints": points},
        )
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_small_screen_shows_all_that_is_needed_and_runs(phone: Page) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") <= 400
    for name in ("File", "Run", "Undo", "Keyboard shortcuts"):
        box = phone.get_by_role("button", name=name, exact=True).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400, name
    canvas = phone.locator(".canvas").bounding_box()
    assert canvas is not None
    assert canvas["height"] > 300, "the panels leave room for the graph"
    phone.get_by_role("button", name="Run", exact=True).tap()
    phone.locator("figure img").wait_for(timeout=60_000)


def test_fingers_pan_pinch_and_connect(phone: Page) -> None:
    box = phone.locator(".react-flow__pane").bounding_box()
    assert box is not None
    x, y = box["x"] + 250, box["y"] + box["height"] - 60
    before = phone.evaluate(SCALE)
    touch(phone, [(x, y)], [(x + 20, y - 20)], [(x + 60, y - 40)])
    moved = phone.evaluate(SCALE)
    assert moved["e"] - before["e"] > 30
    middle = box["y"] + box["height"] - 60
    touch(
        phone, [(150, middle), (200, middle)], [(120, middle), (230, middle)], [(80, middle), (270, middle)]
    )
    phone.wait_for_timeout(300)
    assert phone.evaluate(SCALE)["a"] > 1.5 * moved["a"]
    links = phone.locator(".react-flow__edge")
    phone.set_viewport_size({"width": 1600, "height": 900})
    phone.keyboard.press("f")
    phone.wait_for_timeout(500)
    count = links.count()
    page = phone.get_by_label("Input images of Save: IMAGE", exact=True)
    page.focus()
    phone.keyboard.press("Delete")
    assert links.count() == count - 1
    phone.get_by_label("Output IMAGE of Decode: IMAGE", exact=True).tap()
    phone.get_by_text("Now the input (IMAGE)").wait_for()
    page.tap()
    assert links.count() == count
