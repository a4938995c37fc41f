"""Files that mean the editor harm, or are only large: no script runs, nothing freezes, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
WATCH = """() => {
  window.longest = 0;
  let last = performance.now();
  setInterval(() => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; }, 10);
}"""


def empty_image(**more: Any) -> dict[str, Any]:
    """A node without links."""
    return {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        **more,
    }


def offer(page: Page, path: Path, text: str) -> None:
    """Open a file of this text."""
    path.write_text(text, encoding="utf-8")
    page.on("dialog", lambda dialog: pytest.fail(f"script ran: {dialog.message}"))
    page.locator("#file-menu input[type=file]").set_input_files(path)


def document(prompt: dict[str, Any], **more: Any) -> str:
    return json.dumps({"nodegraph": 1, "title": "Hostile", "prompt": prompt, **more})


def wait_for_title(page: Page, title: str) -> None:
    page.wait_for_function("title => document.querySelector('.bar .title').value === title", arg=title)


def test_markup_anywhere_is_text(page: Page, tmp_path: Path) -> None:
    note = {"class_type": SCRIPT, "inputs": {SCRIPT: SCRIPT}, "_meta": {"title": SCRIPT, "pos": [0, 0]}}
    encode = {"class_type": "CLIPTextEncode", "inputs": {"text": SCRIPT}, "_meta": {"pos": [400, 0]}}
    text = document({"1": note, SCRIPT: encode}, groups=[{"title": SCRIPT, "bounding": [0, 0, 9, 9]}])
    offer(page, tmp_path / "markup.json", text.replace("Hostile", "Markup"))
    wait_for_title(page, "Markup")
    page.get_by_role("button", name="Graph as a list").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.status[data-status="failed"]').wait_for()
    assert page.evaluate("document.querySelectorAll('.editor script, .editor img[src=x]').length") == 0
    assert page.locator(".node").count() == 2


def test_circles_unknown_nodes_nan_and_prototypes_are_opened_as_far_as_they_go(
    page: Page, tmp_path: Path
) -> None:
    blend = {"blend_factor": float("nan"), "blend_mode": "normal"}
    prompt = {
        "1": {"class_type": "ImageBlend", "inputs": {"image1": ["2", 0], "image2": ["1", 0], **blend}},
        "2": {"class_type": "ImageBlend", "inputs": {"image1": ["1", 0], "image2": ["gone", 7], **blend}},
        "3": {"class_type": "Nobody'sNode", "inputs": {"x": ["1", 0]}},
        "4": {"class_type": "EmptyImage", "inputs": {"__proto__": {"polluted": True}, "width": float("inf")}},
        "__proto__": empty_image(),
        "5": empty_image(_meta={"pos": [1e300, -1e300], "size": [1e300, 3]}),
        "6": "no node",
    }
    offer(page, tmp_path / "strange.json", document(prompt))
    wait_for_title(page, "Hostile")
    page.keyboard.press("f")
    for name in ("Nobody'sNode", "EmptyImage"):
        page.locator(".node .name", has_text=name).first.wait_for()
    assert page.evaluate("({}).polluted") is None
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.status[data-status="failed"]').wait_for()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            lambda: '{"prompt": {"1": {"class_type": "' + "x" * 50_000_000 + '"}}}',
            "It has 48 MB; 32 MB can be opened",
        ),
        (lambda: "[" * 2_000_000 + "]" * 2_000_000, "nested deeper than 100"),
        (lambda: '{"prompt": {"1": [' + "1," * 3_000_000 + "1]}}", "more than 500000 values"),
        (
            lambda: document({str(number): empty_image() for number in range(6000)}),
            "It has 6000 nodes; 5000 can be shown",
        ),
        (lambda: "{nothing", "neither JSON"),
    ],
    ids=["large", "deep", "wide", "many", "broken"],
)
def test_what_is_too_much_is_refused_and_holds_nothing_up(
    page: Page, tmp_path: Path, text: Any, told: str
) -> None:
    page.evaluate(WATCH)
    offer(page, tmp_path / "hostile.json", text())
    page.get_by_text(told).wait_for(timeout=60_000)
    assert page.evaluate("window.longest") < 1000
    assert page.locator(".node").count() == 7, "what was open is still there"


def test_five_thousand_nodes_are_shown(page: Page, tmp_path: Path) -> None:
    prompt = {
        str(number): empty_image(_meta={"pos": [number % 70 * 320, number // 70 * 260]})
        for number in range(5000)
    }
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        """Seconds of a processor that the page's main thread has had: on the clock a busy machine would count as well."""
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(float(item["value"]) for item in metrics if item["name"] == "TaskDuration")

    before = busy()
    offer(page, tmp_path / "many.json", document(prompt))
    wait_for_title(page, "Hostile")
    page.wait_for_timeout(1000)
    assert busy() - before < 1
    assert 0 < page.locator(".react-flow__node").count() < 1000, "what is out of view is not drawn"
