"""The embedded Stable Diffusion's text encoder as a transformers module, for models that are trained on what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodes.models.embedded.architecture import build_text_encoder
from nodes.models.ldm_keys import CLIP_PREFIX, clip_from_transformers

if TYPE_CHECKING:
    from transformers import CLIPTextModel

CHECKPOINT: Final = Path(__file__).parent / "checkpoints" / "shapes-sd.safetensors"


def embedded_text_encoder(file: Path = CHECKPOINT) -> CLIPTextModel:
    """The text encoder in `file`, float32, frozen and in evaluation mode."""
    from safetensors import safe_open

    model = build_text_encoder()
    names = clip_from_transformers(model.state_dict())
    with safe_open(file, "pt") as tensors:
        state = {source.key: tensors.get_tensor(CLIP_PREFIX + name).float() for name, source in names.items()}
    model.load_state_dict(state, strict=True)
    model.set_attn_implementation("eager")
    return model.eval().requires_grad_(False)
