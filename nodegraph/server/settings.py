"""The person's settings: one JSON object in one file, replaced at once or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, ValidationError
from nodegraph.formats.json_text import parse
from nodegraph.naming import write_atomically

MAX_BYTES = 4 * 2**20


class Settings:
    """Reads and writes the settings file; changes come one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()

    async def all(self) -> dict[str, Any]:
        """Every setting by name. Raises ValidationError where the file is damaged."""
        return await asyncio.to_thread(self._read)

    async def update(self, changes: Mapping[str, Any]) -> None:
        """Set these; the others stay. Raises ValidationError where that would be too much, OSError where it cannot be."""
        async with self._lock:
            await asyncio.to_thread(self._change, changes)

    def _read(self) -> dict[str, Any]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        found = parse(data, str(self.path))
        if not isinstance(found, dict):
            raise ValidationError(Problem("damaged_file", f"{self.path} does not hold a JSON object."))
        return found

    def _change(self, changes: Mapping[str, Any]) -> None:
        written = json.dumps({**self._read(), **changes}, indent=2)
        if len(written) > MAX_BYTES:
            raise ValidationError(
                Problem(
                    "too_large",
                    f"the settings would be larger than {MAX_BYTES} bytes, the most that is kept.",
                )
            )
        # What could not be read again would take the other settings with it: one that nests a level too deep, say.
        parse(written, "the settings")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, written)
