"""`nodegraph serve`: the command line of the server, read without what the other commands need."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph.errors import NodegraphError
from nodegraph.model_folders import checked_sources
from nodegraph.server.addresses import Internal
from nodegraph.server.config import PORT, ServerConfig, default_data_dir, read_secret, read_token

if TYPE_CHECKING:
    from aiohttp import web

OK, FAILED, BAD_INPUT = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    """The options of `nodegraph serve`."""
    found = argparse.ArgumentParser(
        prog="nodegraph serve",
        description="Serve ComfyUI's HTTP and websocket protocol; graphs run in worker processes.",
    )
    found.add_argument("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]")
    found.add_argument("--port", type=int, default=PORT, help=f"port to listen on, 0 for a free one [{PORT}]")
    found.add_argument(
        "--data-dir", type=Path, help="jobs, settings, input and output [the system's place for such]"
    )
    found.add_argument(
        "--models-dir",
        type=Path,
        action="append",
        default=[],
        help="models in ComfyUI's layout; may be repeated",
    )
    found.add_argument(
        "--extra-model-paths",
        "--extra-model-paths-config",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="more model folders, as ComfyUI's extra_model_paths.yaml names them; may be repeated",
    )
    found.add_argument("--input-dir", type=Path, help="where input files are [DATA_DIR/input]")
    found.add_argument("--output-dir", type=Path, help="where files are saved [DATA_DIR/output]")
    found.add_argument("--workers", type=int, default=1, help="worker processes [1]")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps [auto]")
    found.add_argument(
        "--dtype", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="of the networks"
    )
    found.add_argument(
        "--pack",
        action="append",
        metavar="MODULE:NAME",
        help="a pack of nodes, in place of the installed ones",
    )
    found.add_argument(
        "--pack-path", action="append", default=[], metavar="DIR", help="where --pack is imported from"
    )
    found.add_argument("--token-file", type=Path, help="file with the token that clients must show")
    found.add_argument("--allow-host", action="append", default=[], help="a further name of this server")
    found.add_argument(
        "--allow-origin", action="append", default=[], help="a site whose pages may use this server"
    )
    found.add_argument(
        "--webhook-secret-file", type=Path, help="file with the secret that webhooks are signed with"
    )
    found.add_argument(
        "--allow-url-inputs", action="store_true", help="fetch inputs that are addresses of pictures"
    )
    found.add_argument(
        "--allow-internal",
        action="append",
        default=[],
        metavar="ADDRESS[:PORT]",
        help="a part of the own network that inputs and webhooks may lead to",
    )
    found.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return found


def config_of(words: Sequence[str]) -> tuple[ServerConfig, bool]:
    """The configuration that the words ask for, and whether a browser may be opened. Raises ValidationError."""
    given = parser().parse_args(words)
    config = ServerConfig(
        host=given.host,
        port=given.port,
        data_dir=(given.data_dir or default_data_dir()).expanduser().absolute(),
        models_dirs=(
            *checked_sources(given.models_dir),
            *checked_sources(given.extra_model_paths, "--extra-model-paths"),
        ),
        input_dir=given.input_dir,
        output_dir=given.output_dir,
        workers=given.workers,
        device=given.device,
        dtype=given.dtype,
        packs=tuple(given.pack) if given.pack else None,
        pack_paths=tuple(given.pack_path),
        token=read_token(given.token_file) if given.token_file is not None else None,
        hosts=frozenset(given.allow_host),
        origins=frozenset(origin.rstrip("/") for origin in given.allow_origin),
        allow_url_inputs=given.allow_url_inputs,
        internal=tuple(map(Internal.of, given.allow_internal)),
        webhook_secret=read_secret(given.webhook_secret_file)
        if given.webhook_secret_file is not None
        else None,
    )
    return config.checked(), not given.no_browser and sys.stdout.isatty()


def main(words: Sequence[str]) -> int:
    """Serve until a signal says stop; the exit status."""
    try:
        config, browser = config_of(words)
        # Nothing that is imported here is ever garbage.
        gc.disable()
        try:
            with _without_certificates():
                from nodegraph.server.app import create_app
                from nodegraph.server.connections import prepare_process
        except ModuleNotFoundError as error:
            if error.name != "aiohttp":
                raise
            print("error: the server needs aiohttp: pip install 'nodegraph[server]'.", file=sys.stderr)
            return FAILED

        prepare_process()
        app = create_app(config)
        gc.freeze()
        gc.enable()
        return asyncio.run(serve(app, config, browser))
    except NodegraphError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return OK


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Have aiohttp's client, which is imported with its server, read no certificates: 50 ms for what is never used.

    Its default context then trusts nobody, so whoever comes to call an https address from this process gives its own.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def serve(app: web.Application, config: ServerConfig, browser: bool = False) -> int:
    """Listen until SIGINT or SIGTERM; the exit status."""
    from aiohttp import web

    from nodegraph.server.listening import listen

    stop = asyncio.Event()
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    listening = None
    try:
        assert runner.server is not None
        try:
            listening = await listen(runner.server, config.host, config.port, config.limits)
        except OSError as error:
            print(f"error: cannot listen on {config.host}:{config.port}: {error.strerror}.", file=sys.stderr)
            return FAILED
        address = f"http://{shown_host(config.host)}:{listening.sockets[0].getsockname()[1]}"
        print(f"nodegraph serves at {address} (data in {config.data_dir})", flush=True)
        if browser:
            import webbrowser

            await asyncio.to_thread(webbrowser.open, address)
        await stop.wait()
    finally:
        if listening is not None:
            listening.close()
        await runner.cleanup()
    return OK


def shown_host(host: str) -> str:
    """A host as it stands in an address that a person can open."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
