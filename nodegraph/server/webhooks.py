"""Webhooks: whoever asked for it is told that a job has ended, signed, again until it is taken, and through restarts.

The form is that of Standard Webhooks (https://www.standardwebhooks.com): `webhook-id`, the same at every attempt;
`webhook-timestamp`, Unix seconds; `webhook-signature`, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from yarl import URL

from nodegraph.jobs import Delivery, Job, JobError, JobStore
from nodegraph.server.answers import Refused, dumps
from nodegraph.server.outgoing import Outgoing
from nodegraph.server.state import State

LOG = logging.getLogger("nodegraph.server")
SECONDS = 15.0
"""How long an attempt may take."""
AT_ONCE = 16
AT_ONCE_A_HOST = 4
"""Attempts under way, so that a receiver that never answers does not keep the others waiting."""
_GONE = 410
"""The receiver wants no more of it."""
_LOOK = 0.1
"""Seconds between two looks for what is due: the store changes far more often."""
_LONGEST = 60.0


def admit_webhook(state: State, url: str) -> str:
    """The address, where webhooks may go there. Raises Refused."""
    if state.config.webhook_secret is None:
        text = "this server sends no webhooks: it has no secret to sign them with."
        raise Refused(400, "no_webhooks", text, input="webhook", hint="Start it with --webhook-secret-file.")
    return str(state.outgoing.admit_url(url))


def signature(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


class Webhooks:
    """Delivers what a job store has to tell; `result` is what is told of a job."""

    def __init__(
        self,
        store: JobStore,
        outgoing: Outgoing,
        secret: bytes,
        delays: Sequence[float],
        result: Callable[[Job], Mapping[str, Any]],
    ) -> None:
        self._store = store
        self._outgoing = outgoing
        self._secret = secret
        self._delays = delays
        self._result = result
        self._busy: dict[str, str] = {}
        """Hosts of the attempts under way, by the delivery's id."""

    async def run(self) -> None:
        """Deliver until cancelled. What is under way then is tried again after the next start."""
        async with asyncio.TaskGroup() as group:
            while True:
                seen = self._store.changed.version
                try:
                    later = await self._begin(group)
                except JobError as error:
                    LOG.warning("webhooks cannot be read: %s", error)
                    later = None
                wait = _LONGEST if later is None else later - time.time()
                try:
                    async with asyncio.timeout(min(max(wait, 0), _LONGEST)):
                        await self._store.changed.wait(seen)
                except TimeoutError:
                    pass
                await asyncio.sleep(_LOOK)

    async def _begin(self, group: asyncio.TaskGroup) -> float | None:
        """Begin the attempts that are due; when the next is."""
        due, later = await self._store.deliveries.due(time.time(), 4 * AT_ONCE)
        hosts = Counter(self._busy.values())
        for item in due:
            host = URL(item.url).host or ""
            if item.id in self._busy or len(self._busy) >= AT_ONCE or hosts[host] >= AT_ONCE_A_HOST:
                continue
            hosts[host] += 1
            self._busy[item.id] = host
            group.create_task(self._deliver(item, host))
        return later

    async def _deliver(self, item: Delivery, host: str) -> None:
        try:
            problem, final = await self._attempt(item)
            again = None
            if problem is not None and not final and item.attempts < len(self._delays):
                # Not all at the same moment to a receiver that was away.
                again = time.time() + self._delays[item.attempts] * random.uniform(0.9, 1.1)
            await self._store.deliveries.attempted(item.id, problem=problem, again=again)
            if problem is not None:
                text = "given up" if again is None else "tried again later"
                LOG.warning("the webhook of job %s to %s is %s: %s", item.job, host, text, problem)
        except JobError as error:
            # The attempt is not noted, so it will be made once more.
            LOG.warning("the webhook of job %s cannot be noted: %s", item.job, error)
        finally:
            del self._busy[item.id]

    async def _attempt(self, item: Delivery) -> tuple[str | None, bool]:
        """(why it was not taken, whether there is no use in trying again)."""
        try:
            body = (item.body if item.body is not None else await self._written(item)).encode()
            stamp = int(time.time())
            headers = {
                "Content-Type": "application/json",
                "webhook-id": item.id,
                "webhook-timestamp": str(stamp),
                "webhook-signature": signature(self._secret, item.id, stamp, body),
            }
            status = await self._outgoing.post(item.url, body, headers, SECONDS)
        except Refused as error:
            return error.problems[0].message, False
        except JobError:
            raise
        except Exception:  # one delivery's fault must not end those of the others
            LOG.exception("the webhook of job %s failed", item.job)
            return "the server failed; its log says why.", False
        if 200 <= status < 300:
            return None, True
        return f"it was answered with HTTP status {status}.", status == _GONE

    async def _written(self, item: Delivery) -> str:
        """What is sent, kept before the first attempt so that every further one sends the same."""
        job = await self._store.get(item.job)
        # Of a job that was forgotten since, only its end is known.
        data = await asyncio.to_thread(self._result, job) if job is not None else {"id": item.job}
        ended = job.finished if job is not None and job.finished is not None else time.time()
        kind = {"finished": "completed"}.get(item.status.value, item.status.value)
        body = dumps(
            {
                "type": f"job.{kind}",
                "timestamp": datetime.fromtimestamp(ended, UTC).isoformat(timespec="milliseconds"),
                "data": {"status": kind, **data},
            }
        ).decode()
        await self._store.deliveries.write(item.id, body)
        return body


def shown(delivery: Delivery | None) -> dict[str, Any]:
    """How a job's webhook stands: `waiting` for its end, `pending`, `delivered`, or `failed`."""
    if delivery is None:
        return {"state": "waiting", "attempts": 0}
    state = "delivered" if delivery.delivered else "failed" if delivery.due is None else "pending"
    found: dict[str, Any] = {"state": state, "attempts": delivery.attempts}
    return {**found, "problem": delivery.problem} if delivery.problem is not None else found
