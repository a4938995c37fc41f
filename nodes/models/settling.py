"""What a session's runtime leaves open, settled once when it opens."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.node import Runtime
from nodes.models.devices import network_dtype, resolve_device


def settle(runtime: Runtime) -> Runtime:
    """Return the runtime with its device named; `auto` becomes the best there is.

    Raises NodeError for a device or a dtype that is not there.
    """
    device = resolve_device(runtime.device)
    network_dtype(runtime.dtype, device)
    return replace(runtime, device=str(device))
