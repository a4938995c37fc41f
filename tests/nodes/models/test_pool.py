"""The ModelPool: sharing, eviction, precision, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph.node import Folders, NodeError, Runtime
from nodes.models.devices import network_dtype, resolve_device
from nodes.models.patches import PatchRegistry
from nodes.models.pool import ModelPool
from nodes.models.tensor_file import read_header
from nodes.stable_diffusion.loaders import Checkpoint, load_checkpoint
from nodes.values import Architecture, Model, Patch


@pytest.fixture
def recipes(first: Any) -> Checkpoint:
    return load_checkpoint(first.file)


class Scale:
    """A weight patch that multiplies the output convolution."""

    def changes(
        self, patch: Patch, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        by = dict(patch.parameters)["by"]
        assert isinstance(by, float)
        return {"out.2.weight": lambda tensor: tensor * by}


def scaled(model: Model, by: float) -> Model:
    return model.patched(Patch("weights", "scale", parameters=(("by", by),)))


@pytest.fixture
def patching(folders: Folders) -> ModelPool:
    return ModelPool(Runtime(folders, dtype="fp32"), PatchRegistry(weights={"scale": Scale()}, calls={}))


def test_a_module_is_made_once(pool: ModelPool, recipes: Checkpoint) -> None:
    with pool.network(recipes.MODEL) as one, pool.network(recipes.MODEL) as other:
        assert one.module is other.module
    with pool.network(recipes.MODEL) as again:
        assert again.module is one.module


def test_threads_that_want_one_module_load_it_once(pool: ModelPool, recipes: Checkpoint) -> None:
    barrier = threading.Barrier(4)

    def use(_: int) -> int:
        barrier.wait()
        with pool.network(recipes.MODEL) as network:
            return id(network.module)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(use, range(4)))) == 1


def test_tensors_that_need_no_change_stay_mapped(pool: ModelPool, recipes: Checkpoint) -> None:
    places = read_header(recipes.MODEL.weights.paths[0]).tensors
    with pool.network(recipes.MODEL) as network:
        found = network.module.state_dict()
    prefix = recipes.MODEL.weights.prefix
    # They lie in memory as they lie in the file: one map of it.
    assert len({tensor.data_ptr() - places[prefix + name].start for name, tensor in found.items()}) == 1


def test_held_is_the_parameters_bytes(pool: ModelPool, recipes: Checkpoint) -> None:
    assert pool.held() == 0
    with pool.network(recipes.MODEL) as network:
        wanted = sum(t.numel() * 4 for t in network.module.state_dict().values())
    assert pool.held() == wanted


def test_a_patched_model_shares_all_other_tensors(patching: ModelPool, recipes: Checkpoint) -> None:
    x, t, c = torch.randn(1, 4, 8, 8), torch.tensor([9.0]), torch.randn(1, 77, 32)
    with patching.network(recipes.MODEL) as base, patching.network(scaled(recipes.MODEL, 2.0)) as patched:
        one, other = base.module.state_dict(), patched.module.state_dict()
        differing = [name for name in one if one[name].data_ptr() != other[name].data_ptr()]
        assert differing == ["out.2.weight"]
        bias = one["out.2.bias"][:, None, None]
        torch.testing.assert_close(patched(x, t, c) - bias, 2 * (base(x, t, c) - bias), rtol=1e-4, atol=1e-5)
    extra = one["out.2.weight"].numel() * 4
    with patching.network(recipes.MODEL):
        alone = sum(t.numel() * 4 for t in one.values())
    assert patching.held() == alone + extra


def test_patches_apply_in_order_and_leave_the_base_alone(patching: ModelPool, recipes: Checkpoint) -> None:
    with patching.network(scaled(scaled(recipes.MODEL, 2.0), 3.0)) as both:
        changed = both.module.state_dict()["out.2.weight"].clone()
    with patching.network(recipes.MODEL) as base:
        torch.testing.assert_close(changed, base.module.state_dict()["out.2.weight"] * 6.0)


def test_an_unknown_patch_is_named(pool: ModelPool, recipes: Checkpoint) -> None:
    with (
        pytest.raises(NodeError, match="knows the weights patch 'scale'"),
        pool.network(scaled(recipes.MODEL, 2.0)),
    ):
        pass
    with (
        pytest.raises(NodeError, match="knows the block patch 'x'"),
        pool.network(recipes.MODEL) as network,
    ):
        network(
            torch.zeros(1, 4, 8, 8),
            torch.zeros(1),
            torch.zeros(1, 77, 32),
            patches=(Patch("block", "x"),),
        )


def test_release_gives_back_the_least_recently_used_first(pool: ModelPool, recipes: Checkpoint) -> None:
    with pool.network(recipes.MODEL), pool.vae(recipes.VAE), pool.text_encoder(recipes.CLIP):
        before = pool.held()
        assert pool.release(before) == 0
    with pool.vae(recipes.VAE):
        pass
    freed = pool.release(1)
    # The U-Net was used first and not since.
    assert freed == sum(
        t.numel() * t.element_size()
        for name, t in load_file(recipes.MODEL.weights.paths[0]).items()
        if name.startswith("model.diffusion_model.")
    )
    assert pool.release(before) == before - freed
    assert pool.held() == 0


def test_a_module_in_use_survives_a_budget_it_does_not_fit(folders: Folders, recipes: Checkpoint) -> None:
    pool = ModelPool.open(Runtime(folders, dtype="fp32", device_budget=1))
    with pool.network(recipes.MODEL) as network:
        module = network.module
        with pool.vae(recipes.VAE):
            assert pool.held() > 1
            with pool.network(recipes.MODEL) as again:
                assert again.module is module
    with pool.text_encoder(recipes.CLIP):
        pass
    # Loading the encoder made room: nothing else was in use.
    with pool.network(recipes.MODEL) as network:
        assert network.module is not module


def test_networks_take_turns_under_a_budget_that_holds_one(
    folders: Folders, recipes: Checkpoint, second: Any
) -> None:
    other = load_checkpoint(second.file)
    sizes = ModelPool.open(Runtime(folders, dtype="fp32"))
    with sizes.network(other.MODEL):
        one = sizes.held()
    pool = ModelPool.open(Runtime(folders, dtype="fp32", device_budget=one + one // 2))
    held = []
    for model in (recipes.MODEL, other.MODEL, recipes.MODEL):
        with pool.network(model):
            held.append(pool.holds())
        assert pool.held() <= pool.budget
    assert held == [(recipes.MODEL.weights,), (other.MODEL.weights,), (recipes.MODEL.weights,)]


def test_what_a_call_takes_is_made_room_for_where_it_may_be_short(
    folders: Folders, recipes: Checkpoint, second: Any
) -> None:
    other = load_checkpoint(second.file)
    asked: list[int] = []

    def works(wanted: int) -> int:
        asked.append(wanted)
        return wanted

    sizes = ModelPool.open(Runtime(folders, dtype="fp32"))
    with sizes.network(recipes.MODEL), sizes.network(other.MODEL):
        both = sizes.held()
    roomy = ModelPool.open(Runtime(folders, dtype="fp32", device_budget=3 * both))
    tight = ModelPool.open(Runtime(folders, dtype="fp32", device_budget=both + 1000))
    for pool in (roomy, tight):
        with pool.network(recipes.MODEL, lambda: works(0)):
            pass
        with pool.network(other.MODEL, lambda: works(900)):
            assert pool.holds() == (recipes.MODEL.weights, other.MODEL.weights)
        with pool.network(other.MODEL, lambda: works(1100)):
            held = pool.holds()
        assert held == (
            (other.MODEL.weights,) if pool is tight else (recipes.MODEL.weights, other.MODEL.weights)
        )
    # Where there is room in any case, or nothing to evict, nobody asks what a call takes.
    assert asked == [900, 1100]
    with tight.vae(recipes.VAE) as autoencoder:
        assert tight.room(10**12) == tight.budget - tight.held()
        assert tight.holds() == (recipes.VAE.weights,)
        assert autoencoder.decode(torch.zeros(1, 4, 2, 2)).shape == (1, 16, 16, 3)


def test_memory_that_runs_out_makes_room_and_tries_once_more(folders: Folders, recipes: Checkpoint) -> None:
    class Tight(ModelPool):
        """A pool on a device with room for one module."""

        def _load(self, key: Any) -> Any:
            if self.held():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._load(key)

    pool = Tight.open(Runtime(folders, dtype="fp32"))
    with pool.vae(recipes.VAE):
        pass
    with pool.network(recipes.MODEL):
        with pytest.raises(NodeError, match="not enough memory on cpu") as caught, pool.vae(recipes.VAE):
            pass
        assert caught.value.code == "out_of_memory"


@pytest.mark.parametrize(("choice", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_lower_precision_by_choice(
    folders: Folders, recipes: Checkpoint, choice: str, dtype: torch.dtype
) -> None:
    x, t, c = torch.randn(1, 4, 8, 8), torch.tensor([9.0]), torch.randn(1, 77, 32)
    whole, low = (ModelPool.open(Runtime(folders, dtype=name)) for name in ("fp32", choice))
    with whole.network(recipes.MODEL) as exact, low.network(recipes.MODEL) as network:
        assert network.dtype == dtype
        assert {p.dtype for p in network.module.state_dict().values()} == {dtype}
        found, wanted = network(x, t, c), exact(x, t, c)
    assert found.dtype == torch.float32
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 0.1
    with low.vae(recipes.VAE) as autoencoder:
        assert autoencoder.dtype == torch.float32


def test_fp8_is_how_weights_are_stored_not_how_they_compute(pool: ModelPool, recipes: Checkpoint) -> None:
    x, t, c = torch.randn(1, 4, 8, 8), torch.tensor([9.0]), torch.randn(1, 77, 32)
    with pool.network(replace(recipes.MODEL, dtype="fp8_e4m3fn")) as network:
        assert network.dtype == torch.float32
        assert {p.dtype for p in network.module.state_dict().values()} == {torch.float8_e4m3fn}
        assert bool(network(x, t, c).isfinite().all())


def test_devices_and_dtypes() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(NodeError, match="the device 'toaster' is not there"):
        resolve_device("toaster")
    assert network_dtype("auto", torch.device("cpu")) == torch.float32
    assert network_dtype("auto", torch.device("cuda")) == torch.float16
    with pytest.raises(NodeError, match="the dtype 'int4' is unknown"):
        network_dtype("int4", torch.device("cpu"))


def test_a_file_that_changed_or_went_is_refused(pool: ModelPool, first: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(first.file.read_bytes())
    model, _, vae = load_checkpoint(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(NodeError, match=r"m\.safetensors has changed"), pool.network(model):
        pass
    path.unlink()
    with pytest.raises(NodeError, match=r"m\.safetensors is gone"), pool.vae(vae):
        pass


def test_channels_that_do_not_fit_are_refused(pool: ModelPool, recipes: Checkpoint) -> None:
    with pool.network(recipes.MODEL) as network, pytest.raises(NodeError, match="takes 4 channels"):
        network(torch.zeros(1, 16, 8, 8), torch.zeros(1), torch.zeros(1, 77, 32))
