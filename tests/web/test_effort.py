"""What the editor does not do: draw what did not change, write what is still moving, keep what is out of view."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.test_editor import field

if TYPE_CHECKING:
    from playwright.sync_api import Page

# React gives an element other props whenever the component that it belongs to is drawn again.
NOTE = """selector => {
  const props = element => element[Object.keys(element).find(name => name.startsWith('__reactProps$'))];
  const found = Array.from(document.querySelectorAll(selector), element => [element, props(element)]);
  window.drawnAgain = () => found.filter(([element, before]) => props(element) !== before)
    .map(([element]) => element.getAttribute('aria-label') ?? element.dataset.id);
  return found.length;
}"""
AGAIN = "window.drawnAgain()"
WRITES = """() => {
  window.writes = 0;
  const put = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = function (...given) { window.writes++; return put.apply(this, given); };
}"""


def grid(count: int) -> str:
    """Nodes in rows of 25, each but the first fed by the one before it."""
    prompt = {}
    for number in range(count):
        fed = {"image1": [str(number - 1), 0], "image2": [str(number - 1), 0]} if number else {}
        place = {"pos": [number % 25 * 340, number // 25 * 240]}
        prompt[str(number)] = {"class_type": "ImageBlend", "inputs": fed, "_meta": place}
    return json.dumps({"nodegraph": 1, "title": "Grid", "prompt": prompt})


def hold(page: Page, title: str) -> tuple[float, float]:
    """Press the mouse on a node's title, and begin to drag."""
    head = page.locator(".node").filter(has=page.get_by_text(title, exact=True)).locator(".head .name")
    box = head.bounding_box()
    assert box is not None
    x, y = box["x"] + 20, box["y"] + 8
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 12, y + 12, steps=4)
    return x, y


def test_a_drag_draws_what_moves_and_writes_when_it_is_over(page: Page) -> None:
    page.wait_for_timeout(500)
    page.evaluate(WRITES)
    x, y = hold(page, "Prompt")
    page.wait_for_timeout(300)
    assert page.evaluate(NOTE, ".react-flow__node") == 7
    for step in range(8):
        page.mouse.move(x + 20 + 8 * step, y + 20)
        page.wait_for_timeout(60)
    assert page.evaluate(AGAIN) == ["Prompt"]
    assert page.evaluate("window.writes") == 0
    page.mouse.up()
    page.wait_for_function("() => window.writes > 0")


def test_a_drag_leaves_the_links_of_other_nodes_alone(page: Page) -> None:
    x, y = hold(page, "Prompt")
    page.wait_for_timeout(300)
    links = page.evaluate(NOTE, ".react-flow__edge")
    page.mouse.move(x + 60, y + 40, steps=8)
    page.wait_for_timeout(200)
    assert 0 < len(page.evaluate(AGAIN)) < links / 2
    page.mouse.up()


# From one step that a node shows to its next, in the page: a run does not wait for questions.
ONE_STEP = f"""async () => {{
  const running = () => document.querySelector('.node[data-state="running"]');
  const step = () => running()?.querySelector('.badge')?.textContent ?? '';
  const frame = () => new Promise(requestAnimationFrame);
  while (!/\\d+ of \\d+/.test(step())) await frame();
  const [name, before] = [running().ariaLabel, step()];
  const count = ({NOTE})('.node');
  while (step() === before) await frame();
  return {{ name, count, same: running()?.ariaLabel === name, drawn: window.drawnAgain() }};
}}"""


def test_a_message_of_a_run_draws_the_node_that_it_names(page: Page) -> None:
    # A run of its own, whatever other tests have left in the cache.
    field(page, "seed of Sampler").fill("51711")
    field(page, "steps of Sampler").fill("40")
    page.get_by_role("button", name="Run", exact=True).click()
    seen = page.evaluate(ONE_STEP)
    sampler = "Sampler (KSampler)"
    assert seen == {"name": sampler, "count": 7, "same": True, "drawn": [sampler]}


def test_what_is_out_of_view_is_not_in_the_page(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    path.write_text(grid(400), encoding="utf-8")
    page.locator("#file-menu input[type=file]").set_input_files(path)
    page.wait_for_function("() => document.querySelectorAll('.react-flow__node').length === 400")
    assert page.locator(".react-flow__edge").count() == 0, "from afar links are a few paths"
    assert 0 < page.locator(".far-edges path").count() < 40
    page.locator(".canvas").click(button="right", position={"x": 4, "y": 4})
    page.keyboard.press("Escape")
    page.mouse.move(500, 400)
    for _ in range(5):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(100)
    page.wait_for_function("() => document.querySelectorAll('.react-flow__node').length < 40")
    assert page.locator(".react-flow__node").count() > 0
    assert page.locator(".react-flow__edge").count() < 200


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panning_moves_the_dots_with_the_nodes(page: Page, theme: str) -> None:
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    place = "getComputedStyle(document.querySelector('{}')).transform.match(/-?[\\d.]+/g).map(Number)"
    before = page.evaluate(place.format(".react-flow__viewport"))
    page.mouse.move(400, 780)
    page.mouse.down()
    page.mouse.move(437, 749, steps=5)
    page.mouse.up()
    zoom, *_, x, y = page.evaluate(place.format(".react-flow__viewport"))
    assert (x, y) == pytest.approx((before[4] + 37, before[5] - 31), abs=2)
    dots = page.evaluate(place.format(".dots"))
    assert dots[4:] == pytest.approx([x % (22 * zoom), y % (22 * zoom)], abs=0.01)
