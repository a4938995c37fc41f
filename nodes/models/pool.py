"""The ModelPool: makes modules of recipes, shares them, and gives memory back."""

from __future__ import annotations

import gc
import itertools
import math
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nodegraph.node import NodeError, Resource, Runtime
from nodes.models.autoencoder import Autoencoder
from nodes.models.devices import Placing
from nodes.models.embeddings import embedding_file, read_embedding
from nodes.models.loading import Placement, assemble, empty_module, parameter_shapes, read_tensors
from nodes.models.network import Network
from nodes.models.networks.clip_text import ClipText
from nodes.models.networks.clip_vision import ClipVision as ClipVisionModule
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.patches import PATCHES, PatchRegistry
from nodes.models.tensor_file import rest
from nodes.models.text_encoder import TextEncoder
from nodes.models.tiling import memory_shortage
from nodes.models.vision_encoder import VisionEncoder
from nodes.values import Architecture, Clip, ClipVision, Model, Patch, Vae, Weights


@dataclass(frozen=True, slots=True)
class _Key:
    """Which tensors, where, in which precision, changed by which weight patches."""

    weights: Weights
    architecture: Architecture
    placement: Placement
    patches: tuple[Patch, ...] = ()


@dataclass(eq=False)
class _Entry:
    """A module in the pool and who uses it."""

    module: nn.Module
    tensors: dict[str, Tensor]
    maps: tuple[mmap.mmap, ...] = ()
    used: int = 0
    pins: int = 0


