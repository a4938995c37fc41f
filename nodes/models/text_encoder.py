"""Encodes prompts: tokens in chunks of 77, prompt weights, textual inversions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.models.networks.clip_text import ClipText
from nodes.models.prompt import EMBEDDING, Chunk, Token, chunks, parse_weights, split_embeddings
from nodes.models.tokenizer import END, START, tokenizer
from nodes.values import Clip

LENGTH = 77
MOST_CHUNKS = 64
"""Longer prompts are refused: each chunk costs as much as a whole short prompt."""
_BATCH = 8

FindEmbedding = Callable[[str, int], "Tensor | None"]
"""(name, width) -> the vectors (n, width) of a textual inversion, or None where there is no such file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a family reads its text encoder: what shorter prompts are filled up with, and what becomes of that."""

    pad: int = END
    masked: bool = False
    """Whether what follows a prompt's end is hidden from attention."""
    normed: bool = True
    """Whether the context passes the final norm."""


READINGS: Mapping[str, Reading] = {
    "sd1": Reading(),
    "sd2": Reading(pad=0),
    "wuerstchen": Reading(masked=True),
    "cascade": Reading(masked=True, normed=False),
}
"""By the family of the text encoder."""


class TextEncoder:
    """A text encoder on its device with its recipe's options. Computes in float32."""

    def __init__(self, module: ClipText, clip: Clip, device: torch.device, find: FindEmbedding) -> None:
        self.module = module
        self.clip = clip
        self.device = device
        self._find = find
        self._reading = READINGS[clip.family]
        self._pad = self._reading.pad if clip.pad_token is None else clip.pad_token

    def tokenize(self, text: str) -> list[Chunk]:
        """Return the prompt in chunks of 77 tokens with a weight each.

        Raises NodeError for an unknown or unfit textual inversion and for a prompt of more than 64 chunks.
        """
        groups: list[tuple[Sequence[Token], float]] = []
        for segment in parse_weights(text):
            for piece in split_embeddings(segment.text):
                rest = piece
                if piece.startswith(EMBEDDING):
                    vectors, rest = self._embedding(piece[len(EMBEDDING) :])
                    groups.append((list(vectors), segment.weight))
                if rest:
                    groups.append((tokenizer().encode(rest), segment.weight))
        found = chunks(groups, LENGTH, START, END, self._pad)
        if len(found) > MOST_CHUNKS:
            count = sum(len(group) for group, _ in groups)
            raise NodeError(
                f"the prompt is too long: {count} tokens.",
                input="text",
                allowed=f"at most {MOST_CHUNKS * (LENGTH - 2)} tokens ({MOST_CHUNKS} chunks of {LENGTH - 2})",
                code="prompt_too_long",
            )
        return found

    def encode(self, text: str) -> tuple[Tensor, Tensor]:
        """Return the context (1, 77 * chunks, width) and the pooled state (1, width) of a prompt.

        Both are float32 on the CPU; the pooled state is the first chunk's. A token's weight moves its encoding away
        from, or towards, that of the empty prompt at the same position. Raises NodeError as `tokenize` does.
        """
        return self.encode_chunks(self.tokenize(text))

    @torch.no_grad()
    def encode_chunks(self, parts: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
        """Return context and pooled state of chunks, as `encode` does."""
        weights = torch.tensor([part.weights for part in parts], dtype=torch.float32)
        weighted = bool((weights != 1.0).any())
        empty = Chunk((START, END, *[self._pad] * (LENGTH - 2)), (1.0,) * LENGTH)
        batch = [*parts, empty] if weighted else list(parts)
        encoded = [self._run(batch[first : first + _BATCH]) for first in range(0, len(batch), _BATCH)]
        hidden = torch.cat([one for one, _ in encoded])
        if weighted:
            base, hidden = hidden[-1:], hidden[:-1]
            factor = weights[:, :, None]
            hidden = torch.where(factor == 1.0, hidden, (hidden - base) * factor + base)
        return hidden.reshape(1, -1, hidden.shape[-1]), encoded[0][1][:1]

    def _run(self, parts: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
        ids = [[token if isinstance(token, int) else END for token in part.tokens] for part in parts]
        embedded = self.module.embed(torch.tensor(ids, device=self.device))
        for row, part in enumerate(parts):
            for column, token in enumerate(part.tokens):
                if isinstance(token, Tensor):
                    embedded[row, column] = token.to(embedded)
        ends = [next(i for i, token in enumerate(part.tokens) if _is_end(token)) for part in parts]
        hidden, pooled = self.module(
            embedded,
            torch.tensor(ends, device=self.device),
            self._after(),
            masked=self._reading.masked,
            normed=self._reading.normed,
        )
        return hidden.cpu(), pooled.cpu()

    def _after(self) -> int:
        """After which layer the context is taken."""
        layers: int = self.clip.architecture["layers"]
        stop = self.clip.stop_layer
        if self.clip.family == "sd2":
            # 2.x reads the last but one of 24 layers; files that leave out the last one have 23.
            total = max(layers, 24) if layers in (23, 24) else layers
            stop = -2 if stop is None else stop
        else:
            total, stop = layers, -1 if stop is None else stop
        return min(total + 1 + stop, layers) if -stop <= total else layers

    def _embedding(self, text: str) -> tuple[Tensor, str]:
        """The vectors that the text after `embedding:` names, and the text that follows the name."""
        name, *words = text.strip("\n").split() or [""]
        rest = " ".join(words)
        width: int = self.clip.architecture["width"]
        found = self._find(name, width) if name else None
        bare = name.strip(",")
        if found is None and bare and bare != name:
            found = self._find(bare, width)
            rest = f"{name[len(bare) :]} {rest}"
        if found is None:
            raise NodeError(
                f"there is no embedding called {name!r}.",
                input="text",
                code="value_not_in_list",
                hint=f"Put {bare}.safetensors into the embeddings folder, or take it out of the prompt.",
            )
        if found.shape[-1] != width:
            raise NodeError(
                f"the embedding {bare!r} was made for another model.",
                input="text",
                found=f"vectors {found.shape[-1]} numbers wide",
                allowed=f"{width} for this text encoder ({self.clip.family})",
            )
        return found.reshape(-1, width), rest


def _is_end(token: Token) -> bool:
    return isinstance(token, int) and token == END
