"""Widgets and sockets in a real browser: what keys, the dice and the switch do, what grows, and which colours there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.web.test_canvas import document, positions, undo
from tests.web.test_editor import add, field, node, run

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LARGEST = 18446744073709551615


def middle(what: Locator) -> tuple[float, float]:
    box = what.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_arrow_keys_step_numbers_within_their_range(page: Page) -> None:
    before = document(page)
    steps = field(page, "steps of Sampler")
    steps.focus()
    for keys, value in (
        ("ArrowUp", "21"),
        ("Shift+ArrowUp", "31"),
        ("ArrowDown", "30"),
        ("Shift+ArrowDown", "20"),
    ):
        page.keyboard.press(keys)
        assert steps.input_value() == value, keys
    for _ in range(3):
        page.keyboard.press("Shift+ArrowDown")
    assert steps.input_value() == "1", "the least that the node takes"
    cfg = field(page, "cfg of Sampler")
    cfg.focus()
    page.keyboard.press("ArrowUp")
    assert cfg.input_value() == "5.1"
    seed = field(page, "seed of Sampler")
    seed.fill(str(LARGEST - 1))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert seed.input_value() == str(LARGEST)
    found = document(page)["prompt"]["3"]["inputs"]
    assert (found["steps"], found["cfg"], found["seed"]) == (1, 5.1, LARGEST)
    while page.get_by_role("button", name="Undo").is_enabled():
        undo(page)
    assert document(page) == before


def test_a_seed_is_thrown_and_moves_on_after_each_run_as_it_is_told(page: Page) -> None:
    seed = field(page, "seed of Sampler")
    page.get_by_role("button", name="Random seed of Sampler").click()
    thrown = seed.input_value()
    page.get_by_role("button", name="Random seed of Sampler").click()
    assert len({"1", thrown, seed.input_value()}) == 3
    undo(page)
    assert seed.input_value() in ("1", thrown)
    field(page, "steps of Sampler").fill("1")
    control = page.get_by_role("combobox", name="After each run: seed of Sampler")
    seed.fill(str(LARGEST - 1))
    seed.press("Enter")
    for choice, after in (("keep", LARGEST - 1), ("add 1", LARGEST), ("subtract 1", LARGEST - 1)):
        control.select_option(choice)
        run(page)
        assert seed.input_value() == str(after), choice
    control.select_option("randomise")
    run(page)
    assert seed.input_value() != str(LARGEST - 1)


def test_a_text_grows_with_its_lines_and_a_switch_is_turned(page: Page) -> None:
    prompt, text = node(page, "Prompt"), field(page, "text of Prompt")
    before, room = prompt.evaluate("node => node.offsetHeight"), text.evaluate("text => text.offsetHeight")
    text.fill("\n".join("a line of the prompt" for _ in range(9)))
    assert text.evaluate("text => text.offsetHeight") >= room + 60
    assert prompt.evaluate("node => node.offsetHeight") >= before + 60
    assert text.evaluate("text => text.scrollHeight - text.clientHeight") <= 1, "all lines are seen"
    text.fill("short")
    assert prompt.evaluate("node => node.offsetHeight") == before
    add(page, "imagecompositemasked", 30, 500)
    switch = page.get_by_role("switch", name="resize_source of ImageCompositeMasked")
    assert document(page)["prompt"]["10"]["inputs"]["resize_source"] is False
    switch.click()
    assert switch.is_checked()
    assert document(page)["prompt"]["10"]["inputs"]["resize_source"] is True
    undo(page)
    assert not switch.is_checked()


def test_what_fits_stands_out_while_a_link_is_drawn_and_the_rest_is_refused(page: Page) -> None:
    before = document(page)
    colour = "socket => getComputedStyle(socket).backgroundColor"
    output = page.get_by_label("Output LATENT of Sampler: LATENT", exact=True)
    fitting = page.get_by_label("Input samples of Decode: LATENT", exact=True)
    other = page.get_by_label("Input images of Save: IMAGE", exact=True)
    # A type has one colour, at both ends and along the link.
    assert output.evaluate(colour) == fitting.evaluate(colour)
    types = ("model", "positive", "latent_image")
    inputs = [page.locator(f".socket[aria-label^='Input {name} of Sampler']") for name in types]
    assert len({socket.evaluate(colour) for socket in inputs}) == 3
    line = page.locator(".react-flow__edge[data-id='8 samples'] .react-flow__edge-path")
    assert line.evaluate("line => getComputedStyle(line).stroke") == output.evaluate(colour)
    assert page.locator("[data-fits]").count() == 0
    for target in (other, page.get_by_label("Input latent_image of Sampler: LATENT", exact=True)):
        page.mouse.move(*middle(output))
        page.mouse.down()
        page.mouse.move(*middle(target), steps=5)
        marked = page.locator(".socket[data-fits=true]").all()
        labels = {socket.get_attribute("aria-label") for socket in marked}
        assert labels == {"Input samples of Decode: LATENT"}
        assert float(fitting.evaluate("socket => getComputedStyle(socket).scale")) > 1
        assert float(target.evaluate("socket => getComputedStyle(socket).opacity")) < 0.5
        page.mouse.up()
        assert page.locator("[data-fits]").count() == 0
        assert document(page) == before


def test_a_double_click_on_a_link_adds_a_reroute(page: Page) -> None:
    before = document(page)
    x, y = page.locator(".react-flow__edge[data-id='8 samples'] .react-flow__edge-path").evaluate(
        """path => {
            const point = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
            return [point.x, point.y];
        }"""
    )
    page.mouse.dblclick(x, y)
    box = page.locator(".reroute").bounding_box()
    assert box is not None
    assert box["x"] < x < box["x"] + box["width"] and box["y"] < y < box["y"] + box["height"]
    found = document(page)
    assert found["canvas"]["via"] == {"8": {"samples": ["10", 0]}}
    assert positions(found) == positions(before)
    undo(page)
    assert document(page) == before
