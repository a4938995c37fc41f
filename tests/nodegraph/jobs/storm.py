"""A process that keeps 50 submits in flight, claims and finishes, and writes down each answer; to be killed.

    python storm.py FILE [LIMIT]

Each line of its output is what it was told is on the disk: `submitted ID` or `finished ID`. With LIMIT, no file may
grow past that many bytes from the start of the storm on (as on a full disk): it goes on until 20 submits were refused,
then lifts the limit, and does 20 more of everything. `refused CODE` are the codes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from nodegraph.jobs import JobError, JobRequest, JobStatus, JobStore

DOCUMENT = '{"prompt": "' + "x" * 2_000 + '"}'


def say(line: str) -> None:
    """One write, so that a kill leaves whole lines."""
    os.write(1, f"{line}\n".encode())


class Storm:
    """Submits and finishes until it is killed or refused."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.refused = 0

    async def submit(self) -> None:
        try:
            (job,) = await self.store.submit(JobRequest(DOCUMENT))
        except JobError as error:
            self.refused += 1
            say(f"refused {error.code}")
        else:
            say(f"submitted {job.id}")

    async def finish(self) -> None:
        job = None
        try:
            job = await self.store.claim("w")
            if job is not None:
                await self.store.finish(job.id, JobStatus.FINISHED, outputs=DOCUMENT)
                say(f"finished {job.id}")
        except JobError as error:
            say(f"refused {error.code}")

    async def rage(self, call: str) -> None:
        while self.refused < 20:
            await (self.submit() if call == "submit" else self.finish())


async def main() -> None:
    store = await JobStore.open(Path(sys.argv[1]))
    await store.recover()
    storm = Storm(store)
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    say("ready")
    await asyncio.gather(
        *[storm.rage("submit") for _ in range(50)], *[storm.rage("finish") for _ in range(5)]
    )
    counts = await store.counts()
    say(f"readable {sum(counts.values())}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for _ in range(20):
        await storm.submit()
        await storm.finish()
    say("again")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
