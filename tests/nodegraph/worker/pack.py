"""A pack without torch that workers in tests load: nodes that take their time, draw, crash and hang."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from nodegraph.node import Choice, Context, Pack, SavedFile, Shown, node

PACK = Pack("worker-tests", (__name__, "tests.nodegraph.toy"))


class Dot:
    """A preview: bytes that say what they are."""

    def __init__(self, step: int) -> None:
        self.step = step

    def jpeg(self, max_side: int) -> bytes:
        """Not a picture, but as good as one to the engine. A negative step cannot be drawn."""
        if self.step < 0:
            raise ValueError("a negative step")
        return b"\xff\xd8" + f"step {self.step} at most {max_side}".encode()


@node("WorkSteps", category="work", lane="device")
def work_steps(ctx: Context, steps: int = 5, seconds: float = 0.0, sign: int = 1) -> int:
    """Steps with previews, each of which takes `seconds`."""
    for step in range(steps):
        time.sleep(seconds)
        ctx.progress(step + 1, steps, Dot(sign * (step + 1)))
    return steps


@node("WorkDie", category="work")
def work_die(ctx: Context, signal: int = 9, once: bool = False) -> int:
    """Kills its own process; with `once`, only where the input folder does not say that it did so already."""
    mark = Path(ctx.folders.input) / "died"
    if not (once and mark.exists()):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        print("about to die", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal)
        time.sleep(30)
    return 1


@node("WorkSleep", category="work")
def work_sleep(ctx: Context, seconds: float = 1.0) -> float:
    """Sleeps without a word, and takes no notice of being cancelled."""
    time.sleep(seconds)
    return seconds


@node("WorkPrint", category="work")
def work_print(text: str = "hello", count: int = 1) -> str:
    """Prints lines, as libraries do."""
    for index in range(count):
        print(f"{text} {index}")
    return text


@node("WorkPid", category="work", output=True)
def work_pid(seed: int = 0) -> Shown:
    """Shows which process ran it."""
    return Shown({"text": (str(os.getpid()), f"seed {seed}")})


@node("WorkSave", category="work", effect=True)
def work_save(ctx: Context, text: str = "", name: str = "a.txt") -> Shown:
    """Writes a file."""
    path = Path(ctx.folders.output) / name
    path.write_text(text, encoding="utf-8")
    return Shown({"files": (SavedFile(name, "", "output", path, path.stat().st_size),)})


@node("WorkShow", category="work", output=True)
def work_show(item: Any) -> Shown:
    """Shows anything."""
    return Shown({"text": (str(item),)})


@node("WorkDigest", category="work", output=True)
def work_digest(
    ctx: Context, file: Annotated[str, Choice(files="input", upload=True)], times: int = 1
) -> Shown:
    """Shows the hash of a file's bytes, several times."""
    data = ctx.folders.find("input", file).read_bytes()
    return Shown({"text": (hashlib.sha256(data).hexdigest(),) * times})
