"""Content identity of model files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nodegraph.node import file_identity


def files_identity(paths: Sequence[Path]) -> str:
    """Return the identity of files that belong together, in this order. Raises OSError where one cannot be read."""
    if len(paths) == 1:
        return file_identity(paths[0])
    return hashlib.sha256("\n".join(file_identity(path) for path in paths).encode()).hexdigest()
