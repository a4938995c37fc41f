"""nodegraph: a node-graph engine for diffusion models.

import nodegraph
result = nodegraph.load("workflow.json").run(prompt="a red circle")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nodegraph.api import Program, load
    from nodegraph.context import CancelToken
    from nodegraph.errors import Cancelled, NodegraphError, Problem, RunError, ValidationError
    from nodegraph.registry import Registry
    from nodegraph.result import Result
    from nodegraph.session import Session
    from nodegraph.workflow import Workflow

__all__ = [
    "CancelToken",
    "Cancelled",
    "NodegraphError",
    "Problem",
    "Program",
    "Registry",
    "Result",
    "RunError",
    "Session",
    "ValidationError",
    "Workflow",
    "__version__",
    "load",
]
_HOMES = {
    "CancelToken": "context",
    "Cancelled": "errors",
    "NodegraphError": "errors",
    "Problem": "errors",
    "Program": "api",
    "Registry": "registry",
    "Result": "result",
    "RunError": "errors",
    "Session": "session",
    "ValidationError": "errors",
    "Workflow": "workflow",
    "load": "api",
}
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nodegraph' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nodegraph.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
