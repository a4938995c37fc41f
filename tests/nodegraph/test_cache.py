"""The cache: budgets, exact sizes, who goes first, moves between memories, files, and the seam below."""

from __future__ import annotations

import hashlib
import threading
import weakref
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.cache import Budget, Cache, Held, TierStats
from nodegraph.cache.budget import UNKNOWN_DEVICE, host_default
from nodegraph.cache.entry import OVERHEAD, SMALL
from nodegraph.cache.store import STALE_RUNS
from nodegraph.events import TierName
from nodegraph.node import Resource, Runtime, SavedFile
from nodegraph.resources import Resources
from tests.nodegraph.toy import Blob, Memory, Pool, toy_folders

ENTRY = OVERHEAD + SMALL
"""What an entry with one blob counts as besides the blob's bytes."""


def blob(size: int, device: str = "cpu", fill: int = 0) -> Blob:
    return Blob(Memory(bytes([fill]) * size), device)


def put(cache: Cache, name: str, item: Any, seconds: float = 1.0, **more: Any) -> bool:
    return cache.put(name.encode(), (item,), {}, seconds, **more)


def held(cache: Cache, names: str) -> dict[str, TierName]:
    found = {name: cache.peek(name.encode()) for name in names}
    return {name: tier for name, tier in found.items() if tier is not None}


def used(cache: Cache, tier: TierName) -> int:
    return cache.stats().tiers[tier].bytes


def test_a_result_comes_back_as_the_same_object() -> None:
    cache = Cache(10**6, 10**6)
    item = blob(100)
    assert put(cache, "a", item, 2.5)
    found = cache.get(b"a")
    assert found is not None
    assert found.outputs[0] is item
    assert (found.tier, found.seconds) == ("host", 2.5)
    assert cache.get(b"b") is None
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (1, 1)


def test_sizes_are_exact_and_shared_memory_counts_once() -> None:
    cache = Cache(10**6, 10**6)
    item = blob(1000)
    put(cache, "a", item)
    assert used(cache, "host") == 1000 + ENTRY
    put(cache, "b", Blob(item.memory))
    put(cache, "c", (item, blob(10)))
    assert used(cache, "host") == 1000 + 10 + 3 * ENTRY + SMALL
    put(cache, "b", 1)
    put(cache, "c", 1)
    put(cache, "a", 1)
    assert used(cache, "host") == 3 * (OVERHEAD + 32)


def test_values_without_a_codec_count_as_small_and_texts_by_their_length() -> None:
    cache = Cache(10**6, 10**6)
    put(cache, "a", object())
    put(cache, "b", "x" * 10_000)
    assert used(cache, "host") == 2 * OVERHEAD + SMALL + len("x" * 10_000) + 49
    cache.put(b"c", (), {"text": ("y" * 5_000,)}, 0.0)
    assert used(cache, "host") > 15_000


def test_the_cheapest_seconds_per_byte_go_first() -> None:
    cache = Cache(3 * (10_000 + ENTRY), 10**6)
    put(cache, "s", blob(10_000), seconds=8.0)
    put(cache, "i", blob(10_000), seconds=0.05)
    put(cache, "m", blob(10_000), seconds=1.0)
    assert put(cache, "n", blob(10_000), seconds=2.0)
    assert set(held(cache, "simn")) == {"s", "m", "n"}
    assert cache.lost(b"i") == "evicted"


def test_a_small_result_outlives_a_large_one_of_the_same_cost() -> None:
    cache = Cache(20_000, 10**6)
    put(cache, "l", blob(15_000), seconds=1.0)
    put(cache, "s", blob(500), seconds=1.0)
    assert put(cache, "n", blob(15_000), seconds=5.0)
    assert set(held(cache, "lsn")) == {"s", "n"}


def test_use_keeps_a_result() -> None:
    cache = Cache(2 * (10_000 + ENTRY), 10**6)
    put(cache, "a", blob(10_000), seconds=1.0)
    put(cache, "b", blob(10_000), seconds=1.5)
    for _ in range(3):
        cache.get(b"a")
    put(cache, "c", blob(10_000), seconds=1.7)
    assert set(held(cache, "abc")) == {"a", "c"}


def test_what_is_used_no_more_ages_and_goes_in_the_end() -> None:
    cache = Cache(2 * (10_000 + ENTRY), 10**6)
    put(cache, "old", blob(10_000), seconds=30.0)
    for turn in range(200):
        put(cache, f"new{turn}", blob(10_000), seconds=1.0)
    assert cache.peek(b"old") is None


