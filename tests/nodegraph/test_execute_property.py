"""Random graphs give what a plain evaluation gives, however often and however little memory there is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodegraph.cache import Cache
from tests.nodegraph.running import Bench, Prompt, n

KINDS = [
    "ToyAdd",
    "ToyTimes",
    "ToyWait",
    "ToySteps",
    "ToyIo",
    "ToySwitch",
    "ToyLoop",
    "ToyPower",
    "ToyRange",
    "ToySum",
]
Value = float | tuple[float, ...]


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """A graph of up to 14 nodes; each links to earlier ones."""
    prompt: Prompt = {"0": n("ToyFloat", value=draw(st.integers(-3, 3)))}
    for number in range(1, draw(st.integers(2, 14))):
        one = [str(draw(st.integers(0, number - 1))), 0]
        other = [str(draw(st.integers(0, number - 1))), 0]
        kind = draw(st.sampled_from(KINDS))
        inputs: dict[str, Any] = {"x": one}
        if kind in ("ToyAdd", "ToyTimes"):
            inputs = {"a": one, "b": other}
        elif kind == "ToySteps":
            inputs["steps"] = draw(st.integers(1, 3))
        elif kind == "ToySwitch":
            inputs = {"flag": draw(st.booleans()), "if_true": one, "if_false": other}
        elif kind == "ToyLoop":
            inputs["count"] = draw(st.integers(0, 3))
        elif kind == "ToyPower":
            inputs["exponent"] = draw(st.integers(0, 2))
        elif kind == "ToyRange":
            inputs = {"count": draw(st.integers(0, 3)), "start": one}
        elif kind == "ToySum":
            inputs = {"items": one}
        prompt[str(number)] = n(kind, **inputs)
    return prompt


class NoList(Exception):
    """A lazy input was given a list."""


def naive(prompt: Prompt) -> dict[str, Value]:
    """What each node gives, by evaluating the nodes in order; lists are tuples."""
    values: dict[str, Value] = {}
    for name, found in prompt.items():
        kind, inputs = found["class_type"], found["inputs"]
        given: dict[str, Any] = {
            key: values[item[0]] if isinstance(item, list) else item for key, item in inputs.items()
        }
        if kind == "ToyFloat":
            values[name] = float(given["value"])
        elif kind == "ToySum":
            items = given["items"]
            listed: tuple[float, ...] = items if isinstance(items, tuple) else (items,)
            values[name] = float(sum(listed))
        elif kind == "ToySwitch":
            chosen = given["if_true"] if given["flag"] else given["if_false"]
            if isinstance(chosen, tuple) and len(chosen) != 1:
                raise NoList
            values[name] = chosen[0] if isinstance(chosen, tuple) else chosen
        else:
            values[name] = mapped(kind, given)
    return values


def mapped(kind: str, given: dict[str, Any]) -> Value:
    """One node, mapped over the lists among its inputs."""
    lists = [item for item in given.values() if isinstance(item, tuple)]
    if not lists:
        return single(kind, given)
    count = 0 if any(not item for item in lists) else max(map(len, lists))
    out: list[float] = []
    for index in range(count):
        one = single(
            kind,
            {k: v[min(index, len(v) - 1)] if isinstance(v, tuple) else v for k, v in given.items()},
        )
        out.extend(one if isinstance(one, tuple) else (one,))
    return tuple(out)


def single(kind: str, given: dict[str, Any]) -> Value:
    """One call."""
    if kind == "ToyAdd":
        return float(given["a"] + given["b"])
    if kind == "ToyTimes":
        return float(given["a"] * given["b"])
    x = float(given.get("x", 0.0))
    if kind == "ToySteps":
        return x + float(given["steps"])
    if kind == "ToyLoop":
        return x + float(given["count"])
    if kind == "ToyPower":
        product = 1.0
        for _ in range(given["exponent"]):
            product *= x
        return product
    if kind == "ToyRange":
        return tuple(given["start"] + index for index in range(given["count"]))
    return x + 1 if kind == "ToyIo" else x


@pytest.mark.parametrize("budget", [10**7, 1_500, 1])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=prompts(), change=st.integers(-3, 3))
def test_random_graphs_give_what_a_plain_evaluation_gives(
    tmp_path: Path, budget: int, prompt: Prompt, change: int
) -> None:
    bench = Bench(tmp_path, cache=Cache(budget, budget))

    async def check(prompt: Prompt) -> None:
        try:
            expected = naive(prompt)
        except NoList:
            return
        ran = await bench.run(prompt, list(prompt))
        assert ran.end.status == "success", ran.end.problems
        assert {name: ran.value(name) for name in prompt} == expected
        assert bench.cache.stats().tiers["host"].bytes <= budget

    async def main() -> None:
        await check(prompt)
        await check(prompt)
        await check({**prompt, "0": n("ToyFloat", value=change)})

    asyncio.run(main())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=prompts(), data=st.data())
def test_keys_agree_exactly_where_upstream_graphs_do(
    tmp_path: Path, prompt: Prompt, data: st.DataObject
) -> None:
    bench = Bench(tmp_path)
    names = list(prompt)
    shuffled = data.draw(st.permutations(names))
    renamed = {name: f"node {name}" for name in names}
    other = {
        renamed[name]: {
            "class_type": prompt[name]["class_type"],
            "inputs": {
                key: [renamed[item[0]], item[1]] if isinstance(item, list) else item
                for key, item in prompt[name]["inputs"].items()
            },
        }
        for name in shuffled
    }
    keys, others = bench.keys(prompt, names).by_node, bench.keys(other, list(other)).by_node
    assert {name: others[renamed[name]] for name in names} == dict(keys)
