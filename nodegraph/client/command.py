"""`nodegraph run FILE --server URL`: as a local run, on another machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nodegraph.arguments import with_words
from nodegraph.client.synchronous import Client
from nodegraph.context import CancelToken
from nodegraph.formats.object_info import from_object_info
from nodegraph.node import NodeSpec
from nodegraph.registry import LateRegistry
from nodegraph.result import Result
from nodegraph.session import OnEvent, default_folders, make_output_folder
from nodegraph.workflow import Workflow


def registry_of(client: Client) -> Mapping[str, NodeSpec]:
    """The node types of a server, asked for when one is looked up."""
    return LateRegistry(lambda: from_object_info(client.object_info(), client.server))


class RemoteRun:
    """A workflow and the server that is to run it, with the folders here that stand for its own."""

    def __init__(
        self,
        client: Client,
        workflow: Workflow,
        parameters: Mapping[str, str],
        settings: Sequence[str],
        input_dir: Path | None,
        output_dir: Path | None,
    ) -> None:
        """Values are words of the command line. Raises ValidationError for those that name nothing."""
        self._client = client
        self._registry = registry_of(client)
        self._folders = default_folders(input=input_dir, output=output_dir)
        self.workflow = with_words(workflow, self._registry, parameters, settings)

    @property
    def titles(self) -> dict[str, str]:
        """What the nodes are called, by id."""
        return {id: _title(node) for id, node in self.workflow.prompt.items()}

    def run(self, targets: Sequence[str] | None, on_event: OnEvent, cancel: CancelToken) -> Result:
        """Upload what it reads of the input folder here, unless the server has it, run, and download what it made."""
        make_output_folder(self._folders)
        sent = {
            place: self._client.ensure_uploaded(
                path, subfolder=path.relative_to(self._folders.input).parent.as_posix()
            )
            for place, path in self._pictures()
        }
        workflow = self.workflow.with_inputs(sent)
        return self._client.run(
            workflow, targets=targets, output_dir=self._folders.output, on_event=on_event, cancel=cancel
        )

    def _pictures(self) -> Iterator[tuple[str, Path]]:
        """(NODE.INPUT, file) of each input that takes an upload and names a file in the input folder here."""
        for id, node in self.workflow.prompt.items():
            for name, value in node.get("inputs", {}).items():
                if not isinstance(value, str) or not value or len(value) > 1000 or "\0" in value:
                    continue
                path = self._folders.input / value
                if ".." in path.parts or not path.is_relative_to(self._folders.input) or not path.is_file():
                    continue
                spec = self._registry.get(node["class_type"])
                item = spec.inputs.get(name) if spec is not None else None
                if item is not None and item.choice is not None and item.choice.upload:
                    yield f"{id}.{name}", path


def _title(node: Mapping[str, Any]) -> str:
    title = node.get("_meta", {}).get("title")
    return title if isinstance(title, str) and title else str(node["class_type"])
