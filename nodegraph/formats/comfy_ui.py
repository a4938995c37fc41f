"""ComfyUI's UI format, as people share it, into a Workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodegraph.formats.json_text import refuse

if TYPE_CHECKING:
    from nodegraph.node import NodeSpec
    from nodegraph.workflow import Workflow


def from_ui(data: Mapping[str, Any], registry: Mapping[str, NodeSpec] | None, name: str) -> Workflow:
    """The workflow of a UI graph. Raises ValidationError."""
    refuse(
        f"{name} is in ComfyUI's UI format, which is not read yet: export it in the API format.",
        code="invalid_prompt",
    )
