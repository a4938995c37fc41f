"""Where files that are downloaded lie: inside their folder."""

from __future__ import annotations

from pathlib import Path

from nodegraph.client.records import RemoteFile
from nodegraph.server.security import inside, plain_path


def folder_of(root: Path, file: RemoteFile) -> tuple[Path, str]:
    """The folder and the name for a file of a server. Raises Refused where its name leads out of `root`."""
    *parts, name = plain_path(
        "/".join(part for part in (file.subfolder, file.filename) if part), what="file name"
    )
    folder = inside(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder, name
