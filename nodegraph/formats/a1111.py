"""The parameters text that A1111's web UI (and its forks) write into PNGs, into a text-to-image workflow.

    a castle <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model: dream

What cannot be carried over is said as problems; the text itself becomes a note on the canvas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from nodegraph.errors import Problem, nearest
from nodegraph.formats.json_text import refuse
from nodegraph.node import NodeSpec

Listing = Callable[[str], list[str]]
"""Names of the files of a folder kind, such as `checkpoints`."""
SAMPLERS = {
    "euler": "euler",
    "euler a": "euler_ancestral",
    "lms": "lms",
    "heun": "heun",
    "dpm2": "dpm_2",
    "dpm2 a": "dpm_2_ancestral",
    "dpm++ 2s a": "dpmpp_2s_ancestral",
    "dpm++ 2m": "dpmpp_2m",
    "dpm++ sde": "dpmpp_sde",
    "dpm++ 2m sde": "dpmpp_2m_sde",
    "dpm++ 2m sde heun": "dpmpp_2m_sde_heun",
    "dpm++ 3m sde": "dpmpp_3m_sde",
    "dpm fast": "dpm_fast",
    "dpm adaptive": "dpm_adaptive",
    "lcm": "lcm",
    "ddpm": "ddpm",
    "deis": "deis",
    "ddim": "ddim",
    "unipc": "uni_pc",
}
"""Their samplers, in lower case, by ours."""
SCHEDULES = {
    "uniform": "normal",
    "normal": "normal",
    "karras": "karras",
    "exponential": "exponential",
    # Rho is 1 there, which makes it the exponential schedule.
    "polyexponential": "exponential",
    "sgm uniform": "sgm_uniform",
    "kl optimal": "kl_optimal",
    "simple": "simple",
    "ddim": "ddim_uniform",
    "beta": "beta",
}
_KARRAS = ("dpm2", "dpm2 a", "dpm++ 2s a", "dpm++ 2m", "dpm++ sde")
_EXPONENTIAL = ("dpm++ 2m sde", "dpm++ 2m sde heun", "dpm++ 3m sde")
_USED = (
    *("steps", "sampler", "schedule type", "cfg scale", "seed", "size", "model", "clip skip", "vae", "rng"),
    *(
        "version",
        "model hash",
        "vae hash",
        "lora hashes",
        "ti hashes",
        "hashes",
        "user",
        "denoising strength",
    ),
    *(
        "batch size",
        "batch pos",
        "pad conds",
        "downcast alphas_cumprod",
        "emphasis",
        "discard penultimate sigma",
    ),
)
_FIELD = re.compile(r'(\w[\w \-/+.()]{0,40}?):[ \t]{0,9}("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_TAG = re.compile(r"<(\w+):([^<>:]+)(?::([^<>]*))?>")
_LOWERED = re.compile(r"(?<!\\)(\[{1,20})([^\[\]():|]+)(\]{1,20})")
_LIMIT = 100_000
"""Letters of a text that is read; a longer one is no parameters text."""


def is_parameters(text: str) -> bool:
    """Whether a text looks like one of these."""
    return len(text) <= _LIMIT and re.search(r"(^|\n|,\s*)Steps: *\d", text) is not None


def from_parameters(
    text: str,
    registry: Mapping[str, NodeSpec] | None = None,
    listing: Listing | None = None,
    name: str = "the parameters text",
) -> tuple[dict[str, Any], list[Problem]]:
    """The document of a text-to-image workflow of a parameters text, and what could not be carried over.

    `registry` says which samplers and nodes there are, `listing` which model files. Raises ValidationError where the text
    is none.
    """
    if not is_parameters(text):
        refuse(
            f"{name} does not say how many Steps were taken: it is no parameters text.", code="invalid_prompt"
        )
    maker = _Maker(text, registry, listing)
    return maker.document(), maker.problems


@dataclass
class _Maker:
    text: str
    registry: Mapping[str, NodeSpec] | None
    listing: Listing | None
    problems: list[Problem] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        positive, negative, facts = _split(self.text)
        tags: list[tuple[str, str, list[float]]] = []
        positive, negative = (self._prompt(item, facts, tags) for item in (positive, negative))
        width, height = self._size(facts.get("size", ""))
        sampler, schedule = self._sampling(facts)
        self._add("4", "CheckpointLoaderSimple", ckpt_name=self._model(facts))
        model, clip, vae = ["4", 0], ["4", 1], ["4", 2]
        model, clip = self._loras(tags, model, clip)
        skip = self._number(facts, "clip skip", 1)
        if skip > 1:
            self._add("11", "CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-skip)
            clip = ["11", 0]
        named = self._vae(facts)
        if named is not None:
            self._add("12", "VAELoader", vae_name=named)
            vae = ["12", 0]
        self._add("6", "CLIPTextEncode", clip=clip, text=positive)
        self._add("7", "CLIPTextEncode", clip=clip, text=negative)
        self._add("5", "EmptyLatentImage", width=width, height=height, batch_size=1)
        links = {"model": model, "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
        values = {"seed": self._number(facts, "seed", 0), "steps": self._number(facts, "steps", 20)}
        values["cfg"] = self._number(facts, "cfg scale", 7.0)
        self._add("3", "KSampler", **links, **values, sampler_name=sampler, scheduler=schedule, denoise=1.0)
        self._add("8", "VAEDecode", samples=["3", 0], vae=vae)
        self._add("9", "SaveImage", images=["8", 0], filename_prefix="A1111")
        self._left_out(facts)
        note = {"id": "note", "text": self.text, "pos": [0, -340], "size": [480, 260]}
        return {
            "nodegraph": 1,
            "title": "Text to image",
            "parameters": {key: {"node": node, "input": item} for key, (node, item) in _PARAMETERS.items()},
            "canvas": {"notes": [note]},
            "prompt": self.nodes,
        }

    def _add(self, node_id: str, class_type: str, **inputs: Any) -> None:
        meta: dict[str, Any] = {"pos": [*_PLACES[node_id]]} if node_id in _PLACES else {}
        title = {"6": "Prompt", "7": "Negative prompt"}.get(node_id)
        meta |= {"title": title} if title else {}
        self.nodes[node_id] = {"class_type": class_type, "inputs": inputs, "_meta": meta}

    def _say(self, message: str, **more: str | None) -> None:
        self.problems.append(Problem("not_carried_over", message, severity="warning", **more))

    def _prompt(self, text: str, facts: Mapping[str, str], tags: list[tuple[str, str, list[float]]]) -> str:
        """A prompt in our words: its tags taken out, `[word]` and embeddings as they are written here."""
        for kind, name, weights in _TAG.findall(text):
            tags.append((kind.lower(), name.strip(), _weights(weights)))
        text = _TAG.sub("", text)
        text = _LOWERED.sub(_lowered, text)
        for item in facts.get("ti hashes", "").split(",")[:50]:
            embedding = item.partition(":")[0].strip()
            if embedding:
                pattern = rf"(?<![\w:-]){re.escape(embedding)}(?![\w-])"
                text = re.sub(pattern, lambda match: f"embedding:{match.group()}", text)
        if re.search(r"\[[^\[\]]{0,300}[:|][^\[\]]{0,300}\]", text):
            self._say(
                "words that change during the run ([from:to:when], [one|other]) are left as they stand."
            )
        for word in ("BREAK", "AND"):
            if re.search(rf"\b{word}\b", text):
                self._say(f"the word {word} splits a prompt in A1111; here it is a word like any other.")
        return text.strip()

    def _loras(
        self, tags: list[tuple[str, str, list[float]]], model: list[Any], clip: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        known = self.registry is not None and "LoraLoader" in self.registry
        for index, (kind, name, weights) in enumerate(tags):
            strength = weights[0] if weights else 1.0
            if kind not in ("lora", "lyco"):
                self._say(
                    f"<{kind}:{name}> has no counterpart here and is left out.", found=f"<{kind}:{name}>"
                )
            elif not known:
                self._say(
                    f"the LoRA {name!r} (strength {strength:g}) is left out: no LoraLoader node is installed.",
                    found=f"<{kind}:{name}:{strength:g}>",
                )
            else:
                node_id, file = str(20 + index), self._file("loras", name, "LoRA")
                unet = weights[1] if len(weights) > 1 else strength
                strengths = {"strength_model": unet, "strength_clip": strength}
                self._add(node_id, "LoraLoader", model=model, clip=clip, lora_name=file, **strengths)
                model, clip = [node_id, 0], [node_id, 1]
        return model, clip

    def _model(self, facts: Mapping[str, str]) -> str:
        if facts.get("model"):
            return self._file("checkpoints", facts["model"], "model")
        files = self.listing("checkpoints") if self.listing is not None else []
        chosen = files[0] if files else "model.safetensors"
        self._say(f"the text names no model; {chosen!r} stands in for it.", found=facts.get("model hash"))
        return chosen

    def _vae(self, facts: Mapping[str, str]) -> str | None:
        name = facts.get("vae", "")
        return self._file("vae", name, "VAE") if name.lower() not in ("", "none", "automatic") else None

    def _file(self, kind: str, name: str, what: str) -> str:
        """The file that a name without folder and suffix means; the nearest where there is none."""
        plain = _stem(name)
        wanted = f"{plain}.safetensors"
        if self.listing is None:
            return wanted
        files = {_stem(file).lower(): file for file in reversed(self.listing(kind))}
        if plain.lower() in files:
            return files[plain.lower()]
        like = nearest(plain, list(files), 1)
        chosen = files[like[0]] if like else wanted
        instead = (
            f"{chosen!r}, the nearest name, is used instead" if like else f"put it into {kind} as {wanted!r}"
        )
        self._say(f"the {what} {name[:100]!r} is not there; {instead}.", found=name[:100])
        return chosen

    def _sampling(self, facts: Mapping[str, str]) -> tuple[str, str]:
        given = facts.get("sampler", "Euler a")
        name = given.lower().strip()
        kind = facts.get("schedule type", "").lower().strip()
        for suffix in () if kind else ("karras", "exponential"):
            if name.endswith(f" {suffix}"):
                name, kind = name.removesuffix(suffix).strip(), suffix
        if kind == "automatic":
            kind = "karras" if name in _KARRAS else "exponential" if name in _EXPONENTIAL else ""
        default = "ddim" if name == "ddim" else "uniform"
        sampler = self._mapped("sampler", given, SAMPLERS.get(name), "sampler_name", "euler")
        schedule = self._mapped("schedule", kind, SCHEDULES.get(kind or default), "scheduler", "normal")
        return sampler, schedule

    def _mapped(self, what: str, given: str, ours: str | None, name: str, default: str) -> str:
        spec = self.registry.get("KSampler") if self.registry is not None else None
        item = spec.inputs.get(name) if spec is not None else None
        options = item.choice.options if item is not None and item.choice is not None else ()
        if ours is not None and (not options or ours in options):
            return ours
        guess = nearest(given.lower().replace("++", "pp").replace(" ", "_"), options, 1)
        chosen = guess[0] if guess else default
        text = f"the {what} {given[:100]!r} has no counterpart here; {chosen!r} is used instead."
        self._say(text, found=given[:100], allowed=", ".join(options) or None)
        return chosen

    def _size(self, text: str) -> tuple[int, int]:
        match = re.fullmatch(r"\s*(\d{1,5})x(\d{1,5})\s*", text)
        if match is None:
            self._say(
                "the text does not say how large the picture is; 512x512 is used.", found=text[:40] or None
            )
            return 512, 512
        width, height = int(match[1]), int(match[2])
        if width % 8 or height % 8:
            width, height = (max(16, round(side / 8) * 8) for side in (width, height))
            self._say(f"the size is no multiple of 8; {width}x{height} is used.", found=text.strip())
        return width, height

    def _number(self, facts: Mapping[str, str], key: str, default: Any) -> Any:
        text = facts.get(key)
        try:
            if text is None:
                return default
            number = float(text) if isinstance(default, float) else int(text)
        except ValueError:
            number = None
        if number is None or not -(2**63) < number < 2**64:
            self._say(f"{key} is no number that can be used; {default} is.", found=repr(text)[:60])
            return default
        return number

    def _left_out(self, facts: Mapping[str, str]) -> None:
        hires = {key: value for key, value in facts.items() if key.startswith("hires")}
        if hires:
            shown = ", ".join(f"{key}: {value}" for key, value in hires.items())
            self._say(
                "the hires fix (the picture enlarged and sampled again) is left out.",
                found=shown[:300],
                hint="workflows/hires_fix.json shows how to add it.",
            )
        elif "denoising strength" in facts:
            self._say(
                "the picture was made from another, which the text does not hold: this workflow starts from noise.",
                found=f"denoising strength: {facts['denoising strength'][:40]}",
            )
        others = [key for key in facts if key not in _USED and key not in hires]
        if others:
            self._say(
                "some settings have no counterpart here and are left out.", found=", ".join(others)[:300]
            )
        if facts.get("rng", "GPU").upper() != "CPU":
            self._say(
                "A1111 drew the noise on its GPU, here it is drawn on the CPU: the picture will be another."
            )


_PARAMETERS = {
    "prompt": ("6", "text"),
    "negative": ("7", "text"),
    "seed": ("3", "seed"),
    "steps": ("3", "steps"),
    "cfg": ("3", "cfg"),
    "width": ("5", "width"),
    "height": ("5", "height"),
}
_PLACES = {
    "4": (0, 0),
    "11": (0, 180),
    "12": (0, 320),
    "6": (480, 0),
    "7": (480, 240),
    "5": (480, 480),
    "3": (960, 0),
    "8": (1340, 0),
    "9": (1340, 120),
}


def _split(text: str) -> tuple[str, str, dict[str, str]]:
    """(prompt, negative prompt, settings by name in lower case)."""
    lines = text.strip().replace("\r\n", "\n").split("\n")
    last = max(index for index, line in enumerate(lines) if re.search(r"(^|,\s*)Steps: *\d", line))
    facts: dict[str, str] = {}
    for key, value in _FIELD.findall(" ".join(lines[last:])):
        facts.setdefault(key.strip().lower(), _unquoted(value.strip()))
    body = lines[:last]
    start = next((index for index, line in enumerate(body) if line.startswith("Negative prompt:")), len(body))
    negative = "\n".join(body[start:]).removeprefix("Negative prompt:")
    return "\n".join(body[:start]).strip(), negative.strip(), facts


def _unquoted(text: str) -> str:
    try:
        found = json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text
    return found if isinstance(found, str) else text


def _weights(text: str) -> list[float]:
    found = []
    for part in text.split(":"):
        try:
            number = float(part.partition("=")[2] or part)
        except ValueError:
            continue
        found += [number] if abs(number) < 1000 else []
    return found


def _lowered(match: re.Match[str]) -> str:
    """`[word]`, which weighs 1/1.1 there, as a weight that is read here; brackets that do not match stay."""
    depth = len(match[1])
    if depth != len(match[3]):
        return match[0]
    return f"({match[2]}:{1.1**-depth:.3g})"


def _stem(name: str) -> str:
    """The name of a file without its folder and suffix; a dot in the name itself stays."""
    plain = PurePosixPath(PureWindowsPath(name).as_posix()).name
    return re.sub(r"\.(safetensors|sft|ckpt|pt|pth|bin)$", "", plain, flags=re.IGNORECASE) or "model"
