from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from masksearch_agent.config.serving import ServingSettings
from masksearch_agent.errors import MissingExtraError, ServingError
from masksearch_agent.serving import engines
from masksearch_agent.serving.engines import (
    VLLM_PYTHON_VARIABLE,
    Launch,
    VLLMInstallation,
    find_vllm,
    plan_launch,
)
from masksearch_agent.serving.server import ModelServer, _free_port, start_server

# Answers /health, and starts a child of its own, as real servers do; both write down their process ids.
HEALTHY = """
import http.server, os, pathlib, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[2]).write_text(f"{os.getpid()} {child.pid}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def ids_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ids"
    yield path
    for number in ids_in(path):
        assert not is_running(number), "a test left its server running"


def healthy_launch(port: int, ids_file: Path) -> Launch:
    return Launch("vllm", (sys.executable, "-c", HEALTHY, str(port), str(ids_file)))


def ids_in(path: Path) -> list[int]:
    return [int(number) for number in path.read_text().split()] if path.is_file() else []


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(process_ids: list[int], timeout_s: float = 10.0) -> bool:
    until_s = time.monotonic() + timeout_s
    while any(map(is_running, process_ids)):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    return True


def test_a_server_is_ready_when_it_answers_and_gone_when_closed(ids_file: Path, tmp_path: Path) -> None:
    port = _free_port("127.0.0.1")
    with ModelServer(healthy_launch(port, ids_file), "127.0.0.1", port, tmp_path / "log") as server:
        server.wait_until_ready(30)
        assert httpx.get(f"{server.base_url}/health").status_code == 200
        ids = ids_in(ids_file)
        assert len(ids) == 2
        assert all(map(is_running, ids))
    assert wait_until_gone(ids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_dies_with_its_owner_however_that_dies(
    ids_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    port = _free_port("127.0.0.1")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(port), str(ids_file), str(tmp_path / "log")])
    try:
        until_s = time.monotonic() + 30
        while len(ids_in(ids_file)) < 2 and time.monotonic() < until_s:
            time.sleep(0.05)
        ids = ids_in(ids_file)
        assert len(ids) == 2
        assert all(map(is_running, ids))
    finally:
        os.kill(owner.pid, number)
        owner.wait()
    assert wait_until_gone(ids)


OWNER = f"""
import sys
from pathlib import Path
from masksearch_agent.serving.engines import Launch
from masksearch_agent.serving.server import ModelServer
port, ids, log = sys.argv[1:]
launch = Launch("vllm", (sys.executable, "-c", {HEALTHY!r}, port, ids))
server = ModelServer(launch, "127.0.0.1", int(port), Path(log))
server.wait()
"""


def test_a_server_that_ends_shows_the_end_of_its_log(tmp_path: Path) -> None:
    launch = Launch("vllm", (sys.executable, "-c", "raise SystemExit('no memory left')"))
    server = ModelServer(launch, "127.0.0.1", _free_port("127.0.0.1"), tmp_path / "log")
    with pytest.raises(ServingError, match=r"exit code 1; the end of .*\n.*no memory left"):
        server.wait_until_ready(30)
    server.close()


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    launch = Launch("vllm", (sys.executable, "-c", "import time; time.sleep(600)"))
    server = ModelServer(launch, "127.0.0.1", _free_port("127.0.0.1"), tmp_path / "log")
    with pytest.raises(ServingError, match=r"not ready after 0\.2 s"):
        server.wait_until_ready(0.2)
    assert server.wait() != 0


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no checkpoint folder"):
        start_server(tmp_path / "nowhere", "name", ServingSettings())


class TestPlanning:
    @pytest.fixture(autouse=True)
    def _no_installed_vllm(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv(VLLM_PYTHON_VARIABLE, raising=False)
        monkeypatch.setattr(engines, "_OWN_ENVIRONMENT", tmp_path / "nowhere")
        self.kinds: dict[str, str] = {}

        def probe(python: str) -> VLLMInstallation | None:
            kind = self.kinds.get(python)
            return kind and VLLMInstallation(python, kind == "cpu")

        monkeypatch.setattr(engines, "_probe", probe)

    def test_vllm_gives_unscaled_probabilities_and_listens_here_only(self, tmp_path: Path) -> None:
        self.kinds["/gpu/python"] = "gpu"
        settings = ServingSettings(
            python="/gpu/python", dtype="bfloat16", extra_arguments=("--max-num-batched-tokens=8",)
        )
        launch = plan_launch(tmp_path, "mine#1", 8000, settings)
        assert launch.engine == "vllm"
        assert launch.command == (
            "/gpu/python",
            "-m",
            "vllm.entrypoints.openai.api_server",
            f"--model={tmp_path}",
            "--served-model-name=mine#1",
            "--host=127.0.0.1",
            "--port=8000",
            "--dtype=bfloat16",
            "--logprobs-mode=raw_logprobs",
            "--generation-config=vllm",
            "--max-num-batched-tokens=8",
        )
        assert launch.model_name == "mine#1"
        assert "VLLM_SERVER_DEV_MODE" not in launch.environment

    def test_a_cpu_gets_what_vllm_needs_there(self, tmp_path: Path) -> None:
        self.kinds["/cpu/python"] = "cpu"
        settings = ServingSettings(
            python="/cpu/python", max_model_tokens=512, max_sequences=8, cpu_cache_gb=2
        )
        launch = plan_launch(tmp_path, "m", 1, settings)
        assert {"--max-model-len=512", "--max-num-seqs=8", "--gpu-memory-utilization=0.5"} < set(
            launch.command
        )
        assert "--enforce-eager" in launch.command
        assert launch.environment["VLLM_CPU_KVCACHE_SPACE"] == "2"

    def test_weights_can_be_replaced_only_where_that_is_asked_for(self, tmp_path: Path) -> None:
        self.kinds["/gpu/python"] = "gpu"
        settings = ServingSettings(python="/gpu/python")
        launch = plan_launch(tmp_path, "m", 1, settings, is_refreshable=True)
        assert launch.environment["VLLM_SERVER_DEV_MODE"] == "1"

    def test_the_environment_variable_names_an_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds |= {"/named/python": "gpu", sys.executable: "cpu"}
        assert find_vllm().python == sys.executable
        monkeypatch.setenv(VLLM_PYTHON_VARIABLE, "/named/python")
        assert find_vllm().python == "/named/python"
        assert find_vllm(sys.executable).python == sys.executable

    def test_an_interpreter_without_vllm_is_named(self) -> None:
        with pytest.raises(ServingError, match="/empty/python has no vLLM"):
            find_vllm("/empty/python")

    @pytest.mark.parametrize("engine", ["auto", "transformers"])
    def test_without_vllm_transformers_serves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
    ) -> None:
        monkeypatch.setattr(engines, "find_spec", lambda package: object())
        launch = plan_launch(tmp_path, "m", 8000, ServingSettings(engine=engine))
        assert launch.engine == "transformers"
        assert launch.model_name == str(tmp_path)
        assert launch.command[1:5] == ("-m", "transformers.cli.transformers", "serve", str(tmp_path))
        assert launch.command[5:] == ("--host", "127.0.0.1", "--port", "8000", "--dtype", "auto")

    def test_what_transformers_lacks_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engines, "find_spec", lambda package: None if package == "openai" else object())
        with pytest.raises(MissingExtraError, match=r"openai is not installed.*\[serve\]"):
            plan_launch(tmp_path, "m", 8000, ServingSettings())

    @pytest.mark.parametrize(("engine", "is_refreshable"), [("vllm", False), ("auto", True)])
    def test_what_only_vllm_does_asks_for_it(self, tmp_path: Path, engine: str, is_refreshable: bool) -> None:
        with pytest.raises(ServingError, match="make install-vllm"):
            plan_launch(tmp_path, "m", 8000, ServingSettings(engine=engine), is_refreshable)


def test_an_interpreter_is_asked_whether_it_has_vllm(tmp_path: Path) -> None:
    def interpreter(name: str, *distributions: str) -> str:
        """Make an interpreter whose only packages are empty ones, installed under these names."""
        packages = tmp_path / name
        (packages / "vllm").mkdir(parents=True)
        (packages / "vllm" / "__init__.py").touch()
        for distribution in distributions:
            metadata = packages / f"{distribution.replace('-', '_')}-1.0.dist-info" / "METADATA"
            metadata.parent.mkdir()
            metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        script = tmp_path / f"{name}-python"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
        script.chmod(0o755)
        return str(script)

    on_cpu, on_gpu = interpreter("cpu", "vllm-cpu"), interpreter("gpu", "vllm")
    assert engines._probe(on_cpu) == VLLMInstallation(on_cpu, is_cpu=True)
    assert engines._probe(on_gpu) == VLLMInstallation(on_gpu, is_cpu=False)
    assert engines._probe(interpreter("folder")) is None
    assert engines._probe("/no/such/interpreter") is None
