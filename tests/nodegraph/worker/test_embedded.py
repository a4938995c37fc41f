"""The embedded model through a worker process, from the document to the picture."""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from nodegraph.worker.messages import Preview, Ready, Run, Stop, WorkerSettings
from nodegraph.worker.process import WorkerProcess
from nodegraph.workflow import Workflow
from tests.nodegraph.worker.talk import ROOT, done, until


async def test_the_embedded_model_draws_in_a_worker(settings: WorkerSettings) -> None:
    workflow = Workflow.load(ROOT / "workflows" / "text_to_image.json").with_values({"steps": 2, "seed": 7})
    worker = WorkerProcess(replace(settings, packs=("nodes.pack:PACK",)))
    try:
        await worker.start()
        messages = worker.messages()
        ready, _ = await until(messages, Ready, seconds=90)
        assert ready.versions["torch"]
        assert ready.devices[0]["type"] == "cpu" and ready.devices[0]["vram_total"] > 0
        await worker.send(Run("a", workflow.dumps()))
        last, events, previews = await done(messages, "a", seconds=90)
        assert last.status == "success", last.problems
        (shown,) = [item for lists in last.outputs.values() for item in lists.get("images", ())]
        assert set(shown) == {"filename", "subfolder", "type"}
        assert settings.output is not None
        with Image.open(f"{settings.output}/{shown['filename']}") as picture:
            assert picture.size == (128, 128)
        assert [event["value"] for event in events if "value" in event][-1] == 2
        for item in previews:
            assert isinstance(item, Preview) and item.mime == "image/jpeg"
            with Image.open(io.BytesIO(item.image)) as picture:
                assert (picture.format, picture.size) == ("JPEG", (128, 128))
        assert previews
        await worker.send(Stop())
        async for _ in messages:
            pass
        assert worker.reason == "it ended by itself"
    finally:
        await worker.kill()
