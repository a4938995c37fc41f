"""`nodegraph serve` as a process: its words, its answer, its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from nodegraph.errors import ValidationError
from nodegraph.server.addresses import Internal
from nodegraph.server.command import config_of, shown_host

ROOT = Path(__file__).parents[3]


def start(*words: str) -> subprocess.Popen[str]:
    """A server process."""
    command = [sys.executable, "-m", "nodegraph", "serve", "--port", "0", "--no-browser", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    process = start("--data-dir", str(tmp_path), "--workers", "0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address is not None, line
        body = json.dumps(
            {
                "prompt": {
                    "1": {"class_type": "EmptyImage", "inputs": {}},
                    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
                }
            }
        )
        # As ComfyUI's example scripts post: urllib, without a content type of JSON.
        request = urllib.request.Request(f"{address.group()}/prompt", data=body.encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.loads(answer.read())["node_errors"] == {}
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 10
        assert process.stderr is not None and process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    assert (tmp_path / "jobs.sqlite3").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--host", "0.0.0.0"], 2),
        (["--token-file", "/nowhere"], 2),
        (["--port", "notaport"], 2),
        (["--unknown"], 2),
        (["--help"], 0),
    ],
)
def test_wrong_words_are_told_in_a_line(tmp_path: Path, words: list[str], code: int) -> None:
    process = start("--data-dir", str(tmp_path), "--workers", "0", *words)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in err and (err if code else out)


def test_a_port_that_is_taken_and_a_data_directory_in_use_are_told(tmp_path: Path) -> None:
    first = start("--data-dir", str(tmp_path / "one"), "--workers", "0")
    try:
        assert first.stdout is not None
        port = first.stdout.readline().partition("http://127.0.0.1:")[2].split()[0]
        second = start("--data-dir", str(tmp_path / "two"), "--workers", "0", "--port", port)
        _, err = second.communicate(timeout=20)
        assert second.returncode == 1 and f"cannot listen on 127.0.0.1:{port}" in err
        third = start("--data-dir", str(tmp_path / "one"), "--workers", "0")
        _, err = third.communicate(timeout=20)
        assert third.returncode == 2 and "Traceback" not in err and err.startswith("error: ")
    finally:
        first.kill()
        first.communicate()


def test_what_the_words_mean(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-some-length\n", encoding="utf-8")
    words = [
        "--host",
        "0.0.0.0",
        "--token-file",
        str(token),
        "--data-dir",
        str(tmp_path),
        "--models-dir",
        str(tmp_path / "a"),
    ]
    more = ["--workers", "3", "--allow-origin", "http://x/", "--extra-model-paths", str(tmp_path / "p.yaml")]
    with pytest.raises(ValidationError, match=re.escape(f"there is no folder {tmp_path / 'a'}")):
        config_of(words)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValidationError, match=re.escape(f"{tmp_path / 'p.yaml'} cannot be read")):
        config_of([*words, *more])
    (tmp_path / "p.yaml").write_text("a: {vae: v}")
    config, browser = config_of([*words, "--models-dir", str(tmp_path / "b"), *more])
    assert config.token == "a-token-of-some-length" and not browser
    assert config.models_dirs == (tmp_path / "a", tmp_path / "b", tmp_path / "p.yaml") and config.workers == 3
    assert config.origins == {"http://x"} and config.data_dir == tmp_path
    assert config.webhook_secret is None and config.internal == () and not config.allow_url_inputs
    more = ["--allow-url-inputs", "--allow-internal", "127.0.0.1:9000", "--webhook-secret-file", str(token)]
    config, _ = config_of(more)
    assert config.allow_url_inputs and config.internal == (Internal.of("127.0.0.1:9000"),)
    assert config.webhook_secret == b"a-token-of-some-length" and "a-token" not in repr(config)
    with pytest.raises(ValidationError):
        config_of(["--allow-internal", "localhost"])
    with pytest.raises(ValidationError):
        config_of(["--host", "::"])
    assert [shown_host(host) for host in ("0.0.0.0", "::1", "127.0.0.1")] == [
        "127.0.0.1",
        "[::1]",
        "127.0.0.1",
    ]
