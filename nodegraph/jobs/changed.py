"""Waiting for the store to change."""

from __future__ import annotations

import asyncio


class Changed:
    """A version that moves on with every change, for any number of waiting coroutines of one loop.

        seen = store.changed.version
        job = await store.claim(name)
        if job is None:
            await store.changed.wait(seen)

    The version is read before the look, so no change is missed between the look and the wait.
    """

    def __init__(self) -> None:
        self.version = 0
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Something changed; from the loop's thread."""
        self.version += 1
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def wait(self, seen: int) -> int:
        """Return once the version is past `seen`, at once where it is already; the version now."""
        while self.version == seen:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            # Shielded: one who gives up waiting must not wake the others.
            await asyncio.shield(self._next)
        return self.version
