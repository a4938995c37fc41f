"""A client of a nodegraph server: `Client`, and `AsyncClient` for programs with an event loop.

with Client("http://127.0.0.1:8188") as client:
    result = client.run(Workflow.load("workflow.json"), {"prompt": "a red circle"}, output_dir="pictures")

Needs aiohttp, which `pip install 'nodegraph[server]'` brings; nothing here loads torch.
"""

from __future__ import annotations

try:
    import aiohttp  # noqa: F401  # looked for before the modules that use it
except ImportError:
    from nodegraph.errors import Problem, ValidationError

    raise ValidationError(
        Problem(
            "not_installed", "the client needs aiohttp.", hint="Install it: pip install 'nodegraph[server]'."
        )
    ) from None

from nodegraph.client.asynchronous import AsyncClient
from nodegraph.client.records import JobState, RemoteFile
from nodegraph.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "JobState", "RemoteFile"]
