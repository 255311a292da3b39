"""What results depend on (packages, cores), as reports and bundles keep it; what the processor can do; its memory."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = (
    "computes_bfloat16",
    "is_first_process",
    "package_versions",
    "process_count",
    "release_memory",
    "sharing_threads",
    "usable_cores",
)

_PACKAGES = [
    "masksearch-agent",
    "torch",
    "transformers",
    "trl",
    "langgraph",
    "langchain-core",
    "chromadb",
    "tantivy",
]


def package_versions() -> dict[str, str]:
    """Return the versions of those that are installed."""
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def is_first_process() -> bool:
    """Whether this is the first, or the only one, of the processes that torchrun or accelerate launched."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Return how many processes torchrun or accelerate launched to train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def usable_cores() -> int:
    """Return how many processor cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_bfloat16() -> bool:
    """Whether torch is to compute in bfloat16 here: on a GPU, on CPUs that multiply matrices of it (AMX), and on AMD's
    with AVX-512 of it, which take two thirds of the time of float32 (`benchmarks/precision.py`).

    Intel's without AMX take twice as long in bfloat16 and those with AVX2 fifty times, so what a recipe or a
    checkpoint holds in it is computed in float32 there.
    """
    import torch

    if torch.cuda.is_available() or torch.cpu._is_amx_tile_supported():
        return True
    ask = getattr(torch.cpu, "get_capabilities", None)  # Older versions cannot be asked.
    capabilities = ask() if ask is not None else {}
    return bool(capabilities.get("avx512_bf16")) and capabilities["cpu_name"].startswith("AMD")


@contextmanager
def sharing_threads(parts: int) -> Iterator[None]:
    """Give torch its share of the threads on a CPU, where several parts of a process compute at once.

    With as many threads as cores each, they would wait for each other's. It holds for threads that start within.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // parts))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def release_memory() -> None:
    """Give what is not used any more back to the system: between two models, the first would stay beside the second.

    An agent, its graph and its model know each other in circles, and glibc keeps what torch has freed. All
    objects of the process are looked through for it, which takes half a second in a large one.
    """
    gc.collect()
    with suppress(AttributeError, OSError):  # Of another C library.
        ctypes.CDLL(None).malloc_trim(0)
