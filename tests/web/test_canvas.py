"""What is done on the editor's canvas besides connecting: copying, menus, groups, notes, reroutes, layout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.web.test_editor import add, downloaded, drag, field, node

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
PANE = ".react-flow__pane"


def document(page: Page) -> dict[str, Any]:
    return downloaded(page, "Download .json")


def empty(page: Page) -> None:
    page.get_by_role("button", name="File", exact=True).click()
    page.get_by_role("button", name="New, empty").click()


def opened(page: Page, tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "opened.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    page.locator("#file-menu input[type=file]").set_input_files(path)


def select(page: Page, *titles: str) -> None:
    for index, title in enumerate(titles):
        name = node(page, title).locator(".head .name")
        name.click(modifiers=["Control"] if index else [])


def choose(page: Page, what: Locator, entry: str, **click: Any) -> None:
    """An entry of the menu that a right click on something opens."""
    what.click(button="right", **click)
    page.get_by_role("menu").get_by_role("menuitem", name=entry).click()


def undo(page: Page) -> None:
    page.get_by_role("button", name="Undo").click()


def positions(found: dict[str, Any]) -> dict[str, list[int]]:
    return {key: item["_meta"]["pos"] for key, item in found["prompt"].items()}


def test_nodes_are_copied_between_tabs_and_leave_as_json_text(page: Page) -> None:
    field(page, "seed of Sampler").fill("18446744073709551615")
    field(page, "seed of Sampler").press("Enter")
    select(page, "Sampler", "Decode")
    page.keyboard.press("Control+c")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Run", exact=True).wait_for()
    empty(other)
    other.locator(PANE).hover(position={"x": 300, "y": 200})
    other.keyboard.press("Control+v")
    node(other, "Sampler").wait_for()
    found = document(other)["prompt"]
    assert found["1"]["inputs"]["seed"] == 18446744073709551615
    assert found["2"]["inputs"]["samples"] == ["1", 0]
    assert "model" not in found["1"]["inputs"]
    # What was copied is text that any field takes.
    name = other.get_by_label("Title of the workflow")
    name.focus()
    other.keyboard.press("Control+v")
    assert '"class_type": "KSampler"' in name.input_value()


def test_duplicates_keep_what_feeds_them_and_what_is_cut_can_be_pasted(page: Page) -> None:
    before = document(page)
    select(page, "Sampler")
    page.keyboard.press("Control+d")
    found = document(page)["prompt"]
    assert found["10"]["inputs"] == found["3"]["inputs"]
    assert page.locator(".node[data-selected]").count() == 1
    undo(page)
    select(page, "Sampler", "Decode")
    page.keyboard.press("Control+x")
    assert set(document(page)["prompt"]) == set(before["prompt"]) - {"3", "8"}
    page.keyboard.press("Control+v")
    found = document(page)["prompt"]
    assert sorted(item["class_type"] for item in found.values()) == sorted(
        item["class_type"] for item in before["prompt"].values()
    )
    undo(page)
    undo(page)
    assert document(page) == before


def test_text_that_is_no_workflow_is_not_pasted(page: Page) -> None:
    before = document(page)
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text/plain", "hello");
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }"""
    )
    page.get_by_text("The clipboard holds no nodes and no picture.").wait_for()
    assert document(page) == before


def test_a_box_selects_what_it_touches(page: Page) -> None:
    box = node(page, "Sampler").bounding_box()
    other = node(page, "Decode").bounding_box()
    assert box is not None and other is not None
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] - 8, min(box["y"], other["y"]) - 8)
    page.mouse.down()
    page.mouse.move(other["x"] + 30, max(box["y"], other["y"]) + 40, steps=6)
    page.mouse.up()
    page.keyboard.up("Shift")
    names = page.locator(".node[data-selected] .head .name").all_inner_texts()
    assert {"Sampler", "Decode"} <= set(names)
    assert len(names) < page.locator(".node").count()


