"""Foresight: what is found out about a graph before anything of it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

import nodegraph
from nodegraph.cli import main
from nodegraph.errors import ValidationError
from nodegraph.events import Event, NodeCached, NodeFinished, NodeStarted, RunStarted
from nodegraph.modes import BYPASSED, MUTED
from nodegraph.node import (
    NEVER,
    UNKNOWN,
    Block,
    Choice,
    Context,
    Folders,
    Forecast,
    Lazy,
    Many,
    NodeError,
    Range,
    Runtime,
    node,
    value,
)
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from tests.nodegraph.running import n
from tests.nodegraph.toy import NODES, Journal, journal_of, toy_folders


@value("PLUG")
@dataclass(frozen=True)
class Plug:
    """A toy recipe: a shape of plug."""

    shape: str


@value("SOCKET")
@dataclass(frozen=True, eq=False)
class Socket:
    """A toy value that takes work to make."""

    shape: str
    count: int


@dataclass(frozen=True)
class Form:
    """What is known of a Socket before the run."""

    shape: str
    count: Any


@node("Plug", category="toy", ahead=True)
def plug(ctx: Context, name: Annotated[str, Choice(files="checkpoints")], shape: str = "round") -> Plug:
    """A plug out of a file."""
    journal = ctx.runtime.options["journal"]
    assert isinstance(journal, Journal)
    journal.note("plug")
    if not ctx.folders.find("checkpoints", name).read_bytes():
        raise NodeError("the file is empty.", input="name", code="bad_model_file")
    return Plug(shape)


@node("Turned", category="toy", ahead=True)
def turned(plug: Plug, by: int = 0) -> Plug:
    """The plug, turned; a whole turn leaves it as it is."""
    return Plug(f"{plug.shape}+{by}") if by else plug


@node("Crash", category="toy", ahead=True)
def crash(how: str = "crash") -> Plug:
    """Raises what no node should, or is blocked."""
    if how == "block":
        return Block()  # type: ignore[return-value]
    raise RuntimeError("a fault of the pack")


@node("Number", category="toy", ahead=True)
def number(value: Annotated[int, Range(0, 100)] = 0) -> int:
    """A number."""
    return value


@node(
    "Socket",
    category="toy",
    foresee=lambda shape, count, runtime: Forecast((Form(shape, count if runtime.device == "cpu" else 0),)),
)
def socket(ctx: Context, shape: str = "round", count: float = 1) -> Socket:
    """A socket."""
    journal_of(ctx).note("socket")
    return Socket(shape, int(count))


def _joined(plug: Any, socket: Any, strict: bool) -> Forecast:
    if isinstance(plug, Plug) and isinstance(socket, Form) and plug.shape != socket.shape:
        raise NodeError(
            "the plug does not fit the socket.",
            input="plug",
            found=f"a {plug.shape} plug",
            allowed=f"a {socket.shape} one",
            hint="Take another plug.",
            code="misfit",
        )
    if strict and not isinstance(plug, Plug):
        raise NodeError(f"nothing is known of the plug: {plug!r}.")
    return Forecast((socket,))


@node("Join", category="toy", foresee=_joined)
def join(ctx: Context, plug: Plug, socket: Socket, strict: bool = False, seed: int = 0) -> Socket:
    """Puts a plug into a socket."""
    journal_of(ctx).note("join")
    return socket


@node("Sockets", category="toy", foresee=lambda count: Forecast((Form("square", count),)))
def sockets(count: int = 2) -> Many[Socket]:
    """A list of sockets."""
    return tuple(Socket("square", one) for one in range(count))


@node("JoinAll", category="toy", foresee=lambda plug, sockets: _joined(plug, sockets, False))
def join_all(plug: Plug, sockets: Many[Socket]) -> Socket:
    """Puts a plug into many sockets."""
    return sockets[0]


@node("JoinLate", category="toy", foresee=lambda plug, socket, now: _joined(plug, socket, False))
async def join_late(plug: Plug, socket: Lazy[Socket], now: bool = False) -> Plug:
    """Puts a plug into a socket if it must."""
    if now:
        await socket
    return plug


@node("Broken", category="toy", foresee=lambda socket: Forecast((socket, socket)))
def broken(socket: Socket) -> Socket:
    """A hook that says too much."""
    return socket


def _faulty(**given: Any) -> Forecast:
    raise KeyError(sorted(given))


@node("Faulty", category="toy", foresee=_faulty)
def faulty(socket: Socket, **more: Any) -> Socket:
    """A hook that raises what it should not."""
    return socket


@node("Fresh", category="toy", ahead=True, identity=lambda: NEVER)
def fresh() -> Plug:
    """Another plug each time."""
    return Plug("square")


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def session(tmp_path: Path, journal: Journal) -> Iterator[Session]:
    with Session(registry(), Runtime(toy_folders(tmp_path), options={"journal": journal})) as made:
        yield made


def registry() -> Registry:
    own = [item for item in globals().values() if callable(item) and hasattr(item, "__node_spec__")]
    return Registry.of(*{id(item): item for item in (*NODES, *own)}.values())


def pair(shape: str = "square", **join: Any) -> dict[str, Any]:
    """A round socket, a plug and what joins them."""
    return {
        "plug": n("Plug", name="toy.safetensors", shape=shape),
        "socket": n("Socket"),
        "join": n("Join", plug=["plug", 0], socket=["socket", 0], **join),
        "show": n("ToyShow", item=["join", 0]),
    }


def problems(session: Session, prompt: Any, targets: Any = None) -> list[tuple[str | None, str]]:
    """(node, code) of each error and warning."""
    report = session.check(Workflow.from_data(prompt), targets)
    return [(found.node, found.code) for found in (*report.problems, *report.warnings)]


def test_a_wrong_pairing_is_refused_before_anything_runs(session: Session, journal: Journal) -> None:
    with pytest.raises(ValidationError) as caught:
        nodegraph.load(pair(), session=session).run()
    (problem,) = caught.value.problems
    assert str(problem) == (
        "node join (Join), input plug: the plug does not fit the socket. Found: a square plug."
        " Allowed: a round one. Take another plug."
    )
    assert (problem.code, problem.title, problem.severity) == ("misfit", "Join", "error")
    assert journal.calls == {"plug": 1}


def test_a_right_pairing_runs_and_says_of_each_node_that_it_ran_once(
    session: Session, journal: Journal
) -> None:
    events: list[Event] = []
    program = nodegraph.load(pair("round"), session=session)
    assert session.check(program.workflow).problems == ()
    first = program.run(on_event=events.append)
    assert set(first.ran) == {"plug", "socket", "join", "show"}
    assert first.cached == ()
    assert journal.calls == {"plug": 1, "socket": 1, "join": 1}
    begun = next(event for event in events if isinstance(event, RunStarted))
    assert set(begun.to_run) == {"plug", "socket", "join", "show"}
    assert [type(event) for event in events if getattr(event, "node", "") == "plug"] == [
        NodeStarted,
        NodeFinished,
    ]
    again: list[Event] = []
    second = program.with_inputs({"join.seed": 5}).run(on_event=again.append)
    assert set(second.ran) == {"join", "show"}
    assert {event.node for event in again if isinstance(event, NodeCached)} == {"plug", "socket"}


def test_what_was_run_ahead_is_planned_as_to_run_until_a_run_has_told_of_it(session: Session) -> None:
    graph = session.bind(Workflow.from_data(pair("round")))
    assert {row.node: row.state for row in session.plan(graph).rows(session.cache)} == dict.fromkeys(
        graph.nodes, "run"
    )
    session.run(graph)
    changed = session.bind(Workflow.from_data(pair("round", seed=1)))
    states = {row.node: row.state for row in session.plan(changed).rows(session.cache)}
    assert states == {"plug": "cached", "socket": "cached", "join": "run", "show": "run"}


def test_all_problems_are_told_and_none_of_what_follows_from_them(session: Session) -> None:
    prompt = pair()
    prompt["after"] = n("Join", plug=["plug", 0], socket=["join", 0])
    prompt["other"] = n("Join", plug=["plug", 0], socket=["socket", 0], seed=2)
    prompt["bad"] = n("ToyAdd")
    for name in ("after", "other", "bad"):
        prompt[f"show {name}"] = n("ToyShow", item=[name, 0])
    assert problems(session, prompt) == [
        ("bad", "required_input_missing"),
        ("join", "misfit"),
        ("other", "misfit"),
    ]


def test_targets_that_a_problem_does_not_touch_can_still_run(session: Session) -> None:
    prompt = pair() | {"fine": n("ToyShow", item=["socket", 0])}
    report = session.check(Workflow.from_data(prompt))
    assert report.graph is not None
    assert report.graph.targets == ("fine",)
    assert set(report.graph.nodes) == {"socket", "fine"}
    assert report.failed == ("show",)
    assert report.dependents("join") == ("show",)
    assert session.check(Workflow.from_data(pair())).graph is None


def test_recipes_pass_through_nodes_that_run_ahead(session: Session) -> None:
    prompt = pair("round")
    prompt["join"]["inputs"]["plug"] = ["turned", 0]
    prompt["turned"] = n("Turned", plug=["plug", 0], by=["number", 0])
    prompt["number"] = n("Number", value=0)
    assert problems(session, prompt) == []
    prompt["number"] = n("Number", value=1)
    assert problems(session, prompt) == [("join", "misfit")]


def test_a_number_fits_itself_to_its_socket(session: Session) -> None:
    prompt = {
        "number": n("Number", value=3),
        "socket": n("Socket", count=["number", 0]),
        "show": n("ToyShow", item=["socket", 0]),
    }
    graph = session.bind(Workflow.from_data(prompt))
    (form,) = session.foresee(graph).forecasts["socket"].outputs
    assert (form.count, type(form.count)) == (3.0, float)


def test_a_node_that_cannot_run_ahead_is_a_problem_and_a_crash_is_left_to_the_run(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "models" / "checkpoints" / "empty.safetensors").write_bytes(b"")
    prompt = pair() | {"plug": n("Plug", name="empty.safetensors")}
    assert problems(session, prompt) == [("plug", "bad_model_file")]
    prompt = pair() | {"plug": n("Crash")}
    assert problems(session, prompt) == []
    result = session.run(Workflow.from_data(prompt))
    assert [(found.node, found.code) for found in result.problems] == [("plug", "node_failed")]
    assert problems(session, pair() | {"plug": n("Crash", how="block")}) == []


UNKNOWN_PLUGS: dict[str, dict[str, Any]] = {
    "made afresh": {"plug": n("Fresh")},
    "patched by what has no hook": {
        "plug": n("ToyKeep", item=["real", 0]),
        "real": n("Plug", name="toy.safetensors"),
    },
    "of a list": {"plug": n("Plug", name="toy.safetensors", shape=["list", 0]), "list": n("ToyTexts")},
}


@node("ToyKeep", category="toy")
def toy_keep(item: Plug) -> Plug:
    """The same; nothing says so ahead."""
    return item


@node("ToyTexts", category="toy")
def toy_texts() -> Many[str]:
    """Two shapes."""
    return ("round", "square")


@pytest.mark.parametrize("name", UNKNOWN_PLUGS)
def test_what_is_not_known_is_unknown(session: Session, name: str) -> None:
    prompt = pair(strict=True) | UNKNOWN_PLUGS[name]
    report = session.check(Workflow.from_data(prompt))
    assert [found.message for found in report.problems] == [f"nothing is known of the plug: {UNKNOWN!r}."]
    assert problems(session, pair(strict=False) | UNKNOWN_PLUGS[name]) == []


def test_lists_and_lazy_inputs_are_unknown(session: Session) -> None:
    prompt = pair() | {
        "sockets": n("Sockets"),
        "join": n("Join", plug=["plug", 0], socket=["sockets", 0]),
        "all": n("JoinAll", plug=["plug", 0], sockets=["socket", 0]),
        "late": n("JoinLate", plug=["plug", 0], socket=["wrong", 0]),
        "wrong": n("Join", plug=["plug", 0], socket=["socket", 0]),
        "show all": n("ToyShow", item=["all", 0]),
        "show late": n("ToyShow", item=["late", 0]),
    }
    assert problems(session, prompt) == []
    assert session.run(Workflow.from_data(prompt)).status == "success"


def test_only_what_will_run_is_refused(session: Session) -> None:
    prompt = pair("round")
    session.run(Workflow.from_data(prompt), targets=["join"])
    more = prompt | {"next": n("Join", plug=["plug", 0], socket=["join", 0], strict=True)}
    assert problems(session, more, ["next"]) == []
    more["plug"] = n("Plug", name="toy.safetensors", shape="square")
    assert problems(session, more, ["next"]) == [("join", "misfit")]


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_muted_and_bypassed_nodes_have_no_say(session: Session, mode: int) -> None:
    prompt = pair() | {"other": n("ToyShow", item=["socket", 0])}
    assert problems(session, prompt) == [("join", "misfit")]
    prompt["join"]["_meta"] = {"mode": mode}
    assert problems(session, prompt) == []


@pytest.mark.parametrize(("name", "part"), [("Broken", "it gives 2 outputs"), ("Faulty", "KeyError")])
def test_a_fault_of_a_hook_is_a_warning_and_the_graph_runs(session: Session, name: str, part: str) -> None:
    prompt = {
        "socket": n("Socket"),
        "hook": n(name, socket=["socket", 0]),
        "s": n("ToyShow", item=["hook", 0]),
    }
    report = session.check(Workflow.from_data(prompt))
    assert report.problems == ()
    (warning,) = report.warnings
    assert (warning.node, warning.code, warning.severity) == ("hook", "broken_hook", "warning")
    assert part in warning.message
    assert session.run(Workflow.from_data(prompt)).status == "success"


def test_without_room_in_the_cache_a_node_runs_again(tmp_path: Path, journal: Journal) -> None:
    runtime = Runtime(toy_folders(tmp_path), options={"journal": journal}, host_budget=1)
    with Session(registry(), runtime) as session:
        result = session.run(Workflow.from_data(pair("round")))
    assert set(result.ran) == {"plug", "socket", "join", "show"}
    assert journal.calls["plug"] == 2


def test_hooks_and_nodes_that_cannot_be_are_refused_where_they_are_declared() -> None:
    with pytest.raises(TypeError, match="foresee takes 'y', which is no input"):

        @node("Wrong", category="toy", foresee=lambda y: Forecast())
        def wrong(x: int) -> int:
            return x

    with pytest.raises(TypeError, match="runs ahead"):

        @node("Late", category="toy", ahead=True)
        async def late(x: int) -> int:
            return x


def test_what_runs_ahead_has_nothing_of_a_run(tmp_path: Path) -> None:
    seen: list[str] = []

    @node("Nosy", category="toy", ahead=True)
    def nosy(ctx: Context) -> str:
        """Asks for what there is not."""
        ctx.progress(1, 2)
        ctx.check_cancelled()
        for name in ("node_id", "document", "graph", "resource"):
            try:
                found = getattr(ctx, name)
                found(Plug)
            except RuntimeError as error:
                seen.append(str(error))
        return "done"

    runtime = Runtime(Folders((tmp_path,), tmp_path, tmp_path, tmp_path))
    with Session(Registry.of(nosy, *NODES), runtime) as session:
        session.check(Workflow.from_data({"1": n("Nosy"), "2": n("ToyShow", item=["1", 0])}))
    assert [text.split("'")[2] for text in seen] == ["node_id", "document", "graph", "resource"]


def test_ten_thousand_nodes_are_foreseen_without_recursion(session: Session) -> None:
    prompt = {"0": n("Socket"), "plug": n("Plug", name="toy.safetensors")}
    prompt |= {str(i): n("Join", plug=["plug", 0], socket=[str(i - 1), 0], seed=i) for i in range(1, 10_000)}
    prompt["s"] = n("ToyShow", item=["9999", 0])
    graph = session.bind(Workflow.from_data(prompt))
    assert len(session.foresee(graph).forecasts) == 10_000


@pytest.mark.parametrize("command", ["run", "validate", "plan"])
def test_the_command_line_refuses_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    @node("Fits", category="toy", foresee=lambda x: _refused(x))
    def fits(x: int = 0) -> int:
        """Refused, whatever it is."""
        return x

    monkeypatch.chdir(tmp_path)
    toy_folders(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps({"1": n("Fits"), "2": n("ToyShow", item=["1", 0])}))
    with pytest.raises(SystemExit) as caught:
        main([command, "w.json"], Registry.of(fits, *NODES))
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert err == "error: node 1 (Fits), input x: it never fits. Found: 0.\n"
    assert out == ""


def _refused(x: Any) -> Forecast:
    raise NodeError("it never fits.", input="x", found=str(x))
