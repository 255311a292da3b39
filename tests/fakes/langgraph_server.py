"""A real `langgraph dev` of this repository as a child process, which is gone when the test run is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx

from masksearch_agent.serving import watchdog

PYTHON_VARIABLE = "MASKSEARCH_LANGGRAPH_PYTHON"
"""Environment variable that names an interpreter with `langgraph-cli[inmem]` and `masksearch-agent[llm]`."""

ROOT = Path(__file__).resolve().parents[2]
_OWN_ENVIRONMENT = ROOT / ".venv-langgraph" / "bin" / "python"
"""Where `make install-langgraph` puts it."""
_START_S = 300.0
_POLL_S = 0.1
_LOG_CHARS = 4000
# Without importing them, which takes long.
_PROBE = """
from importlib.util import find_spec
wanted = "langchain_openai", "langgraph_api", "langgraph_cli", "langgraph_runtime_inmem"
raise SystemExit(not all(map(find_spec, wanted)))
"""
# Whatever leaves this machine fails at once, instead of waiting for a network that a test must not need.
_NO_NETWORK = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
}


@cache
def find_python() -> str | None:
    """Return an interpreter that can serve; None where there is none."""
    for python in (os.environ.get(PYTHON_VARIABLE), str(_OWN_ENVIRONMENT), sys.executable):
        if python and Path(python).is_file():
            found = subprocess.run([python, "-c", _PROBE], capture_output=True, check=False, cwd=ROOT)
            if found.returncode == 0:
                return python
    return None


@contextmanager
def langgraph_dev(python: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Yield the address of a server of `langgraph.json`; it ends with the block, and with this process.

    Args:
        python: What runs it; see `find_python`.
        folder: Where it works, on copies of `langgraph.json` and `graphs/`, and keeps its log and its state.
        environment: Variables for the graphs.
    """
    shutil.copy(ROOT / "langgraph.json", folder)
    shutil.copytree(ROOT / "graphs", folder / "graphs", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    command = [python, "-m", "langgraph_cli", "dev"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-browser", "--no-reload"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-I", watchdog.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env={**kept, **_NO_NETWORK, **quiet, **environment},
        )
    try:
        _wait_until_ready(url, server, log)
        yield url
    finally:
        assert server.stdin is not None
        server.stdin.close()  # The watchdog then ends the server, and everything that it started.
        server.wait()
    assert not _is_ready(url), "the server outlived its watchdog"


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while not _is_ready(url):
        is_gone = server.poll() is not None
        if is_gone or time.monotonic() > until_s:
            told = log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARS:]
            what = (
                f"ended with exit code {server.returncode}" if is_gone else f"not ready after {_START_S:g} s"
            )
            raise AssertionError(f"langgraph dev: {what}; the end of its log:\n{told}")
        time.sleep(_POLL_S)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok", timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