def test_the_menu_of_a_node_mutes_bypasses_and_collapses_it(page: Page) -> None:
    head = node(page, "Sampler").locator(".head .name")
    tall = node(page, "Sampler").evaluate("node => node.offsetHeight")
    choose(page, head, "Mute")
    assert node(page, "Sampler").get_attribute("data-mode") == "muted"
    assert node(page, "Sampler").locator(".badge.mode").inner_text() == "muted"
    assert document(page)["prompt"]["3"]["_meta"]["mode"] == 2
    choose(page, head, "Unmute")
    choose(page, head, "Bypass")
    assert node(page, "Sampler").locator(".badge.mode").inner_text() == "bypassed"
    undo(page)
    choose(page, head, "Collapse")
    assert document(page)["prompt"]["3"]["_meta"]["collapsed"] is True
    assert node(page, "Sampler").evaluate("node => node.offsetHeight") < 40 < tall
    assert not field(page, "steps of Sampler").is_visible()
    node(page, "Sampler").get_by_role("button", name="Expand Sampler").click()
    assert node(page, "Sampler").evaluate("node => node.offsetHeight") == tall


def test_the_menu_works_by_keys_and_closes(page: Page) -> None:
    node(page, "Sampler").locator(".head .name").click(button="right")
    menu = page.get_by_role("menu")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.textContent").startswith("Fit into view")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    title = page.get_by_role("textbox", name="Sampler", exact=True)
    title.fill("Denoise")
    title.press("Enter")
    node(page, "Denoise").wait_for()
    page.locator(PANE).click(button="right", position={"x": 20, "y": 20})
    menu.wait_for()
    page.keyboard.press("Escape")
    assert menu.count() == 0


def test_a_picture_is_shown_in_its_widget_and_replaced_by_a_click_a_drop_and_a_paste(
    page: Page, tmp_path: Path
) -> None:
    empty(page)
    add(page, "load image", 300, 100)

    def picture(name: str, colour: str) -> bytes:
        data = io.BytesIO()
        Image.new("RGB", (32, 24), colour).save(data, "PNG")
        (tmp_path / name).write_bytes(data.getvalue())
        return data.getvalue()

    def shown(name: str) -> None:
        image = page.locator(".upload img")
        page.wait_for_function("name => document.querySelector('.upload img')?.src.includes(name)", arg=name)
        page.wait_for_function("() => document.querySelector('.upload img').naturalWidth === 32")
        assert name in (image.get_attribute("alt") or "")

    def give(name: str, data: bytes, event: str, target: str) -> None:
        page.evaluate(
            """([name, bytes, event, target]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                const where = document.querySelector(target), box = where.getBoundingClientRect();
                where.dispatchEvent(event === "paste"
                    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
                    : new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true,
                                            clientX: box.x + 400, clientY: box.y + 500}));
            }""",
            [name, list(data), event, target],
        )

    picture("clicked.png", "red")
    page.locator(".upload input").set_input_files(tmp_path / "clicked.png")
    shown("clicked")
    give("dropped.png", picture("dropped.png", "green"), "drop", ".upload")
    shown("dropped")
    give("on_node.png", picture("on_node.png", "yellow"), "drop", ".node .head")
    shown("on_node")
    node(page, "Load Image").locator(".head .name").click()
    give("pasted.png", picture("pasted.png", "blue"), "paste", "body")
    shown("pasted")
    undo(page)
    shown("on_node")
    # On the empty canvas a picture without a workflow becomes a node that loads it.
    give("free.png", picture("free.png", "black"), "drop", PANE)
    page.wait_for_function("() => document.querySelectorAll('.node').length === 2")
    found = document(page)["prompt"]["2"]
    assert (found["class_type"], found["inputs"]["image"][:4]) == ("LoadImage", "free")


