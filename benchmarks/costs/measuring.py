"""Times single calls of networks with random weights, one network in memory at a time."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.costs.calls import Call, make_call, random_module
from benchmarks.costs.published import Case
from nodes.models.loading import Placement

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Measured:
    """One call of one network: the median over rounds."""

    seconds: float
    batch: int
    """Samples in the call that was timed."""
    rounds: int
    cpu_seconds: float | None = None
    """Of all threads, on a CPU: what else runs there changes it less than the seconds that pass."""
    peak: int | None = None
    """Bytes of tensors on the device at the worst moment, weights included, where the device tells."""


@dataclass(frozen=True)
class Measurements:
    """What was measured, and why the rest was not; by the calls as the pipelines make them."""

    device: str
    dtype: str
    found: Mapping[Case, Measured]
    refused: Mapping[Case, str]


@dataclass(frozen=True, slots=True)
class Timing:
    """One call."""

    seconds: float
    cpu_seconds: float | None = None
    peak: int | None = None


def measure(
    needs: Mapping[Case, int], placement: Placement, rounds: int, limit: float = float("inf")
) -> Measurements:
    """Time a call of each case that fits into memory; `needs` are the bytes that are counted for each.

    None is begun `limit` seconds after the first. What was timed is told on standard error as soon as it is known.

    Each round takes every network once, every other round in the opposite order, so that what else the machine does
    meets them all. A GPU is given the case's own batch, a CPU one sample: there two take twice as long.
    """
    device = placement.device
    refused: dict[Case, str] = {}
    timings: dict[Case, list[Timing]] = {case: [] for case in needs}
    end = time.monotonic() + limit
    for turn in range(rounds):
        for case in _in_turn([case for case in needs if case not in refused], turn):
            # Asked each time: what else runs may have taken more by now.
            if (why := _too_large(needs[case], device)) is not None:
                refused[case] = why
                continue
            if time.monotonic() >= end:
                refused[case] = f"the {limit:g} seconds were over"
                continue
            timed = case if device.type == "cuda" else replace(case, batch=1)
            timings[case].append(_one(timed, placement))
            print(f"{case.architecture.name} {dict(case.shapes)}: {timings[case][-1]}", file=sys.stderr)
            # Before the next is made: two of the largest do not fit.
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    measured = {
        case: _summed_up(found, case.batch if device.type == "cuda" else 1)
        for case, found in timings.items()
        if found
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Measurements(name, str(placement.dtype).removeprefix("torch."), measured, refused)


def _summed_up(timings: Sequence[Timing], batch: int) -> Measured:
    cpu = [timing.cpu_seconds for timing in timings if timing.cpu_seconds is not None]
    peaks = [timing.peak for timing in timings if timing.peak is not None]
    return Measured(
        statistics.median(timing.seconds for timing in timings),
        batch,
        len(timings),
        statistics.median(cpu) if cpu else None,
        max(peaks, default=None),
    )


def _in_turn(cases: Sequence[Case], turn: int) -> Iterator[Case]:
    return reversed(cases) if turn % 2 else iter(cases)


@torch.no_grad()
def _one(case: Case, placement: Placement) -> Timing:
    """Time a call of a network that is made for it."""
    module = random_module(case.architecture, placement)
    if placement.device.type == "cuda":
        call = make_call(case, module, placement)
        call.run()
        return _on_gpu(call, placement.device)
    # The first call of a process is slower; a small one is enough to be rid of that.
    make_call(case.smaller(), module, placement).run()
    call = make_call(case, module, placement)
    start, start_cpu = time.perf_counter(), time.process_time()
    call.run()
    return Timing(time.perf_counter() - start, time.process_time() - start_cpu)


def _on_gpu(call: Call, device: torch.device) -> Timing:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    after = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    before.record()
    call.run()
    after.record()
    torch.cuda.synchronize(device)
    return Timing(before.elapsed_time(after) / 1e3, peak=torch.cuda.max_memory_allocated(device))


def _too_large(needed: int, device: torch.device) -> str | None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available()
    return None if needed <= free else f"{needed / GIB:.1f} GiB needed, {free / GIB:.1f} free"


def _available() -> int:
    """Bytes that the machine can give, what it keeps of files for later included where it says so."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