class ModelPool(Resource):
    """The session's modules. Thread-safe; a module that is in use is never evicted."""

    def __init__(self, runtime: Runtime, patches: PatchRegistry = PATCHES) -> None:
        self.runtime = runtime
        self.placing = Placing(runtime)
        self.device, self.dtype, self.budget = self.placing.device, self.placing.dtype, self.placing.budget
        self._patches = patches
        self._entries: dict[_Key, _Entry] = {}
        self._loading: dict[_Key, threading.Lock] = {}
        self._lock = threading.RLock()
        self._clock = itertools.count(1)

    @classmethod
    def open(cls, runtime: Runtime) -> ModelPool:
        """Make an empty pool for the session. Raises NodeError for a device or dtype that is not there."""
        return cls(runtime)

    @contextmanager
    def network(self, model: Model, works: Callable[[], int] | None = None) -> Iterator[Network]:
        """Give the model's network for as long as the block runs. Raises NodeError where it cannot be loaded.

        `works` says how many bytes its calls will take: room is made for them where it may be short.
        """
        placement, compute = self.placing.network(model)
        key = _Key(model.weights, model.architecture, placement, _of_weights(model.patches))
        with self._pinned(key) as module:
            if works is not None and self._may_be_short():
                self.room(works())
            yield Network(cast(DenoisingModule, module), model, self.device, compute, self._patches)

    @contextmanager
    def text_encoder(self, clip: Clip) -> Iterator[TextEncoder]:
        """Give the text encoder for as long as the block runs. Raises NodeError where it cannot be loaded."""
        key = _Key(clip.weights, clip.architecture, self.placing.as_stored(clip), _of_weights(clip.patches))
        # Used once in a while: its pages need not stay resident while samplers run.
        with self._pinned(key, resting=True) as module:
            yield TextEncoder(cast(ClipText, module), clip, self.device, self._embedding)

    @contextmanager
    def clip_vision(self, recipe: ClipVision) -> Iterator[VisionEncoder]:
        """Give the vision encoder for as long as the block runs. Raises NodeError where it cannot be loaded."""
        placement = self.placing.as_stored(recipe)
        key = _Key(recipe.weights, recipe.architecture, placement)
        with self._pinned(key, resting=True) as module:
            yield VisionEncoder(cast(ClipVisionModule, module), self.device)

    @contextmanager
    def vae(self, vae: Vae) -> Iterator[Autoencoder]:
        """Give the autoencoder for as long as the block runs. Raises NodeError where it cannot be loaded."""
        placement, dtype = self.placing.vae(vae)
        key = _Key(vae.weights, vae.architecture, placement)
        with self._pinned(key, resting=True) as module:
            yield Autoencoder(module, vae, self.device, dtype, self.room)

    def room(self, wanted: int) -> int:
        """Make room for `wanted` bytes of computing by evicting modules that are not in use.

        Returns the bytes of the budget that are free then, which may be fewer.
        """
        over = self.held() + wanted - self.budget
        if over > 0:
            self.release(over)
        return max(0, self.budget - self.held())

    def holds(self) -> tuple[Weights, ...]:
        """Return whose modules it holds, the least recently used first."""
        with self._lock:
            return tuple(
                key.weights for key in sorted(self._entries, key=lambda key: self._entries[key].used)
            )

    def _may_be_short(self) -> bool:
        """Whether to count what a call takes: something could be evicted, and half of the budget is in use."""
        with self._lock:
            idle = any(not entry.pins for entry in self._entries.values())
        return idle and self.held() * 2 > self.budget

    def held(self) -> int:
        """Return the bytes of all modules; tensors that modules share count once."""
        with self._lock:
            return _bytes(itertools.chain.from_iterable(e.tensors.values() for e in self._entries.values()))

    def release(self, wanted: int) -> int:
        """Evict modules that are not in use, least recently used first, until `wanted` bytes are free.

        Returns the bytes given back.
        """
        with self._lock:
            before = self.held()
            for key in sorted(self._entries, key=lambda key: self._entries[key].used):
                if before - self.held() >= wanted:
                    break
                if not self._entries[key].pins:
                    del self._entries[key]
            freed = before - self.held()
        if freed:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return freed

    def _embedding(self, name: str, width: int) -> Tensor | None:
        path = embedding_file(self.runtime.folders, name)
        return None if path is None else read_embedding(path, width)

    @contextmanager
    def _pinned(self, key: _Key, resting: bool = False) -> Iterator[nn.Module]:
        entry = self._acquire(key)
        try:
            yield entry.module
        finally:
            with self._lock:
                entry.pins -= 1
                if resting and not entry.pins:
                    rest(entry.maps)

    def _acquire(self, key: _Key) -> _Entry:
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        # Two threads that want the same module wait for one load; others go on.
        with loading:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None:
                    return self._use(entry)
            entry = self._make(key)
            with self._lock:
                self._entries[key] = entry
                self._use(entry)
        over = self.held() - self.budget
        if over > 0:
            self.release(over)
        return entry

    def _use(self, entry: _Entry) -> _Entry:
        entry.pins += 1
        entry.used = next(self._clock)
        return entry

    def _make(self, key: _Key) -> _Entry:
        """Load with room made beforehand; where memory runs out, give back everything unused and try once more."""
        needed = _needed(key)
        over = self.held() + needed - self.budget
        if over > 0:
            self.release(over)
        try:
            return self._load(key)
        except Exception as error:
            if not memory_shortage(error):
                raise
        self.release(self.held())
        try:
            return self._load(key)
        except Exception as error:
            if not memory_shortage(error):
                raise
            raise NodeError(
                f"there is not enough memory on {self.device} for {', '.join(p.name for p in key.weights.paths)}.",
                code="out_of_memory",
                found=f"{needed / 1e9:.1f} GB needed",
                hint="Choose a smaller dtype (bf16 or fp16), or another device.",
            ) from error

    def _load(self, key: _Key) -> _Entry:
        if not key.patches:
            loaded = read_tensors(key.weights, empty_module(key.architecture), key.placement)
            return _Entry(assemble(key.architecture, loaded.tensors), loaded.tensors, loaded.maps)
        base = self._acquire(_Key(key.weights, key.architecture, key.placement))
        try:
            tensors = self._patched(key.architecture, base.tensors, key.patches)
        finally:
            with self._lock:
                base.pins -= 1
        return _Entry(assemble(key.architecture, tensors), tensors)

    def _patched(
        self, architecture: Architecture, base: Mapping[str, Tensor], patches: tuple[Patch, ...]
    ) -> dict[str, Tensor]:
        """The base's tensors, the very same where no patch changes them."""
        tensors = dict(base)
        shapes = parameter_shapes(architecture)
        found = [self._patches.weight(patch).changes(patch, architecture, shapes) for patch in patches]
        for name, tensor in base.items():
            ours = [changes[name] for changes in found if name in changes]
            if not ours:
                continue
            # In float32 from the stored values, rounded once at the end.
            changed = tensor.float()
            for change in ours:
                changed = change(changed)
            tensors[name] = changed.to(tensor.dtype)
        return tensors


def _of_weights(patches: Iterable[Patch]) -> tuple[Patch, ...]:
    return tuple(patch for patch in patches if patch.kind == "weights")


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors themselves: those mapped from one file share one storage, the whole file."""
    unique = {
        (tensor.device, tensor.data_ptr()): tensor.numel() * tensor.element_size() for tensor in tensors
    }
    return sum(unique.values())


def _needed(key: _Key) -> int:
    """Bytes that loading will take, as far as the architecture tells (patched tensors not counted)."""
    if key.patches:
        return 0
    size = 2 if key.placement.dtype is None else key.placement.dtype.itemsize
    return size * sum(math.prod(shape) for shape in parameter_shapes(key.architecture).values())
