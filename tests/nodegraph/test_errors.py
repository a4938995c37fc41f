"""Problems and the errors that carry them."""

from __future__ import annotations

from nodegraph.errors import NodeError, Problem, ValidationError, did_you_mean, nearest


def test_a_problem_reads_place_first_then_what_why_and_remedy() -> None:
    problem = Problem(
        "value_bigger_than_max",
        "the value is bigger than 5.",
        node="3",
        title="My sampler",
        class_type="KSampler",
        input="steps",
        found="9",
        allowed="1 to 5",
        hint="Lower it.",
    )
    where = 'node 3 "My sampler" (KSampler), input steps'
    assert problem.where() == where
    assert str(problem) == f"{where}: the value is bigger than 5. Found: 9. Allowed: 1 to 5. Lower it."
    assert str(Problem("x", "the file is empty.")) == "the file is empty."


def test_a_title_that_says_nothing_new_is_left_out() -> None:
    assert Problem("x", "y", node="3", title="KSampler", class_type="KSampler").where() == "node 3 (KSampler)"


def test_an_error_carries_every_problem() -> None:
    problems = [Problem("a", "one."), Problem("b", "two.")]
    error = ValidationError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "one.\ntwo."
    assert ValidationError(problems[0]).problems == (problems[0],)


def test_a_node_error_becomes_a_problem_at_its_place() -> None:
    error = NodeError("too wide.", input="width", found="9", allowed="8", hint="Crop it.", code="c")
    expected = Problem("c", "too wide.", "4", "T", "N", "width", "9", "8", "Crop it.")
    assert error.problem("4", "T", "N") == expected


def test_near_names_ignore_case() -> None:
    assert nearest("ksampler", ["KSampler", "VAEDecode"]) == ["KSampler"]
    assert did_you_mean("zzz", ["KSampler"]) is None
    assert did_you_mean("x" * 100_000, ["KSampler"]) is None
