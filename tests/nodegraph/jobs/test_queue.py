"""What people do to the queue: order, pause, cancel, move, delete, clear; what is refused; what is kept."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from nodegraph.errors import Problem
from nodegraph.jobs import FINAL, Ending, Job, JobError, JobRequest, JobStatus, JobStore, Retention

GONE = Problem("worker_died", "The worker was killed by signal 9.")


def request(name: str, priority: float | None = None, *, front: bool = False) -> JobRequest:
    return JobRequest(document="{}", id=name, priority=priority, front=front)


async def waiting(store: JobStore) -> str:
    """Names of what waits, in the order of claims."""
    return "".join(job.id for job in (await store.queue()).queued)


async def drain(store: JobStore) -> str:
    """Names in the order in which they are handed out."""
    return "".join(job.id for job in await store.claim_many("w", 100))


async def test_lower_priorities_go_first_and_equal_ones_as_they_came(store: JobStore) -> None:
    await store.submit(
        request("d", 2), request("b", -1), request("e", 2), request("c", 0.5), request("a", -7)
    )
    assert await waiting(store) == "abcde"
    assert await drain(store) == "abcde"


async def test_the_front_is_ahead_of_everything_that_waits(store: JobStore) -> None:
    await store.submit(request("e", -1000), request("f"), request("d", front=True), request("c", front=True))
    await store.submit(request("b", front=True))
    assert await waiting(store) == "bcdef"
    moved = await store.move("f", front=True)
    assert await waiting(store) == "fbcde"
    await store.submit(request("a", front=True))
    assert await waiting(store) == "afbcde"
    await store.move("a", number=moved.number + 0.5)
    assert await waiting(store) == "fabcde"


async def test_numbers_are_not_given_again(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    first, second = await store.submit(request("a"), request("b"))
    await store.delete("a", "b")
    await store.close()
    store = await JobStore.open(tmp_path / "jobs.db")
    (third,) = await store.submit(request("c"))
    assert first.number < second.number < third.number
    await store.close()


async def test_only_what_waits_is_moved(store: JobStore) -> None:
    await store.submit(request("a"))
    await store.claim("w")
    with pytest.raises(JobError) as caught:
        await store.move("a", front=True)
    assert caught.value.code == "not_queued"
    with pytest.raises(JobError) as caught:
        await store.move("nobody", number=1)
    assert caught.value.code == "unknown_job"
    with pytest.raises(JobError):
        await store.move("a", number=float("nan"))


async def test_a_paused_queue_hands_out_nothing_and_stays_paused(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    await store.submit(request("a"))
    await store.pause()
    assert await store.claim("w") is None
    await store.close()

    store = await JobStore.open(tmp_path / "jobs.db")
    assert store.paused
    assert await store.claim("w") is None
    version = store.changed.version
    await store.resume()
    assert not store.paused
    assert store.changed.version != version
    assert await drain(store) == "a"
    await store.close()


async def test_cancelling_is_idempotent_and_ends_what_waits_at_once(store: JobStore) -> None:
    await store.submit(request("a"), request("b"))
    assert await store.cancel("nobody") is None
    cancelled = await store.cancel("b")
    assert cancelled is not None
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.finished is not None
    assert await store.cancel("b") == cancelled
    assert await drain(store) == "a"


async def test_a_running_job_is_marked_and_its_end_decides(store: JobStore) -> None:
    await store.submit(request("a"), request("b"), request("c"))
    await store.claim_many("w", 3)
    marked = await store.cancel("a")
    assert marked is not None
    assert (marked.status, marked.cancelling) == (JobStatus.RUNNING, True)
    assert await store.cancel("a") == marked
    await store.finish("a", JobStatus.CANCELLED)
    ended = await store.get("a")
    assert ended is not None
    assert (ended.status, ended.cancelling) == (JobStatus.CANCELLED, False)
    # Its last step was done before the word came.
    await store.cancel("b")
    await store.finish("b", JobStatus.FINISHED, outputs="{}")
    assert (await store.counts())[JobStatus.FINISHED] == 1
    # Its worker died: it is not run again only to be cancelled.
    await store.cancel("c")
    assert (await store.requeue("c", GONE)).status is JobStatus.CANCELLED


async def test_cancelling_the_queue_leaves_what_runs(store: JobStore) -> None:
    await store.submit(*(request(f"{i}") for i in range(1203)))
    assert await store.claim_many("w", -1) == ()
    await store.claim_many("w", 2)
    assert await store.cancel_queued() == 1201
    counts = await store.counts()
    assert (counts[JobStatus.RUNNING], counts[JobStatus.CANCELLED], counts[JobStatus.QUEUED]) == (2, 1201, 0)
    assert await store.cancel_queued() == 0


async def test_deleting_forgets_all_but_what_runs(store: JobStore) -> None:
    await store.submit(*(request(name) for name in "abcd"))
    await store.claim_many("w", 2)
    await store.finish("a", JobStatus.FINISHED, outputs="{}")
    assert await store.delete("c", statuses=FINAL) == 0
    assert await store.delete("a", statuses={JobStatus.QUEUED}) == 0
    assert await store.delete("a", "b", "c", "nobody") == 2
    assert [await store.get(name) is None for name in "abcd"] == [True, False, True, False]
    # Its id is free again, and nothing of the old job comes with it.
    (again,) = await store.submit(request("a"))
    assert await store.get("a") == again


async def test_clearing_the_history_leaves_the_queue(store: JobStore) -> None:
    await store.submit(*(request(f"{i}") for i in range(620)))
    claimed = await store.claim_many("w", 610)
    await asyncio.gather(*(store.finish(job.id, JobStatus.FAILED) for job in claimed[:605]))
    assert await store.clear_history() == 605
    assert (await store.history()).total == 0
    counts = await store.counts()
    assert (counts[JobStatus.RUNNING], counts[JobStatus.QUEUED]) == (5, 10)


async def test_the_history_is_kept_by_count_and_by_age(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db", keep=Retention(age=None, count=3))
    await store.submit(*(request(name) for name in "abcdef"))
    for job in await store.claim_many("w", 5):
        await store.finish(job.id, JobStatus.FINISHED)
    assert await store.prune() == 2
    assert [job.id for job in (await store.history(newest_first=False)).jobs] == ["c", "d", "e"]
    assert await waiting(store) == "f"
    store.keep = Retention(age=0.2, count=None)
    await asyncio.sleep(0.25)
    await drain(store)
    await store.finish("f", JobStatus.FINISHED)
    assert await store.prune() == 3
    assert [job.id for job in (await store.history()).jobs] == ["f"]
    await store.close()


async def test_one_key_is_one_job(store: JobStore) -> None:
    keyed = JobRequest(document="{}", idempotency_key="k")
    answers = await asyncio.gather(*(store.submit(keyed) for _ in range(20)))
    assert len({job.id for (job,) in answers}) == 1
    assert (await store.counts())[JobStatus.QUEUED] == 1
    first, second, other = await store.submit(keyed, keyed, JobRequest(document="{}", idempotency_key="l"))
    assert first == second == answers[0][0]
    assert other.id != first.id
    # The same request sent again, id and all, is no duplicate.
    named = JobRequest(document="{}", id="n", idempotency_key="m")
    assert await store.submit(named) == await store.submit(named)
    await store.claim_many("w", 10)
    await store.finish("n", JobStatus.FINISHED, outputs='{"9": {}}')
    (done,) = await store.submit(named)
    assert (done.status, done.outputs) == (JobStatus.FINISHED, '{"9": {}}')


async def test_a_taken_id_refuses_the_whole_request_and_no_other(store: JobStore) -> None:
    await store.submit(request("a"))

    async def code(*requests: JobRequest) -> str:
        try:
            await store.submit(*requests)
        except JobError as error:
            return error.code
        return "stored"

    keyed = dataclasses.replace(request("k"), idempotency_key="k")
    codes = await asyncio.gather(
        code(request("b"), request("a")),
        code(request("c")),
        code(keyed, request("c")),
        code(request("d"), request("d")),
        code(request("b"), keyed),
    )
    assert tuple(codes) == ("duplicate_id", "stored", "duplicate_id", "duplicate_id", "stored")
    assert await waiting(store) == "acbk"


async def test_what_cannot_be_stored_is_refused_with_every_reason(store: JobStore) -> None:
    bad = JobRequest(
        document='"\ud800"',
        id="",
        priority=float("nan"),
        timeout=0,
        max_attempts=0,
        client_id="\udfff",
    )
    with pytest.raises(JobError) as caught:
        await store.submit(request("a"), bad)
    assert {problem.code for problem in caught.value.problems} == {"invalid_job"}
    inputs = {problem.input for problem in caught.value.problems}
    assert inputs == {"document", "id", "priority", "timeout", "max_attempts", "client_id"}
    with pytest.raises(JobError):
        await store.submit(request("b", 10**400))
    assert await waiting(store) == ""


async def test_any_text_comes_back(store: JobStore) -> None:
    text = "\0 \x1f ' \" \\ ; -- 日本 \U0001f600"
    await store.submit(JobRequest(document=text, id=text, client_id=text, targets=(text,), webhook=text))
    await store.claim("w")
    await store.finish(text, JobStatus.FINISHED, outputs=text, meta=text, messages=text, problems=text)
    job = await store.get(text)
    assert job is not None
    assert {job.document, job.id, job.client_id, *job.targets, job.webhook, job.outputs, job.problems} == {
        text
    }


async def test_pages_say_how_many_there_are(store: JobStore) -> None:
    await store.submit(*(request(name) for name in "abcdefgh"))
    for job in await store.claim_many("w", 4):
        await store.finish(job.id, JobStatus.FAILED if job.id == "b" else JobStatus.FINISHED)
    await store.claim("w")
    running, queued, total = await store.queue(2, 1)
    assert ([job.id for job in running], [job.id for job in queued], total) == (["e"], ["g", "h"], 3)
    assert [job.id for job in (await store.history(2, 1)).jobs] == ["c", "b"]
    assert [job.id for job in (await store.history(2, 1, newest_first=False)).jobs] == ["b", "c"]
    assert (await store.history(0)) == ((), 4)
    page = await store.jobs({JobStatus.FINISHED, JobStatus.QUEUED}, 3, 2)
    assert ([job.id for job in page.jobs], page.total) == (["f", "d", "c"], 6)
    page = await store.jobs([JobStatus.FAILED, JobStatus.FAILED, JobStatus.RUNNING], newest_first=False)
    assert ([job.id for job in page.jobs], page.total) == (["b", "e"], 2)
    assert await store.jobs([]) == ((), 0)
    assert len((await store.jobs()).jobs) == 8
    assert [job.id for job in (await store.jobs(limit=10**30, offset=6)).jobs] == ["b", "a"]
    assert (await store.queue(-5, -5)).queued == ()
    assert (await store.history(10**30, 10**30)).jobs == ()


async def test_a_worker_that_was_given_up_cannot_end_the_next_attempt(store: JobStore) -> None:
    await store.submit(request("a"))
    first = await store.claim("w1")
    assert first is not None
    await store.requeue("a", GONE)
    with pytest.raises(JobError) as caught:
        await store.finish("a", JobStatus.FINISHED, attempt=first.attempts)
    assert caught.value.code == "not_running"
    second = await store.claim("w2")
    assert second is not None
    with pytest.raises(JobError) as caught:
        await store.finish("a", JobStatus.FAILED, attempt=first.attempts)
    assert caught.value.code == "stale_attempt"
    await store.finish("a", JobStatus.FINISHED, attempt=second.attempts)
    for call in (store.finish("a", JobStatus.FINISHED), store.requeue("a", GONE)):
        with pytest.raises(JobError):
            await call
    with pytest.raises(JobError) as caught:
        await store.finish("nobody", JobStatus.FINISHED)
    assert caught.value.code == "unknown_job"
    with pytest.raises(ValueError, match="running"):
        await store.finish("a", JobStatus.RUNNING)


async def test_of_two_ends_at_the_same_time_one_counts(store: JobStore) -> None:
    await store.submit(request("a"))
    await store.claim("w")
    ends = (store.finish("a", status, outputs=status) for status in (JobStatus.FINISHED, JobStatus.FAILED))
    results = await asyncio.gather(*ends, return_exceptions=True)
    assert [isinstance(result, JobError) for result in results] == [False, True]
    job = await store.get("a")
    assert job is not None
    assert job.outputs == "finished"


async def test_many_ends_at_once_are_refused_one_by_one(store: JobStore) -> None:
    await store.submit(*map(request, "abcd"))
    await store.claim_many("w", 3)
    ends = [Ending(id, JobStatus.FINISHED, outputs=id) for id in "abad?c"]
    refused = await store.finish_many(*ends)
    codes = [error and error.code for error in refused]
    assert codes == [None, None, "already_finished", "not_running", "unknown_job", None]
    jobs = [await store.get(id) for id in "abcd"]
    assert [job and job.outputs for job in jobs] == ["a", "b", "c", None]
    assert await store.finish_many() == ()
    with pytest.raises(ValueError, match="queued"):
        await store.finish_many(Ending("d", JobStatus.QUEUED))


async def test_a_job_that_was_not_begun_is_given_back_whole(store: JobStore) -> None:
    await store.submit(request("a"), request("b"))
    before = await store.get("a")
    job = await store.claim("w")
    assert job is not None
    await store.release(job)
    assert await store.get("a") == before
    again = await store.claim("w")
    assert again is not None
    await store.finish("a", JobStatus.FINISHED)
    await store.release(again)
    assert await waiting(store) == "b"


async def test_a_claimer_that_is_cancelled_keeps_no_job(store: JobStore) -> None:
    await store.submit(*(request(f"{i}") for i in range(30)))
    answered = set()
    for turn in range(20):
        task = asyncio.create_task(store.claim("w"))
        # From before the writer sees it to after the commit.
        await asyncio.sleep(turn * 0.0005)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Job):
            answered.add(result.id)
    assert len(answered) < 20
    version = store.changed.version
    while len((page := await store.queue()).running) != len(answered):
        version = await asyncio.wait_for(store.changed.wait(version), 10)
    assert {job.id for job in page.running} == answered
    assert all(job.attempts == 0 for job in page.queued)
    assert len(page.running) + page.total == 30