def test_many_choices_are_searched(page: Page) -> None:
    button = page.get_by_role("combobox", name="sampler_name of Sampler", exact=True)
    before = button.inner_text()
    button.click()
    search = page.get_by_role("combobox", name="Search sampler_name of Sampler")
    search.fill("2m sde")
    options = page.locator(".choices").get_by_role("option")
    assert 0 < options.count() < 20
    first = options.first.inner_text()
    assert "2m" in first and "sde" in first
    page.keyboard.press("Enter")
    assert button.inner_text() == first
    assert document(page)["prompt"]["3"]["inputs"]["sampler_name"] == first
    button.press("ArrowDown")
    search.wait_for()
    page.keyboard.press("Escape")
    assert options.count() == 0
    undo(page)
    assert button.inner_text() == before


def test_a_number_is_dragged_in_one_step_of_undo(page: Page) -> None:
    steps = field(page, "steps of Sampler")
    before = int(steps.input_value())
    box = steps.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 50, box["y"] + 8, steps=4)
    page.wait_for_timeout(1200)
    page.mouse.move(box["x"] + 80, box["y"] + 8, steps=4)
    page.mouse.up()
    assert int(steps.input_value()) == before + 10
    undo(page)
    assert int(steps.input_value()) == before
    steps.click()
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    assert steps.input_value() == "7"


def test_a_group_is_made_named_and_moved_with_what_lies_in_it(page: Page) -> None:
    before = document(page)
    select(page, "Sampler", "Decode")
    page.keyboard.press("g")
    page.keyboard.press("F2")
    title = page.get_by_role("textbox", name="Group", exact=True)
    title.fill("Denoise")
    title.press("Enter")
    grouped = document(page)
    assert [group["title"] for group in grouped["groups"]] == ["Denoise"]
    left, top, width, height = grouped["groups"][0]["bounding"]
    x, y = positions(grouped)["3"]
    assert left < x < left + width and top < y < top + height
    drag(page, page.locator(".group-head"), -60, -40)
    moved = document(page)
    by = [now - then for now, then in zip(moved["groups"][0]["bounding"], (left, top), strict=False)]
    assert by[0] < 0 > by[1]
    for key, (x, y) in positions(before).items():
        inside = left < x + 60 < left + width and top < y + 40 < top + height
        assert inside or key not in ("3", "8")
        shift = by if inside else [0, 0]
        assert positions(moved)[key] == pytest.approx([x + shift[0], y + shift[1]], abs=1)
    undo(page)
    assert document(page) == grouped
    choose(page, page.locator(".group-head"), "Green")
    assert document(page)["groups"][0]["color"] == "#4b8a4f"
    drag(page, page.locator(".group .handle.bottom.right"), 50, 30)
    assert document(page)["groups"][0]["bounding"][2] > width
    page.keyboard.press("Delete")
    assert document(page)["groups"] == []
    assert document(page)["prompt"] == before["prompt"]


def test_a_note_is_written_resized_copied_and_removed(page: Page) -> None:
    choose(page, page.locator(PANE), "Add a note", position={"x": 600, "y": 640})
    text = page.get_by_role("textbox", name="Text of Note")
    text.fill("<b>try</b> more steps")
    found = document(page)["canvas"]["notes"]
    assert [note["text"] for note in found] == ["<b>try</b> more steps"]
    drag(page, page.locator(".note .handle.bottom.right"), 60, 30)
    assert document(page)["canvas"]["notes"][0]["size"][0] > found[0]["size"][0]
    page.locator(".note header .name").click()
    page.keyboard.press("Control+d")
    assert page.locator(".note").count() == 2
    page.keyboard.press("Delete")
    assert page.locator(".note").count() == 1
    in_comfy = downloaded(page, "Download for ComfyUI")["nodes"]
    assert [item["widgets_values"] for item in in_comfy if item["type"] == "MarkdownNote"] == [
        ["<b>try</b> more steps"]
    ]


