"""Settings of model servers, and of what samples the rollouts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("RolloutEngineSettings", "ServingSettings")


class ServingSettings(Settings):
    """How a model server is started."""

    engine: Literal["auto", "vllm", "transformers"] = "auto"
    """`auto` is vLLM where it is installed, else transformers' own server, which gives text only."""
    python: str = ""
    """Interpreter that has vLLM. Empty looks at the variable `MASKSEARCH_VLLM_PYTHON`, at `.venv-vllm/bin/python` and
    at this interpreter."""
    host: str = "127.0.0.1"
    """Address to listen on; no request is authenticated, so think before opening it."""
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_tokens: int | None = Field(default=None, gt=0)
    """Prompt and reply together; None is what the model was made for. vLLM only."""
    max_sequences: int | None = Field(default=None, gt=0)
    """Sequences sampled together at most; None is vLLM's default."""
    memory_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory that vLLM takes. None is vLLM's default on a GPU, and half on a CPU, where the
    default refuses to start beside anything else."""
    cpu_cache_gb: int = Field(default=1, gt=0)
    """Memory for keys and values on a CPU, in GiB."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    extra_arguments: tuple[str, ...] = ()
    """Further arguments of the server's command line, such as `--tensor-parallel-size=2`."""


class RolloutEngineSettings(Settings):
    """What samples the rollouts of DAPO."""

    rollout_engine: Literal["local", "vllm"] = "local"
    """`local` samples from the very weights that are trained; `vllm` from a server that gets them before each batch of
    rollouts."""
    reproducible: bool | None = None
    """Whether rollouts of the `local` engine are the same to the last bit in every run of one seed, whatever their
    timing (`models.lockstep`). None: on a CPU, where they search an index. A search that takes seconds holds up all
    rollouts of a batch."""
    base_url: str = ""
    """A running vLLM server; empty starts one, as `serving` says, for the length of the run."""
    weight_sync: Literal["disk", "nccl"] = "disk"
    """How weights reach the server. `disk` works everywhere, the server's machine has to see the run folder; `nccl` is
    TRL's transfer between GPUs, and needs a `base_url`."""
    max_concurrent_requests: int = Field(default=64, gt=0)
