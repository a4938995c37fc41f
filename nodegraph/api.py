"""The Python way of use: load a workflow, look at its parameters, run it.

graph = nodegraph.load("workflows/text_to_image.json")
picture = graph.run(prompt="a large red circle on a blue background", seed=7).images[0]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nodegraph.node import Runtime
from nodegraph.registry import LateRegistry, Registry
from nodegraph.result import Result
from nodegraph.session import OnEvent, Session, default_folders, make_output_folder
from nodegraph.workflow import Parameter, Workflow


@dataclass(frozen=True)
class Settings:
    """How a session is made, as the command line and `load` take it."""

    models_dir: tuple[str | os.PathLike[str], ...] = ()
    input_dir: str | os.PathLike[str] | None = None
    output_dir: str | os.PathLike[str] | None = None
    device: str = "auto"
    dtype: str = "auto"
    device_budget: int = 0
    """Bytes of device memory to keep within; 0: decide from what the device has."""

    def open(self, registry: Registry | None = None) -> Session:
        """A session with these settings; every installed pack unless a registry is given."""
        found = registry if registry is not None else Registry.load()
        folders = default_folders(
            self.models_dir, input=self.input_dir, output=self.output_dir, pack_roots=found.model_roots
        )
        runtime = Runtime(folders, device=self.device, dtype=self.dtype, device_budget=self.device_budget)
        return Session(found, runtime)


class Program:
    """A workflow and the session that runs it; results and models are kept between runs."""

    def __init__(
        self, workflow: Workflow, session: Session | Settings, registry: Registry | None = None
    ) -> None:
        self.workflow = workflow
        self._session = session
        self._registry = registry

    @property
    def session(self) -> Session:
        """The session, opened when it is first needed."""
        if isinstance(self._session, Settings):
            self._session = self._session.open(self._registry)
        return self._session

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters that the workflow declares, by name."""
        return self.workflow.parameters

    def with_inputs(self, values: Mapping[str, Any]) -> Program:
        """The program with inputs set, such as `{"3.steps": 20}`; the session is shared. Raises ValidationError."""
        return Program(self.workflow.with_inputs(values), self.session)

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        targets: Sequence[str] | None = None,
        on_event: OnEvent | None = None,
        **values: Any,
    ) -> Result:
        """Run with declared parameters, given by name or as a mapping; `targets` are ids of the nodes that are wanted.

        Raises ValidationError for wrong input, naming every problem, and RunError where a node failed.
        """
        given = {**(parameters or {}), **values}
        workflow = self.workflow.with_values(given)
        make_output_folder(self.session.runtime.folders)
        return self.session.run(workflow, targets=targets, on_event=on_event).raise_for_status()

    def close(self) -> None:
        """Close the session, if it was opened."""
        if isinstance(self._session, Session):
            self._session.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Program({self.workflow.title!r}, parameters: {', '.join(self.parameters) or 'none'})"


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | Workflow,
    *,
    session: Session | None = None,
    models_dir: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    input_dir: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    device_budget: int = 0,
) -> Program:
    """A workflow ready to run, from a file (JSON, or a PNG or WebP that carries one) or parsed JSON.

    Give a `session` to share models and results between programs; otherwise one is opened at the first run with the
    other arguments: `device` is `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; `dtype` is `auto`, `fp32`, `bf16` or `fp16`;
    `device_budget` is the device memory to keep within, in bytes, 0 for most of it. Raises ValidationError where the
    source holds no workflow.
    """
    registry = session.registry if session is not None else LateRegistry(Registry.load)
    roots = (models_dir,) if isinstance(models_dir, (str, os.PathLike)) else tuple(models_dir)

    def listing(kind: str) -> list[str]:
        if session is not None:
            return session.runtime.folders.list(kind)
        # Loading the packs tells where their models lie; most workflows are read without.
        pack_roots = getattr(getattr(registry, "registry", registry), "model_roots", ())
        return default_folders(roots, pack_roots=pack_roots).list(kind)

    if isinstance(source, Workflow):
        workflow = source
    elif isinstance(source, Mapping):
        workflow = Workflow.from_data(source, registry)
    else:
        workflow = Workflow.load(source, registry, listing)
    if session is not None:
        return Program(workflow, session)
    return Program(workflow, Settings(roots, input_dir, output_dir, device, dtype, device_budget))
