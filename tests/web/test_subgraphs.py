"""Sub-graphs in the editor: their edge, what lies in them, what a run says of them, and ComfyUI's files that have some."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.web.test_canvas import PANE, choose, document, opened, select, undo
from tests.web.test_editor import add, downloaded, field, node, run

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]


def pack(page: Page, *titles: str) -> Locator:
    """The sub-graph that is made of nodes."""
    select(page, *titles)
    choose(page, node(page, titles[0]).locator(".head .name"), "Make a sub-graph")
    found = page.locator(".subgraph")
    found.wait_for()
    return found


def out(page: Page) -> None:
    page.get_by_role("navigation", name="Where this is").get_by_role("button").first.click()


def gate(page: Page, side: str, title: str) -> Locator:
    return page.locator(f".gate[data-side={side}]").filter(has_text=title)


def test_the_edge_of_an_open_sub_graph_is_seen_followed_cut_and_linked(page: Page) -> None:
    frame = pack(page, "Prompt", "Negative prompt")
    frame.get_by_role("button", name="Open").click()
    assert page.locator(".gate[data-side=in]").count() == 1
    assert page.locator(".gate[data-side=out]").count() == 2
    # Both prompts get their clip from the model, both go to the sampler.
    assert page.locator(".react-flow__edge").count() == 4
    before = document(page)
    edge = page.locator(".react-flow__edge[data-id='10:6 clip'] .react-flow__edge-path")
    x, y = edge.evaluate(
        """path => {
            const point = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
            return [point.x, point.y];
        }"""
    )
    page.mouse.click(x, y, button="right")
    assert page.get_by_role("menuitem", name="Add a reroute here").count() == 0
    page.get_by_role("menuitem", name="Cut the link").click()
    assert "clip" not in document(page)["prompt"]["10:6"]["inputs"]
    gate(page, "in", "Model").locator(".socket").drag_to(
        page.get_by_label("Input clip of Prompt: CLIP", exact=True)
    )
    assert document(page) == before
    # The sampler takes the other prompt for its positive one.
    feeds = gate(page, "out", "Sampler")
    first_is = "positive" in (feeds.nth(0).locator(".link").get_attribute("title") or "")
    positive = feeds.nth(0 if first_is else 1)
    page.get_by_label("Output CONDITIONING of Negative prompt: CONDITIONING", exact=True).drag_to(
        positive.locator(".socket")
    )
    found = document(page)["prompt"]["3"]["inputs"]
    assert found["positive"] == found["negative"] == ["10:7", 0]
    assert page.locator(".gate[data-side=out] .link").all_inner_texts() == ["Sampler", "Sampler"]
    undo(page)
    assert document(page) == before
    gate(page, "in", "Model").locator(".link").click()
    page.locator(".node[data-selected] .head .name").get_by_text("Model", exact=True).wait_for()
    assert page.locator(".gate").count() == 0
    page.keyboard.press("f")
    page.wait_for_timeout(400)
    # From outside, its sockets are linked like any other's.
    page.get_by_label(re.compile("^Output .* of Sub-graph: CONDITIONING")).first.drag_to(
        page.get_by_label("Input negative of Sampler: CONDITIONING", exact=True)
    )
    found = document(page)["prompt"]["3"]["inputs"]
    assert found["positive"] == found["negative"]


def test_notes_and_groups_of_a_sub_graph_are_shown_only_in_it(page: Page) -> None:
    frame = pack(page, "Prompt", "Negative prompt")
    frame.get_by_role("button", name="Open").click()
    choose(page, page.locator(PANE), "Add a note", position={"x": 300, "y": 60})
    page.get_by_role("textbox", name="Text of Note").fill("inside")
    select(page, "Prompt", "Negative prompt")
    page.keyboard.press("g")
    page.locator(".group").wait_for()
    out(page)
    frame.wait_for()
    assert page.locator(".note, .group").count() == 0
    found = document(page)
    assert found["canvas"]["notes"][0]["id"].startswith("10:")
    assert len(found["canvas"]["subgraphs"][0]["groups"]) == 1
    assert not found.get("groups")
    in_comfy = downloaded(page, "Download for ComfyUI")
    inner = in_comfy["definitions"]["subgraphs"][0]
    assert len(inner["groups"]) == 1
    assert [item["widgets_values"] for item in inner["nodes"] if "Note" in item["type"]] == [["inside"]]
    # A copy has them too.
    frame.locator(".head").click()
    page.keyboard.press("Control+d")
    assert len(document(page)["canvas"]["notes"]) == 2
    undo(page)
    for _ in range(4):
        undo(page)
    assert page.locator(".subgraph").count() == 0


def test_a_closed_sub_graph_shows_what_a_run_does_in_it_and_its_picture(page: Page) -> None:
    # A run of its own, whatever other tests have left in the cache.
    field(page, "seed of Sampler").fill("41711")
    frame = pack(page, "Sampler", "Decode", "Save")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.subgraph[data-state="running"] .progress').wait_for(timeout=60_000)
    page.locator('.subgraph[data-state="done"]').wait_for(timeout=60_000)
    assert re.fullmatch(r"[\d.]+ s|< 0\.1 s", frame.locator(".badge").inner_text())
    frame.get_by_role("img", name="Result of Sub-graph").wait_for()
    run(page)
    assert frame.locator(".badge").inner_text() == "cached"


def test_a_problem_inside_is_on_the_sub_graph_and_leads_into_it(page: Page) -> None:
    frame = pack(page, "Prompt", "Negative prompt")
    frame.get_by_role("button", name="Open").click()
    page.get_by_label("Input clip of Prompt: CLIP", exact=True).focus()
    page.keyboard.press("Delete")
    out(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.subgraph[data-state="failed"]').wait_for()
    frame.locator(".troubles").get_by_role("button", name="Prompt").click()
    assert page.locator(".node[data-selected] .head .name").all_inner_texts() == ["Prompt"]
    out(page)
    frame.wait_for()
    page.get_by_role("region", name="Problems").get_by_role("button", name="Prompt").first.click()
    assert page.locator(".node[data-selected] .head .name").all_inner_texts() == ["Prompt"]
    out(page)
    page.keyboard.press("p")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("region", name="Plan").get_by_role("button", name="Negative prompt").click()
    assert page.locator(".node[data-selected] .head .name").all_inner_texts() == ["Negative prompt"]


def test_nested_sub_graphs_of_comfyui_are_opened_and_saved_without_a_loss(page: Page, tmp_path: Path) -> None:
    given = json.loads((ROOT / "tests" / "data" / "convert" / "sub_graphs.json").read_text(encoding="utf-8"))[
        "ui"
    ]
    opened(page, tmp_path, given)
    page.locator(".subgraph").first.wait_for()
    assert page.locator(".subgraph").count() == 3
    first = document(page)

    written = downloaded(page, "Download for ComfyUI")
    assert {item["name"] for item in written["definitions"]["subgraphs"]} == {"Sample", "Encode both"}
    assert sorted(item["type"] for item in written["nodes"]) == sorted(
        item["type"] for item in given["nodes"]
    )
    # In and out of the inner one, with nothing done, and back through ComfyUI's format.
    page.locator(".subgraph").first.get_by_role("button", name="Open").click()
    page.locator(".subgraph").get_by_role("button", name="Open").click()
    page.locator(".reroute").wait_for()
    assert page.locator(".gate[data-side=in] header").all_inner_texts() == ["clip", "text"]
    assert page.locator(".gate[data-side=out] header").all_inner_texts() == ["positive", "negative"]
    opened(page, tmp_path, written)
    page.locator(".subgraph").first.wait_for()
    assert document(page) == first


def mode_of(frame: Locator) -> tuple[str | None, str]:
    return frame.get_attribute("data-mode"), frame.locator(".badge.mode").inner_text()


def test_a_closed_sub_graph_is_muted_and_bypassed_as_a_whole(page: Page) -> None:
    # A run of its own, whatever other tests have left in the cache.
    field(page, "seed of Sampler").fill("41813")
    field(page, "seed of Sampler").press("Enter")
    frame = pack(page, "Sampler")
    before = document(page)
    frame.locator(".head .name").click()
    page.keyboard.press("b")
    page.locator('.subgraph[data-mode="bypassed"]').wait_for()
    assert mode_of(frame) == ("bypassed", "bypassed")
    found = document(page)
    # The latent goes past it, and on the canvas still through it.
    assert found["prompt"]["8"]["inputs"]["samples"] == ["5", 0]
    assert found["prompt"]["10:3"]["_meta"]["mode"] == 2
    assert page.locator(".react-flow__edge[data-id='8 samples']").count() == 1
    in_comfy = downloaded(page, "Download for ComfyUI")
    (instance,) = [
        item for item in in_comfy["nodes"] if item["type"] not in ("Note", "MarkdownNote") and item["mode"]
    ]
    assert instance["mode"] == 4
    assert [item["mode"] for item in in_comfy["definitions"]["subgraphs"][0]["nodes"]] == [0]
    run(page)
    page.locator('.status[data-status="success"]').wait_for()
    assert node(page, "Decode").get_attribute("data-state") == "done"
    assert frame.get_attribute("data-state") is None
    # Inside nothing is woken by itself.
    frame.get_by_role("button", name="Open").click()
    node(page, "Sampler").locator(".head .name").click()
    page.keyboard.press("m")
    page.get_by_text("The sub-graph around it is muted or bypassed as a whole.").wait_for()
    assert node(page, "Sampler").get_attribute("data-mode") == "muted"
    out(page)
    choose(page, frame.locator(".head .name"), "Do not bypass")
    assert document(page)["prompt"] == before["prompt"]
    choose(page, frame.locator(".head .name"), "Mute")
    assert mode_of(frame) == ("muted", "muted")
    assert document(page)["prompt"]["8"] == before["prompt"]["8"]
    frame.locator(".head .name").click()
    page.keyboard.press("m")
    assert frame.get_attribute("data-mode") is None
    for _ in range(4):
        undo(page)
    assert document(page) == before


def arrow_to_the_inputs(page: Page, start: Locator) -> None:
    """By keyboard, to the gate at the left: it is a stop of the arrows like any node."""
    start.locator("..").focus()
    page.keyboard.press("ArrowLeft")
    page.locator(".react-flow__node:focus .gate[data-side=in]").wait_for()


def test_a_port_that_nothing_inside_uses_is_kept_named_and_removed(page: Page) -> None:
    frame = pack(page, "Prompt", "Negative prompt")
    frame.get_by_role("button", name="Open").click()
    into = page.locator(".gate[data-side=in]")
    arrow_to_the_inputs(page, node(page, "Prompt"))
    page.keyboard.press("F2")
    page.get_by_role("textbox", name="Name of clip").fill("words")
    page.keyboard.press("Enter")
    page.get_by_role("complementary", name="Into the sub-graph: words").wait_for()
    select(page, "Prompt", "Negative prompt")
    page.keyboard.press("Delete")
    page.locator(".gate[data-side=in][data-unused]").get_by_text("nothing inside uses it").wait_for()
    assert page.locator(".node").count() == 0
    out(page)
    frame.wait_for()
    assert frame.locator(".in[data-unused]").inner_text() == "words"
    # It is linked from outside as before, and used by a new node inside.
    assert page.locator(".react-flow__edge[data-id='10 words']").count() == 1
    frame.get_by_role("button", name="Open").click()
    add(page, "Encode a prompt", 500, 420)
    page.get_by_role("button", name="Output words of the sub-graph's inputs: CLIP").drag_to(
        page.get_by_role("button", name=re.compile("^Input clip of"))
    )
    page.locator(".gate[data-side=in]:not([data-unused])").wait_for()
    assert document(page)["prompt"]["10:11"]["inputs"]["clip"] == ["4", 1]
    undo(page)
    undo(page)
    arrow_to_the_inputs(page, page.locator(".gate[data-side=out]").first)
    page.keyboard.press("Delete")
    into.wait_for(state="detached")
    outputs = page.locator(".gate[data-side=out]")
    assert outputs.count() == 2
    outputs.first.hover()
    outputs.first.get_by_role("button", name=re.compile("^Remove ")).click()
    page.wait_for_function("document.querySelectorAll('.gate').length === 1")
    found = document(page)
    assert found["canvas"]["subgraphs"][0]["inputs"] == []
    assert len(found["canvas"]["subgraphs"][0]["outputs"]) == 1
    assert "10:" not in json.dumps(found["canvas"]["via"])
    undo(page)
    undo(page)
    assert page.locator(".gate").count() == 3


def test_what_is_skipped_in_a_sub_graph_is_said_on_it(page: Page, tmp_path: Path) -> None:
    given = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    # Whether two latents can be laid over each other is found out at work.
    size = {"width": 72, "height": 72, "batch_size": 1}
    given["prompt"]["10"] = {"class_type": "EmptyPixelLatent", "inputs": size, "_meta": {"pos": [0, 500]}}
    over = {"destination": ["5", 0], "source": ["10", 0], "x": 0, "y": 0, "resize_source": False}
    given["prompt"]["11"] = {
        "class_type": "LatentCompositeMasked",
        "inputs": over,
        "_meta": {"title": "Over", "pos": [630, 500]},
    }
    given["prompt"]["8"]["inputs"]["samples"] = ["11", 0]
    opened(page, tmp_path, given)
    node(page, "Over").wait_for()
    frame = pack(page, "Decode", "Save")
    run(page)
    page.locator('.subgraph[data-state="skipped"]').wait_for()
    assert frame.locator(".badge").inner_text() == "skipped"
