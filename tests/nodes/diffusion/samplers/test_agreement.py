"""Every sampler that KSampler offers has a test that holds it to something outside itself."""

from __future__ import annotations

from types import ModuleType

import pytest

from nodes.diffusion.samplers import SAMPLERS
from tests.nodes.diffusion.samplers import (
    test_convergence,
    test_diffusers,
    test_distribution,
    test_equalities,
)

# The exact solution, diffusers, the data's distribution, another sampler.
REFERENCES = (test_convergence, test_diffusers, test_distribution, test_equalities)


def names_by_test(module: ModuleType) -> dict[str, set[str]]:
    """Return the samplers' names that each test of a module is parametrised by."""
    found: dict[str, set[str]] = {}
    for label, function in vars(module).items():
        for mark in getattr(function, "pytestmark", ()) if label.startswith("test_") else ():
            if mark.name != "parametrize":
                continue
            arguments, rows = mark.args
            if arguments == "name":
                found.setdefault(label, set()).update(rows)
            elif "name" in arguments:
                place = arguments.index("name")
                found.setdefault(label, set()).update(row[place] for row in rows)
    return found


TESTS = {
    f"{module.__name__.rpartition('.')[2]}::{label}": names
    for module in REFERENCES
    for label, names in names_by_test(module).items()
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_held_to_a_reference(sampler: str) -> None:
    assert [test for test, names in TESTS.items() if sampler in names]


def test_every_reference_names_samplers() -> None:
    assert {test.partition("::")[0] for test in TESTS} == {
        module.__name__.rpartition(".")[2] for module in REFERENCES
    }
    assert set().union(*TESTS.values()) == set(SAMPLERS)
