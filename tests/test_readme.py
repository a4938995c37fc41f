"""The README's commands work as they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = ("make ", "git clone", "cd ", "py -m venv", "python3 -m venv", "pip install", ".venv")


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell_commands() -> list[str]:
    """Every command of the README's shell blocks but those that set up a checkout (CI runs these as a whole)."""
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *SET_UP))]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with the repository's workflows in it, so that nothing is written into the checkout."""
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    return tmp_path


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def test_the_readme_shows_commands() -> None:
    assert any(command.startswith("nodegraph run") for command in shell_commands())
    assert blocks("python")
    assert "make demo" in README and "make test" in README


@pytest.mark.timeout(300)
def test_every_shell_command_works(elsewhere: Path) -> None:
    for command in shell_commands():
        done = subprocess.run(
            command, shell=True, cwd=elsewhere, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(300)
def test_every_python_block_works(elsewhere: Path) -> None:
    for index, code in enumerate(blocks("python")):
        script = elsewhere / f"block{index}.py"
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=elsewhere,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