def test_a_note_is_read_as_markdown_and_nothing_in_it_runs(page: Page, tmp_path: Path) -> None:
    text = (
        "# Title\n\n**bold** and *slanted*, `code`\n\n- one\n- two\n\n"
        "[the manual](https://example.org/a) [bad](javascript:document.title='bad')\n\n<img src=x onerror=alert(1)>"
    )
    data = document(page)
    data["canvas"] = {
        "notes": [
            {"id": "n1", "text": text, "markdown": True, "pos": [300, 560], "size": [420, 320]},
            {"id": "n2", "text": "# as\nit *was*", "pos": [800, 560], "size": [240, 140]},
        ]
    }
    opened(page, tmp_path, data)
    note = page.locator(".note").first
    assert note.locator(".h1").inner_text() == "Title"
    assert note.locator("strong").inner_text() == "bold"
    assert note.locator("em").inner_text() == "slanted"
    assert note.locator("code").inner_text() == "code"
    assert note.locator("li").all_inner_texts() == ["one", "two"]
    assert note.get_by_role("link").all_inner_texts() == ["the manual"]
    assert note.get_by_role("link").get_attribute("rel") == "noopener noreferrer"
    assert note.locator("img").count() == 0
    assert "<img src=x onerror=alert(1)>" in note.locator(".text").inner_text()
    plain = page.locator(".note").nth(1)
    assert plain.locator(".text").inner_text() == "# as\nit *was*"
    # By the pointer, by keys, and by the menu.
    plain.locator(".text").dblclick()
    field(page, "Text of Note").fill("**done**")
    page.keyboard.press("Escape")
    assert plain.locator(".text").inner_text() == "**done**"
    choose(page, plain.locator("header"), "Read as Markdown")
    assert plain.locator("strong").inner_text() == "done"
    page.keyboard.press("Escape")
    page.locator(".react-flow__node-notes").nth(1).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.type(" more")
    page.locator(PANE).click(position={"x": 10, "y": 10})
    assert plain.locator(".text").inner_text() == "done more"
    assert document(page)["canvas"]["notes"][1]["markdown"] is True
    for _ in range(3):
        undo(page)
    assert document(page) == data


def test_a_node_takes_a_colour_which_comfyui_has_too(page: Page) -> None:
    before = document(page)
    select(page, "Sampler", "Decode")
    plain = node(page, "Sampler").locator(".head").evaluate("head => getComputedStyle(head).backgroundColor")
    choose(page, node(page, "Sampler").locator(".head .name"), "Purple")
    tinted = node(page, "Sampler").locator(".head").evaluate("head => getComputedStyle(head).backgroundColor")
    assert tinted != plain
    found = document(page)
    assert found["prompt"]["3"]["_meta"]["ui"] == {"color": "#323", "bgcolor": "#535"}
    in_comfy = {item["id"]: item for item in downloaded(page, "Download for ComfyUI")["nodes"]}
    assert [in_comfy[key].get("bgcolor") for key in (3, 8, 4)] == ["#535", "#535", None]
    choose(page, node(page, "Sampler").locator(".head .name"), "No colour")
    assert document(page) == before
    undo(page)
    assert document(page) == found
    undo(page)
    assert document(page) == before


def test_a_node_with_text_is_made_higher_and_its_text_with_it(page: Page) -> None:
    prompt = node(page, "Prompt")
    text = field(page, "text of Prompt")
    before, room = prompt.evaluate("node => node.offsetHeight"), text.evaluate("text => text.offsetHeight")
    prompt.hover()
    drag(page, prompt.locator(".stretch-corner"), 40, 70)
    high = prompt.evaluate("node => node.offsetHeight")
    assert high > before + 40
    assert text.evaluate("text => text.offsetHeight") >= room + (high - before) - 2
    assert document(page)["prompt"]["6"]["_meta"]["size"] == [
        prompt.evaluate("node => node.offsetWidth"),
        high,
    ]
    # What would not use it is offered none.
    assert node(page, "Size").locator(".stretch-corner").count() == 0
    drag(page, prompt.locator(".stretch-corner"), 0, -400)
    assert prompt.evaluate("node => node.offsetHeight") < high
    undo(page)
    assert prompt.evaluate("node => node.offsetHeight") == high
    undo(page)
    assert prompt.evaluate("node => node.offsetHeight") == before


