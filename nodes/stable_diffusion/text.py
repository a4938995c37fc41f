"""Prompts to conditionings."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from nodegraph.node import Context, Folders, Forecast, Range, Runtime, Widget, file_identity, node
from nodes import estimates
from nodes.forms import CondForm, ConditioningForm
from nodes.models.embeddings import embedding_file
from nodes.models.pool import ModelPool
from nodes.models.prompt import EMBEDDING
from nodes.values import Clip, Cond, Conditioning


def _embeddings_identity(text: str = "", folders: Folders | None = None) -> bytes:
    """The identity of the textual inversions that a prompt names, so that a changed file changes the result."""
    if folders is None or EMBEDDING not in text:
        return b""
    found = []
    for name in re.findall(rf"{EMBEDDING}([^\s:()]+)", text):
        path = embedding_file(folders, name) or embedding_file(folders, name.strip(","))
        found.append(f"{name}={file_identity(path) if path is not None else None}")
    return "\n".join(found).encode()


def _foresee(clip: object, text: object, runtime: Runtime) -> Forecast:
    if not isinstance(clip, Clip):
        return Forecast()
    arguments = dict(clip.architecture.arguments)
    form = CondForm(arguments["width"], arguments.get("projection", arguments["width"]))
    return Forecast((ConditioningForm((form,)),), estimates.text(runtime, clip, text))


@node(
    "CLIPTextEncode",
    category="conditioning",
    display_name="CLIP Text Encode (Prompt)",
    lane="device",
    identity=_embeddings_identity,
    foresee=_foresee,
)
def clip_text_encode(
    *, ctx: Context, text: Annotated[str, Widget(multiline=True)], clip: Clip
) -> Conditioning:
    """Encodes a prompt for the model to be guided by.

    `(word)` makes a word 1.1 times as strong, `(word:1.3)` 1.3 times, `\\(` and `\\)` are parentheses,
    `embedding:name` stands for a textual inversion from the embeddings folder. A prompt of any length is read in chunks
    of 75 tokens. Raises NodeError for an unknown embedding, or one made for another model.
    """
    with ctx.resource(ModelPool).text_encoder(clip) as encoder:
        context, pooled = encoder.encode(text)
    return Conditioning((Cond(context=context, pooled=pooled),))


@node("CLIPSetLastLayer", category="conditioning", display_name="CLIP Set Last Layer", ahead=True)
def clip_set_last_layer(
    *, clip: Clip, stop_at_clip_layer: Annotated[int, Range(-24, -1, step=1)] = -1
) -> Clip:
    """Takes the encoding from an earlier layer of the text encoder: -1 is the last, -2 the one before ("clip skip")."""
    return replace(clip, stop_layer=stop_at_clip_layer)
