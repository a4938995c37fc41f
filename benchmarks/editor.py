"""What the editor costs with 500 nodes and 801 links: first render, panning, dragging, zooming, and a message of a run.

Prints one JSON object. Chromium without a GPU shows the page of a real server. `fps` is the median over intervals of
requestAnimationFrame while the mouse moves; on a machine that does other work it says little. Processor time says more: of
the page's main thread `script_ms`, `layout_ms` and `main_ms`, and of all of Chromium's threads `all_ms`, which paint without a
GPU. They are for one movement of the mouse, of which there is one a frame, and a frame has 16.7 ms. A run's messages are
those of a real run of all the nodes. `first_main_ms` is what a first render and the half second after it cost the main thread,
`frozen_ms` is the longest time in which a page that opens 5,000 nodes answers nothing,
and `frozen_main_ms` the processor time of all the opening.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

from tests.web.serving import FLAGS, chromium, served

SOURCES, BLENDS, COLUMNS, MOVES = 99, 400, 25, 90

FRAMES = """() => {
  window.frames_ = []; window.watching = true;
  let last = performance.now();
  const step = now => { window.frames_.push(now - last); last = now; if (window.watching) requestAnimationFrame(step); };
  requestAnimationFrame(step);
}"""
OPEN = """async text => {
  const input = document.querySelector('#file-menu input[type=file]');
  const files = new DataTransfer();
  files.items.add(new File([text], 'large.json', {type: 'application/json'}));
  input.files = files.files;
  const began = performance.now();
  input.dispatchEvent(new Event('change', {bubbles: true}));
  const frame = () => new Promise(requestAnimationFrame);
  const shown = () => document.querySelectorAll('.react-flow__node').length > 20;
  while (!shown()) await frame();
  await frame();
  await new Promise(resolve => setTimeout(resolve));
  return performance.now() - began;
}"""
WATCH = """() => {
  window.longest = 0;
  let last = performance.now();
  setInterval(() => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; }, 10);
}"""
COUNT = """() => {
  const Real = WebSocket;
  window.messages = 0;
  window.WebSocket = class extends Real {
    constructor(...given) { super(...given); this.addEventListener('message', () => window.messages++); }
  };
}"""


def document() -> dict[str, Any]:
    """Blends of pictures of 8 by 8: each takes two of those before it."""
    prompt: dict[str, Any] = {}
    for index in range(SOURCES + BLENDS + 1):
        column, row = divmod(index, (SOURCES + BLENDS) // COLUMNS + 1)
        place = {"pos": [column * 340, row * 240]}
        name = str(index)
        if index < SOURCES:
            inputs: dict[str, Any] = {"width": 8, "height": 8, "batch_size": 1, "color": index}
            prompt[name] = {"class_type": "EmptyImage", "inputs": inputs, "_meta": place}
        elif index < SOURCES + BLENDS:
            inputs = {"image1": [str(index - SOURCES), 0], "image2": [str(index - 1 - index % 40), 0]}
            inputs |= {"blend_factor": 0.5, "blend_mode": "normal"}
            prompt[name] = {"class_type": "ImageBlend", "inputs": inputs, "_meta": place}
        else:
            inputs = {"images": [str(index - 1), 0]}
            prompt[name] = {"class_type": "PreviewImage", "inputs": inputs, "_meta": place}
    return {"nodegraph": 1, "title": "Large", "prompt": prompt}


def spent(session: CDPSession) -> dict[str, float]:
    """Seconds that the main thread has spent so far, by kind."""
    return {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}


def spent_by_all(session: CDPSession) -> float:
    """Seconds that all processes of the browser have spent so far."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(float(process["cpuTime"]) for process in processes)


def motion(page: Page, session: CDPSession, act: Callable[[int], None]) -> dict[str, float]:
    """What a movement costs."""
    browser = page.context.browser
    assert browser is not None
    system = browser.new_browser_cdp_session()
    page.evaluate(FRAMES)
    before, before_all = spent(session), spent_by_all(system)
    for step in range(MOVES):
        act(step)
    after, after_all = spent(session), spent_by_all(system)
    system.detach()
    intervals = page.evaluate("() => { window.watching = false; return window.frames_.slice(2) }")
    per = {name: 1000 * (after[name] - before[name]) / MOVES for name in after}
    return {
        "fps": round(1000 / statistics.median(intervals), 1),
        "all_ms": round(1000 * (after_all - before_all) / MOVES, 2),
        "script_ms": round(per["ScriptDuration"], 2),
        "layout_ms": round(per["LayoutDuration"] + per["RecalcStyleDuration"], 2),
        "main_ms": round(per["TaskDuration"], 2),
    }


