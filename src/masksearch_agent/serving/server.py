"""A model server as a child process: started, waited for, and gone when its owner is."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import httpx

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.config.serving import ServingSettings
from masksearch_agent.errors import ServingError
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.models.served_weights import write_served_weights
from masksearch_agent.serving import watchdog
from masksearch_agent.serving.engines import Launch, plan_launch

__all__ = ("ModelServer", "serve_bundle", "start_server")

logger = logging.getLogger(__name__)

_POLL_S = 0.25
_STANDARD_ERROR = 2
_LOG_LINES = 15
"""Last lines of a server's log that a failed start shows."""


class ModelServer:
    """A running server; use it as a context manager, or `close` it.

    It dies with this process in any case, even where this one is killed: see `serving.watchdog`. What it prints goes to
    `log_path`, or to standard error.
    """

    def __init__(self, launch: Launch, host: str, port: int, log_path: Path | None = None) -> None:
        self.engine: Literal["vllm", "transformers"] = launch.engine
        self.model_name = launch.model_name
        self.base_url = f"http://{host}:{port}"
        self.log_path = log_path
        with nullcontext(_STANDARD_ERROR) if log_path is None else log_path.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, *launch.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal is for this process, which then closes the server.
                start_new_session=True,
                env={**os.environ, **launch.environment},
            )

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the server answers.

        Raises:
            ServingError: It ended, or did not answer in time; it is closed then.
        """
        until_s = time.monotonic() + timeout_s
        while not self._is_healthy():
            code = self._process.poll()
            if code is not None:
                raise ServingError(f"the {self.engine} server ended with exit code {code}{self._log_tail()}")
            if time.monotonic() > until_s:
                self.close()
                raise ServingError(
                    f"the {self.engine} server was not ready after {timeout_s:g} s{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def wait(self) -> int:
        """Wait until the server ends, and return its exit code."""
        return self._process.wait()

    def close(self) -> None:
        """End the server and everything it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/health", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _log_tail(self) -> str:
        if self.log_path is None:
            return "; see its messages above"
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"; the end of {self.log_path}:\n" + "\n".join(lines[-_LOG_LINES:])


def start_server(
    directory: Path,
    name: str,
    settings: ServingSettings,
    log_path: Path | None = None,
    is_refreshable: bool = False,
) -> ModelServer:
    """Start a server for a checkpoint and wait until it answers.

    Args:
        directory: The checkpoint folder.
        name: Under which vLLM serves the model; transformers' server goes by the folder.
        settings: Which server, where, and how.
        log_path: Takes what the server prints; None for standard error.
        is_refreshable: Let clients replace the weights; vLLM only.

    Raises:
        ServingError: The folder is missing, no server is installed, or it did not start.
    """
    if not directory.is_dir():
        raise ServingError(f"no checkpoint folder at {directory}")
    port = settings.port or _free_port(settings.host)
    launch = plan_launch(directory.absolute(), name, port, settings, is_refreshable)
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("starting %s: %s", launch.engine, " ".join(launch.command))
    server = ModelServer(launch, settings.host, port, log_path)
    try:
        server.wait_until_ready(settings.start_timeout_s)
    except BaseException:
        server.close()
        raise
    return server


@contextmanager
def serve_bundle(
    directory: Path, settings: ServingSettings, log_path: Path | None = None, is_refreshable: bool = False
) -> Iterator[ModelServer]:
    """Serve a bundle's model, under the bundle's model version as its name, until the context ends.

    See `start_server`; a refreshable vLLM reads a copy of the bundle that it can read again.

    Raises:
        BundleError: There is no bundle.
        ServingError: No server is installed, or it did not start.
    """
    info = read_bundle_info(directory)
    with ExitStack() as stack:
        served = directory
        if is_refreshable:
            served = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="masksearch-served-")))
            model, tokenizer = load_checkpoint(directory)
            write_served_weights(model, model.state_dict(), tokenizer, served)
            del model
        server = start_server(served, info.model_version, settings, log_path, is_refreshable)
        yield stack.enter_context(server)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