def test_a_result_that_is_not_worth_what_it_would_push_out_is_not_kept() -> None:
    cache = Cache(10_000 + ENTRY, 10**6)
    put(cache, "a", blob(10_000), seconds=10.0)
    assert not put(cache, "b", blob(10_000), seconds=0.1)
    assert not put(cache, "c", blob(50_000), seconds=1000.0)
    assert held(cache, "abc") == {"a": "host"}


def test_the_cost_of_upstream_counts_where_upstream_is_not_held() -> None:
    cache = Cache(3 * (10_000 + ENTRY), 10**6)
    put(cache, "p", blob(10_000), seconds=20.0)
    put(cache, "q", blob(10_000), seconds=0.2, parents=[b"p"])
    put(cache, "r", blob(10_000), seconds=1.0)
    # While p is held, q is cheap to make again and r is not.
    put(cache, "x", blob(10_000), seconds=2.0)
    assert set(held(cache, "pqrx")) == {"p", "r", "x"}
    cache.clear()
    put(cache, "p", blob(40_000), seconds=20.0)
    assert cache.peek(b"p") is None
    put(cache, "q", blob(10_000), seconds=0.2, parents=[b"p"])
    put(cache, "r", blob(10_000), seconds=1.0)
    put(cache, "x", blob(10_000), seconds=2.0)
    put(cache, "y", blob(10_000), seconds=2.0)
    assert set(held(cache, "qrxy")) == {"q", "x", "y"}


def test_a_device_result_moves_to_host_memory_and_back() -> None:
    cache = Cache(10**6, 10_000 + ENTRY)
    first = blob(10_000, "cuda:0", fill=7)
    put(cache, "a", first, seconds=1.0)
    assert held(cache, "a") == {"a": "device"}
    put(cache, "b", blob(10_000, "cuda:0"), seconds=2.0)
    assert held(cache, "ab") == {"a": "host", "b": "device"}
    assert used(cache, "device") == used(cache, "host") == 10_000 + ENTRY
    back = cache.get(b"a")
    assert back is not None
    assert back.tier == "host"
    assert back.outputs[0].device == "cuda:0"
    assert back.outputs[0].memory.data == first.memory.data


def test_what_comes_back_to_the_device_is_no_longer_held_twice() -> None:
    cache = Cache(10**6, 10_000 + ENTRY)
    put(cache, "a", blob(10_000, "cuda"), seconds=1.0)
    put(cache, "b", blob(10_000, "cuda"), seconds=1.1)
    for _ in range(4):
        cache.get(b"a")
    assert held(cache, "ab") == {"a": "device", "b": "host"}
    assert used(cache, "device") + used(cache, "host") == 2 * (10_000 + ENTRY)


def test_a_result_in_several_memories_is_dropped_and_never_half_moved() -> None:
    cache = Cache(10**6, 20_000)
    put(cache, "a", (blob(9_000, "cuda"), blob(9_000)), seconds=1.0)
    assert held(cache, "a") == {"a": "device"}
    put(cache, "b", blob(15_000, "cuda"), seconds=9.0)
    assert held(cache, "ab") == {"b": "device"}


def test_a_big_model_pushes_out_cheap_results_and_not_the_reverse(tmp_path: Path) -> None:
    runtime = Runtime(toy_folders(tmp_path), device="cuda", device_budget=50_000, host_budget=10**6)
    resources = Resources(runtime)
    cache = Cache.for_runtime(runtime, resources)
    pool = resources.get(Pool)
    put(cache, "a", blob(20_000, "cuda"), seconds=9.0)
    put(cache, "b", blob(20_000, "cuda"), seconds=1.0)
    assert held(cache, "ab") == {"a": "device", "b": "device"}
    pool.bytes = 25_000
    assert cache.trim() == 20_000 + ENTRY
    assert held(cache, "ab") == {"a": "device", "b": "host"}
    put(cache, "c", blob(20_000, "cuda"), seconds=100.0)
    assert pool.bytes == 25_000
    assert held(cache, "abc") == {"a": "host", "b": "host", "c": "device"}
    pool.bytes = 50_000
    cache.trim()
    assert used(cache, "device") == 0