def many() -> dict[str, Any]:
    """5,000 nodes without links."""
    inputs = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    prompt = {
        str(index): {
            "class_type": "EmptyImage",
            "inputs": inputs,
            "_meta": {"pos": [index % 70 * 320, index // 70 * 260]},
        }
        for index in range(5000)
    }
    return {"nodegraph": 1, "title": "Many", "prompt": prompt}


def circle(page: Page, x: float, y: float, step: int) -> None:
    """The mouse, on its way around a point."""
    page.mouse.move(x + 4 * (step % 45), y + 3 * (step % 30))


def measure(page: Page) -> dict[str, Any]:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    text = json.dumps(document())
    found: dict[str, Any] = {"first_render_ms": [], "first_main_ms": []}
    for _ in range(5):
        page.get_by_role("button", name="File", exact=True).click()
        page.get_by_role("button", name="New, empty").click()
        page.wait_for_timeout(300)
        before = spent(session)
        found["first_render_ms"].append(round(page.evaluate(OPEN, text)))
        page.wait_for_timeout(500)
        busy = spent(session)["TaskDuration"] - before["TaskDuration"]
        found["first_main_ms"].append(round(1000 * busy))
    pane = page.locator(".canvas").bounding_box()
    assert pane is not None
    x, y = pane["x"] + 12, pane["y"] + 12
    for zoom in ("far", "near"):
        if zoom == "near":
            for _ in range(3):
                page.mouse.move(pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2)
                page.mouse.wheel(0, -500)
                page.wait_for_timeout(300)
        found[f"drawn_{zoom}"] = page.locator(".react-flow__node").count()
        page.mouse.move(x, y)
        page.mouse.down()
        found[f"pan_{zoom}"] = motion(page, session, partial(circle, page, x, y))
        page.mouse.up()
        page.wait_for_timeout(300)
        nodes = page.locator(".node").all()
        box = next(
            box
            for node in nodes
            if (box := node.bounding_box()) and box["x"] > pane["x"] + 200 and box["y"] > 150
        )
        at = box["x"] + box["width"] / 2, box["y"] + min(12, box["height"] / 2)
        page.mouse.move(*at)
        page.mouse.down()
        found[f"drag_{zoom}"] = motion(page, session, partial(circle, page, *at))
        page.mouse.up()
        page.wait_for_timeout(300)
    page.keyboard.press("f")
    page.wait_for_timeout(600)
    before, told = spent(session), page.evaluate("window.messages")
    began = time.perf_counter()
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.status:is([data-status="success"], [data-status="failed"])').wait_for(
        timeout=120_000, state="attached"
    )
    found["run_s"] = round(time.perf_counter() - began, 2)
    after, messages = spent(session), page.evaluate("window.messages") - told
    found["run"] = page.locator(".status").get_attribute("data-status")
    found["messages"] = messages
    for name, kind in (("script_ms", "ScriptDuration"), ("main_ms", "TaskDuration")):
        found[f"message_{name}"] = round(1000 * (after[kind] - before[kind]) / max(1, messages), 2)
    page.get_by_role("button", name="File", exact=True).click()
    page.get_by_role("button", name="New, empty").click()
    page.wait_for_timeout(500)
    page.evaluate(WATCH)
    before = spent(session)
    page.evaluate(OPEN, json.dumps(many()))
    page.wait_for_timeout(1500)
    found["frozen_ms"] = round(page.evaluate("window.longest"))
    found["frozen_main_ms"] = round(1000 * (spent(session)["TaskDuration"] - before["TaskDuration"]))
    return found


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as data,
        served(Path(data)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 860}, reduced_motion="reduce")
        page.add_init_script(f"({COUNT})()")
        page.goto(address)
        page.get_by_role("button", name="Run", exact=True).wait_for()
        found = measure(page)
        print(json.dumps({"load": os.getloadavg(), "chromium": browser.version} | found, indent=1))
        browser.close()


if __name__ == "__main__":
    main()
