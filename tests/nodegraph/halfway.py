"""Processes that are half way through a file, for the tests of what becomes of those of killed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITER = """
import os, sys
from pathlib import Path
from nodegraph.parts import Part
with Part(Path(sys.argv[1]), "picture.png") as part:
    part.file.write(b"half")
    part.file.flush()
    print(part.path, flush=True)
    sys.stdin.read()
    part.file.write(b" and half")
    os.replace(part.whole(), Path(sys.argv[1]) / "picture.png")
"""


@contextmanager
def writer(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that is half way through a file, and the file, which was last changed an hour ago."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdin is not None
        part = Path(process.stdout.readline().decode().strip())
        aged(part)
        yield process, part
    finally:
        process.kill()
        process.communicate()


def aged(path: Path) -> None:
    """Have it last changed an hour ago."""
    os.utime(path, (time.time() - 3600,) * 2)