def test_release_frees_the_bytes_asked_for() -> None:
    cache = Cache(10**6, 10**6)
    for index, name in enumerate("abcd"):
        put(cache, name, blob(10_000, "cuda"), seconds=1.0 + index)
    assert cache.release(15_000) == 2 * (10_000 + ENTRY)
    assert held(cache, "abcd") == {"a": "host", "b": "host", "c": "device", "d": "device"}


def test_pinned_results_stay_until_they_are_let_go() -> None:
    cache = Cache(10_000 + ENTRY, 10**6)
    put(cache, "a", blob(10_000), seconds=0.1, pin=True)
    assert not put(cache, "b", blob(10_000), seconds=9.0)
    assert cache.shed() == 0
    cache.unpin(b"a")
    assert put(cache, "b", blob(10_000), seconds=9.0)
    assert held(cache, "ab") == {"b": "host"}


def test_shed_drops_everything_that_nobody_holds() -> None:
    cache = Cache(10**6, 10**6)
    put(cache, "a", blob(1_000))
    put(cache, "b", blob(1_000, "cuda"))
    put(cache, "c", blob(1_000), pin=True)
    assert cache.shed() == 2 * (1_000 + ENTRY)
    assert held(cache, "abc") == {"c": "host"}


def test_clear_forgets_everything() -> None:
    cache = Cache(10**6, 10**6)
    put(cache, "a", blob(1_000))
    put(cache, "b", blob(1_000, "cuda"))
    cache.clear()
    assert held(cache, "ab") == {}
    assert used(cache, "host") == used(cache, "device") == 0


def saved(path: Path, data: bytes, *, with_hash: bool = True) -> SavedFile:
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest() if with_hash else ""
    return SavedFile(path.name, "", "output", path, len(data) if with_hash else 0, digest)


def test_an_effect_is_held_only_while_its_files_are_as_they_were(tmp_path: Path) -> None:
    cache = Cache(10**6, 10**6)
    path = tmp_path / "a.png"
    for with_hash in (True, False):
        file = saved(path, b"picture", with_hash=with_hash)
        cache.put(b"a", (), {"images": (file,)}, 1.0, effect=True)
        assert cache.peek(b"a") == "host"
        path.write_bytes(b"picture")  # the same content at another time
        assert cache.peek(b"a") == "host"
        path.write_bytes(b"PICTURE")  # the same size
        assert cache.peek(b"a") is None
        assert cache.lost(b"a") == "files_missing"
        path.write_bytes(b"picture")
        assert cache.peek(b"a") is None
        cache.put(b"a", (), {"images": (file,)}, 1.0, effect=True)
        path.write_bytes(b"longer than it was")
        assert cache.get(b"a") is None
        path.write_bytes(b"picture")
        cache.put(b"a", (), {"images": (file,)}, 1.0, effect=True)
        path.unlink()
        assert cache.get(b"a") is None
    assert not cache.put(b"a", (), {"images": (file,)}, 1.0, effect=True)


class Shelf:
    """A lower tier in a dictionary."""

    name: TierName = "disk"

    def __init__(self) -> None:
        self.found: dict[bytes, Held] = {}

    def has(self, key: bytes) -> bool:
        return key in self.found

    def load(self, key: bytes) -> Held | None:
        return self.found.get(key)

    def store(self, key: bytes, held: Held) -> bool:
        self.found[key] = held
        return True

    def discard(self, key: bytes) -> None:
        self.found.pop(key, None)

    def clear(self) -> None:
        self.found.clear()

    def stats(self) -> TierStats:
        return TierStats(len(self.found), 0, 0)


def test_what_memory_gives_up_goes_to_the_lower_tier_and_comes_back() -> None:
    shelf = Shelf()
    cache = Cache(10_000 + ENTRY, 10_000 + ENTRY, lower=shelf)
    put(cache, "a", blob(10_000, "cuda", fill=3), seconds=1.0)
    put(cache, "b", blob(10_000, "cuda"), seconds=2.0)
    put(cache, "c", blob(10_000, "cuda"), seconds=3.0)
    assert held(cache, "abc") == {"a": "disk", "b": "host", "c": "device"}
    assert shelf.found[b"a"].outputs[0].device == "cuda"
    back = cache.get(b"a")
    assert back is not None
    assert back.outputs[0].memory.data == bytes([3]) * 10_000
    assert cache.get(b"nothing") is None
    assert cache.stats().tiers["disk"].entries >= 1
    cache.clear()
    assert shelf.found == {}