def test_a_link_goes_through_a_reroute_that_is_moved_fed_anew_and_removed(page: Page) -> None:
    before = document(page)
    lines = page.locator(".react-flow__edge").count()
    x, y = page.locator(".react-flow__edge[data-id='8 samples'] .react-flow__edge-path").evaluate(
        """path => {
            const point = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
            return [point.x, point.y];
        }"""
    )
    page.mouse.click(x, y, button="right")
    page.get_by_role("menuitem", name="Add a reroute here").click()
    reroute = page.locator(".reroute")
    found = document(page)
    assert found["prompt"] == before["prompt"]
    assert found["canvas"]["reroutes"][0]["from"] == ["3", 0]
    assert found["canvas"]["via"] == {"8": {"samples": ["10", 0]}}
    assert page.locator(".react-flow__edge").count() == lines + 1
    drag(page, reroute, 10, 90)
    assert document(page)["canvas"]["reroutes"][0]["pos"] != found["canvas"]["reroutes"][0]["pos"]
    latent = page.get_by_label("Output LATENT of Size: LATENT", exact=True)
    latent.drag_to(reroute.get_by_label("Input * of Reroute: LATENT"))
    assert document(page)["prompt"]["8"]["inputs"]["samples"] == ["5", 0]
    reroute.click(position={"x": 22, "y": 4})
    page.keyboard.press("Delete")
    after = document(page)
    assert after["canvas"]["reroutes"] == [] and after["canvas"]["via"] == {}
    assert after["prompt"]["8"]["inputs"]["samples"] == ["5", 0]


def test_a_primitive_sets_what_it_feeds(page: Page, tmp_path: Path) -> None:
    data = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    steps = data["prompt"]["3"]["inputs"]["steps"]
    data["canvas"] = {
        "primitives": [{"id": "20", "value": steps, "title": "Steps", "pos": [300, 700]}],
        "via": {"3": {"steps": ["20", 0]}},
    }
    opened(page, tmp_path, data)
    page.locator(".react-flow__edge[data-id='3 steps']").wait_for(state="attached")
    value = field(page, "Value of Steps")
    value.fill("9")
    value.press("Enter")
    assert field(page, "steps of Sampler").input_value() == "9"
    found = document(page)
    assert found["prompt"]["3"]["inputs"]["steps"] == 9
    assert found["canvas"]["primitives"][0]["value"] == 9
    undo(page)
    assert field(page, "steps of Sampler").input_value() == str(steps)


def test_a_node_is_made_wider(page: Page) -> None:
    sampler = node(page, "Sampler")
    before = sampler.evaluate("node => node.offsetWidth")
    box = sampler.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 80, box["y"] + 100, steps=5)
    page.mouse.up()
    wide = sampler.evaluate("node => node.offsetWidth")
    assert wide > before + 40
    assert document(page)["prompt"]["3"]["_meta"]["size"][0] == wide
    undo(page)
    assert sampler.evaluate("node => node.offsetWidth") == before


def test_nodes_are_aligned_and_distributed(page: Page) -> None:
    select(page, "Sampler", "Decode", "Size")
    choose(page, node(page, "Sampler").locator(".head .name"), "Align top")
    found = positions(document(page))
    assert found["3"][1] == found["8"][1] == found["5"][1]
    choose(page, node(page, "Sampler").locator(".head .name"), "Distribute across")
    found = positions(document(page))
    (first, middle, last) = sorted(("3", "8", "5"), key=lambda key: found[key][0])
    width = {
        key: page.locator(f".react-flow__node[data-id='{key}']").evaluate("node => node.offsetWidth")
        for key in (first, middle, last)
    }
    gaps = (
        found[middle][0] - found[first][0] - width[first],
        found[last][0] - found[middle][0] - width[middle],
    )
    assert abs(gaps[0] - gaps[1]) <= 1


