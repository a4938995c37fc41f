"""What the nodes know of values before a graph runs: small frozen descriptions, and hooks that several nodes share.

A `foresee` hook is given these in place of latents, pictures and conditionings, recipes as themselves, and UNKNOWN
for what nothing is known of. A field that is None is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nodegraph.node import UNKNOWN, Forecast
from nodes import pairing
from nodes.diffusion.reads import CondForm as CondForm
from nodes.diffusion.reads import check_forms
from nodes.models.coding import coding
from nodes.values import Model, Vae


@dataclass(frozen=True, slots=True)
class LatentForm:
    """A LATENT: samples (batch, channels, height, width) of a format."""

    batch: int | None = None
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    format: str | None = None
    """Name of the LatentFormat that it is of."""
    empty: bool = False
    """All zero: where no format is named, it suits every model."""
    downscale: float = 8
    """Pixels of the finished picture to one of it, in each direction."""

    def is_of(self, name: str, channels: int) -> bool:
        """Whether it can be of the format, as far as is known."""
        return self.channels in (None, channels) if self.format is None else self.format == name

    def words(self) -> str:
        """It in words, for messages."""
        size = (self.batch, self.channels, self.height, self.width)
        shape = "" if None in size else f", of shape {size}"
        return f"{'empty ' if self.empty else ''}{pairing.described(self.format, self.channels)}{shape}"


@dataclass(frozen=True, slots=True)
class ImageForm:
    """An IMAGE: pixels (batch, height, width, channels)."""

    batch: int | None = None
    height: int | None = None
    width: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class ConditioningForm:
    """A CONDITIONING."""

    entries: tuple[CondForm, ...]


@dataclass(frozen=True, slots=True)
class GuiderForm:
    """A GUIDER: a model and what it is guided by, by the input; a conditioning may be UNKNOWN."""

    model: Model
    conditionings: tuple[tuple[str, Any], ...]


def same(name: str) -> Callable[..., Forecast]:
    """A hook that says: the one output is of the form of the input `name`."""
    return lambda **given: Forecast((given.get(name, UNKNOWN),))


def mixing(first: str, second: str) -> Callable[..., Forecast]:
    """A hook that says: the one output is the latent `first` with something of the latent `second` in it."""
    return lambda **given: Forecast((mixed(given.get(first), given.get(second), second),))


def mixed(one: object, other: object, name: str) -> Any:
    """The form of the latent `one` with something in it of the latent `other`, which the input `name` gives.

    Raises NodeError where the two are known to be of different formats.
    """
    if not isinstance(one, LatentForm):
        return UNKNOWN
    if not isinstance(other, LatentForm):
        return replace(one, empty=False)
    if one.format and other.format and one.format != other.format:
        raise pairing.unlike_latents(name, one.words(), other.words())
    return replace(one, format=one.format or other.format, empty=one.empty and other.empty)


def sampled(model: Any, latent: Any, conditionings: tuple[tuple[str, Any], ...]) -> LatentForm:
    """What sampling gives. Raises NodeError where model, latent and conditionings (input, form) do not go together."""
    form = latent if isinstance(latent, LatentForm) else LatentForm()
    if not isinstance(model, Model):
        return replace(form, format=None, channels=None, empty=False)
    latents = model.latent_format
    suits_all = form.empty and form.format is None
    if not suits_all and not form.is_of(latents.name, latents.channels):
        raise pairing.wrong_latent(model, form.words(), pairing.format_of(latents))
    check_conditionings(model, conditionings)
    height, width = form.height, form.width
    if suits_all:
        height, width = (
            None if side is None else pairing.empty_side(side, form.downscale, latents)
            for side in (height, width)
        )
    return LatentForm(form.batch, latents.channels, height, width, latents.name, downscale=latents.downscale)


def check_conditionings(model: Any, conditionings: tuple[tuple[str, Any], ...]) -> None:
    """Raise NodeError where the model cannot read one of the conditionings (input, form)."""
    if isinstance(model, Model):
        known = [
            (name, form.entries if isinstance(form, ConditioningForm) else None)
            for name, form in conditionings
        ]
        check_forms(model, known)


def decoded(latent: Any, vae: Any) -> ImageForm:
    """What decoding gives. Raises NodeError where the latent is not one that the autoencoder can decode."""
    form = latent if isinstance(latent, LatentForm) else LatentForm()
    if not isinstance(vae, Vae):
        return ImageForm(batch=form.batch)
    way = coding(vae.architecture)
    pairing.check_decoder(way)
    if not form.is_of(vae.latent_format.name, way.latent_channels):
        raise pairing.wrong_latent_for_vae(way, form.words(), pairing.format_of(vae.latent_format))
    height, width = (None if side is None else side * way.decode_step for side in (form.height, form.width))
    return ImageForm(form.batch, height, width, way.picture_channels)


def encoded(pixels: Any, vae: Any) -> LatentForm:
    """What encoding gives. Raises NodeError where the autoencoder cannot encode the picture."""
    form = pixels if isinstance(pixels, ImageForm) else ImageForm()
    if not isinstance(vae, Vae):
        return LatentForm(batch=form.batch)
    way = coding(vae.architecture)
    pairing.check_picture(way, (form.batch, form.height, form.width, form.channels))
    height, width = (None if side is None else side // way.encode_step for side in (form.height, form.width))
    latents = vae.latent_format
    return LatentForm(
        form.batch, way.latent_channels, height, width, latents.name, downscale=latents.downscale
    )