def test_budgets_say_what_is_left() -> None:
    budget = Budget(100)
    assert budget.room() == 100
    budget.share(lambda: 30)
    budget.share(lambda: 80)
    assert (budget.others(), budget.room()) == (110, 0)
    budget.follow(lambda: 500)
    assert budget.room() == 390
    assert 0 < host_default() < 2**50


def test_default_budgets_follow_what_resources_know(tmp_path: Path) -> None:
    class Card(Resource):
        @classmethod
        def open(cls, runtime: Runtime) -> Resource:
            return cls()

        def capacity(self) -> int:
            return 80_000

        def held(self) -> int:
            return 1_000

    runtime = Runtime(toy_folders(tmp_path))
    resources = Resources(runtime)
    cache = Cache.for_runtime(runtime, resources)
    assert cache.device.room() == UNKNOWN_DEVICE
    resources.get(Card)
    assert cache.device.room() == 79_000


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "pin", "unpin", "view", "release", "shed"]),
        st.integers(0, 12),
        st.integers(0, 6_000),
        st.sampled_from(["cpu", "cuda"]),
        st.floats(0, 10),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_the_budgets_are_never_exceeded_and_sizes_add_up(operations: Any) -> None:
    cache = Cache(20_000, 15_000)
    made: dict[bytes, Blob] = {}
    for what, number, size, device, seconds in operations:
        key = str(number).encode()
        if what == "put":
            made[key] = blob(size, device)
            cache.put(key, (made[key],), {}, seconds, parents=[str(number - 1).encode()])
        elif what == "view" and made:
            cache.put(key, (next(iter(made.values())), 1), {}, seconds)
        elif what in ("get", "pin"):
            cache.get(key, pin=what == "pin")
        elif what == "unpin":
            cache.unpin(key)
        elif what == "release":
            cache.release(size)
        else:
            cache.shed()
        assert used(cache, "host") <= 20_000
        assert used(cache, "device") <= 15_000
    for number in range(13):
        for _ in range(61):
            cache.unpin(str(number).encode())
    cache.shed()
    assert used(cache, "host") == used(cache, "device") == 0


def test_it_may_be_used_from_many_threads() -> None:
    cache = Cache(40_000, 20_000)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(300):
                key = str((turn * seed) % 17).encode()
                cache.put(key, (blob(1_000 + turn, "cuda" if turn % 3 else "cpu"),), {}, turn % 5)
                cache.get(key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert used(cache, "host") <= 40_000
    assert used(cache, "device") <= 20_000


def end_runs(cache: Cache, count: int) -> None:
    for _ in range(count):
        cache.end_run()


def test_a_cheap_result_that_nobody_came_back_for_goes_after_some_runs() -> None:
    cache = Cache(10**9, 10**6)
    put(cache, "a", blob(10**6), 0.05)
    end_runs(cache, STALE_RUNS)
    assert held(cache, "a") == {"a": "host"}
    cache.end_run()
    assert held(cache, "a") == {}
    assert cache.lost(b"a") == "evicted"
    assert used(cache, "host") == 0


def test_a_cheap_result_that_was_used_again_stays() -> None:
    cache = Cache(10**9, 10**6)
    put(cache, "a", blob(10**6), 0.05)
    cache.get(b"a")
    end_runs(cache, 3 * STALE_RUNS)
    assert held(cache, "a") == {"a": "host"}


def test_a_result_that_takes_long_for_its_size_stays() -> None:
    cache = Cache(10**9, 10**6)
    put(cache, "a", blob(16_384), 8.0)
    put(cache, "b", blob(10**6), 0.05, parents=[b"a"])
    end_runs(cache, 3 * STALE_RUNS)
    assert held(cache, "ab") == {"a": "host"}


def test_a_result_made_anew_counts_from_then() -> None:
    cache = Cache(10**9, 10**6)
    put(cache, "a", blob(10**6), 0.05)
    end_runs(cache, STALE_RUNS // 2)
    put(cache, "a", blob(10**6), 0.05)
    end_runs(cache, STALE_RUNS)
    assert held(cache, "a") == {"a": "host"}
    cache.end_run()
    assert held(cache, "a") == {}


def test_what_went_is_not_held_in_some_corner() -> None:
    cache = Cache(10**9, 10**6)
    put(cache, "a", blob(10**6), 0.05)
    found = cache.get(b"a")
    assert found is not None
    watch = weakref.ref(found.outputs[0].memory)
    del found
    assert watch() is not None
    cache.shed()
    assert watch() is None