def test_auto_layout_is_one_step_and_its_library_is_loaded_when_used(page: Page) -> None:
    drag(page, node(page, "Sampler").locator(".head"), -200, 200)
    before = document(page)
    loaded = "() => performance.getEntriesByType('resource').some(entry => entry.name.includes('dagre'))"
    assert not page.evaluate(loaded)
    page.locator(PANE).click(position={"x": 10, "y": 10})
    page.keyboard.press("l")
    page.wait_for_function(loaded)
    page.wait_for_timeout(500)
    after = document(page)
    places = positions(after)
    for key, item in after["prompt"].items():
        for value in item["inputs"].values():
            if isinstance(value, list):
                assert places[value[0]][0] + 200 <= places[key][0]
    boxes = [node.bounding_box() for node in page.locator(".node").all()]
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            assert one is not None and other is not None
            apart = (
                one["x"] >= other["x"] + other["width"]
                or other["x"] >= one["x"] + one["width"]
                or one["y"] >= other["y"] + other["height"]
                or other["y"] >= one["y"] + one["height"]
            )
            assert apart
    undo(page)
    assert document(page) == before


def test_fit_shows_the_selection_and_far_away_only_titles_are_drawn(page: Page) -> None:
    def zoom() -> float:
        style = page.locator(".react-flow__viewport").evaluate("view => getComputedStyle(view).transform")
        return float(style.removeprefix("matrix(").split(",")[0])

    whole = zoom()
    select(page, "Size")
    page.keyboard.press(".")
    page.wait_for_timeout(400)
    assert zoom() > whole
    assert node(page, "Size").is_visible()
    page.keyboard.press("f")
    page.wait_for_timeout(400)
    assert zoom() == pytest.approx(whole, rel=0.05)
    assert field(page, "steps of Sampler").is_visible()
    assert page.locator(".minimap").count() == 0, "it would show no more than the canvas"
    page.locator(PANE).hover(position={"x": 10, "y": 10})
    for _ in range(3):
        page.mouse.wheel(0, -400)
    shapes = page.locator(".minimap .nodes").get_attribute("d") or ""
    assert shapes.count("M") == len(document(page)["prompt"])
    for limit, named in ((0.4, True), (0.2, False)):
        while zoom() >= limit:
            page.mouse.wheel(0, 250)
            page.wait_for_timeout(150)
        assert not field(page, "steps of Sampler").is_visible()
        sampler = page.get_by_role("article", name="Sampler")
        assert sampler.is_visible()
        assert sampler.get_by_text("Sampler", exact=True).is_visible() == named


def test_a_sub_graph_is_made_opened_edited_and_unpacked(page: Page) -> None:
    before = document(page)
    select(page, "Prompt", "Negative prompt")
    choose(page, node(page, "Prompt").locator(".head .name"), "Make a sub-graph")
    frame = page.locator(".subgraph")
    assert page.locator(".node").count() == len(before["prompt"]) - 1
    assert frame.locator(".in").all_inner_texts() == ["clip", "clip"]
    assert frame.locator(".out").count() == 2
    found = document(page)
    assert found["prompt"]["3"]["inputs"]["positive"] == ["10:6", 0]
    frame.get_by_role("button", name="Open").click()
    assert page.locator(".node").count() == 2
    field(page, "text of Prompt").fill("a large blue square")
    page.get_by_role("navigation", name="Where this is").get_by_role("button", name=before["title"]).click()
    assert page.locator(".node").count() == len(before["prompt"]) - 1
    edges = page.locator(".react-flow__edge").count()
    assert edges == sum(
        isinstance(value, list) for item in found["prompt"].values() for value in item["inputs"].values()
    )
    found = downloaded(page, "Download for ComfyUI")
    assert len(found["definitions"]["subgraphs"]) == 1
    choose(page, frame.locator(".head"), "Unpack")
    assert page.locator(".node").count() == len(before["prompt"])
    assert field(page, "text of Prompt").input_value() == "a large blue square"
    for _ in range(3):
        undo(page)
    assert document(page) == before
