"""Makes docs/images/examples.png with the embedded model: eight prompts in two rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

import nodegraph

ROOT = Path(__file__).parents[1]
PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star on a black background",
    "a green square to the left of a red triangle on a white background",
    "a pink heart above a blue diamond on a yellow background",
    "a large orange diamond on a cyan background",
    "white circle on the right, red background",
    "a purple triangle at the bottom on a pink background",
    "a large cyan star on a purple background",
)
SIZE, GAP, COLUMNS = 128, 8, 4


def main() -> None:
    """Make the pictures and put them on one sheet."""
    rows = -(-len(PROMPTS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIZE + GAP) - GAP, rows * (SIZE + GAP) - GAP), "white")
    with tempfile.TemporaryDirectory() as folder:
        program = nodegraph.load(ROOT / "workflows" / "text_to_image.json", output_dir=folder)
        for index, prompt in enumerate(PROMPTS):
            picture = program.run(prompt=prompt, seed=1).images[0]
            sheet.paste(picture, (index % COLUMNS * (SIZE + GAP), index // COLUMNS * (SIZE + GAP)))
        program.close()
    target = ROOT / "docs" / "images" / "examples.png"
    target.parent.mkdir(exist_ok=True)
    sheet.save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
