"""The editor on a screen of 400 pixels: everything is within it, and large enough for a finger."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What can be pressed and is shown, outside the zoomed canvas, with what is wrong about it. What scrolls sideways may be wider.
MISPLACED = """() => {
  const wrong = [];
  const at = document.querySelector('dialog[open], .veil') ?? document;
  for (const element of at.querySelectorAll('button, a[href], input, select, textarea, summary')) {
    if (element.closest('.react-flow__viewport, .hidden, .strip, .tabs ul')) continue;
    if (!element.checkVisibility({opacityProperty: true})) continue;
    if (element.closest('[popover]:not(:popover-open)') || element.type === 'file') continue;
    const {left, right, width, height} = element.getBoundingClientRect();
    const name = element.ariaLabel ?? element.textContent;
    if (left < 0 || right > innerWidth) wrong.push(`${name}: from ${left} to ${right}`);
    const inText = element.matches('a, .link');
    if (!inText && (width < 24 || height < 24)) wrong.push(`${name}: ${width} by ${height}`);
  }
  for (const part of document.querySelectorAll('.panel, .app, dialog[open], .bar, .tabs, .menu:popover-open'))
    if (part.scrollWidth > part.clientWidth + 1) wrong.push(`${part.className} scrolls sideways`);
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page scrolls sideways');
  return wrong;
}"""


def test_every_part_is_within_a_small_screen_and_large_enough_for_a_finger(phone: Page) -> None:
    found: dict[str, list[str]] = {}

    def look(place: str) -> None:
        phone.wait_for_timeout(250)
        if wrong := phone.evaluate(MISPLACED):
            found[place] = wrong

    look("canvas")
    for prompt in ("a small yellow star", "a green square"):
        phone.get_by_role("button", name="App view", exact=True).tap()
        phone.get_by_role("textbox", name="prompt", exact=True).fill(prompt)
        phone.get_by_role("textbox", name="steps", exact=True).fill("1")
        phone.get_by_role("button", name="Run", exact=True).tap()
        phone.wait_for_timeout(200)
        phone.locator('.status[data-status="success"]').wait_for(timeout=60_000)
        look("form")
        made = phone.get_by_role("region", name="Result").bounding_box()
        assert made is not None and made["y"] + made["height"] < 800, "the picture is seen without scrolling"
        phone.get_by_role("button", name="App view", exact=True).tap()
    rail = phone.get_by_role("navigation", name="Panels").get_by_role("button")
    for index in range(rail.count()):
        if rail.nth(index).get_attribute("aria-pressed") == "false":
            rail.nth(index).tap()
        phone.wait_for_timeout(300)
        look(rail.nth(index).inner_text())
    phone.get_by_role("region", name="Graph as a list").get_by_role("button", name="Sampler").tap()
    look("list")
    rail.first.tap()
    phone.get_by_role("button", name=re.compile("large$")).first.tap()
    for name in ("Compare side by side", "Compare with a slider", "Details"):
        phone.get_by_role("button", name=name).tap()
        look(name)
    phone.get_by_role("button", name="Close", exact=True).tap()
    phone.get_by_role("button", name="File", exact=True).tap()
    look("file menu")
    phone.get_by_role("button", name="New, empty").tap()
    look("tabs, empty")
    phone.get_by_role("button", name="Add a node", exact=True).tap()
    phone.get_by_role("option").first.wait_for()
    look("search")
    phone.get_by_role("option").first.tap()
    phone.get_by_role("button", name="Keyboard shortcuts").tap()
    look("shortcuts")
    phone.get_by_role("button", name="Close", exact=True).tap()
    phone.get_by_role("button", name="App view", exact=True).tap()
    phone.get_by_role("combobox", name="Add a parameter…").select_option(index=1)
    phone.get_by_role("button", name="Edit the form").tap()
    look("editing the form")
    assert not found, found
