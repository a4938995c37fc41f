"""Threads that are kept for the next work."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from nodegraph.threads import Threads


def names() -> list[str]:
    """Of the threads of these tests that live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kept")]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_thread_does_one_work_after_another_and_two_do_two_at_once() -> None:
    threads = Threads()
    done: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    go = threading.Event()

    def work() -> None:
        go.wait(20)
        done.put((threading.current_thread().name, threading.get_ident()))

    threads.run("kept-a", work)
    threads.run("kept-a", work)
    threads.run("kept-b", work)
    go.set()
    found = {done.get(timeout=20) for _ in range(3)}
    assert sorted(name for name, _ in found) == ["kept-a", "kept-a", "kept-b"]
    for _ in range(50):
        time.sleep(0.001)
        threads.run("kept-a", work)
        found.add(done.get(timeout=20))
    # One that has not come back yet is not waited for.
    assert len(found) <= 5
    threads.close()
    assert names() == []


def test_close_waits_for_work_and_what_is_asked_later_is_done() -> None:
    threads = Threads()
    ended = []

    def work() -> None:
        time.sleep(0.05)
        ended.append(threading.current_thread().name)

    threads.run("kept-a", work)
    threads.close()
    assert ended == ["kept-a"] and names() == []
    threads.run("kept-b", work)
    until(lambda: names() == [])
    assert ended == ["kept-a", "kept-b"]


def test_a_thread_without_work_ends() -> None:
    threads = Threads(keep=0.01)
    for count in range(1, 30):
        done = threading.Event()
        threads.run("kept-a", done.set)
        assert done.wait(20), "work that comes at the moment of its end is done too"
        time.sleep(0.0095 + count * 1e-4)
    until(lambda: names() == [])
