"""Shards on Ray: plain remote tasks, which Ray moves to another machine when theirs dies.

A worker process keeps what it opened for its first shard (`cluster.work`), so tasks do without actors, and machines may
come and go during a run. A result is consumed once, whatever was computed twice on the way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any, Self

from masksearch_agent.cluster.shards import Job, Json, Shard
from masksearch_agent.cluster.work import do_shard
from masksearch_agent.config.engine import EngineSettings
from masksearch_agent.errors import ClusterError, needs_extra

__all__ = ("RayPool",)

_MAX_RETRIES = 10
"""Workers that may die under one shard. Spot machines take a few; a shard that ends every worker must end the run."""
_SHARDS_PER_WORKER = 2
"""One at work and one that waits, so that no worker waits for the driver."""
_OBJECT_STORE_BYTES = 128 * 2**20
"""Shared memory of a cluster of our own. Results wait there for the driver, some megabytes each."""
_LOOPBACK = "127.0.0.1"
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Read by Ray when it is imported. Off, it binds to 127.0.0.1; on, as is Linux's default, to every interface, even
where `ray.init` is given 127.0.0.1 as the node's address."""

logger = logging.getLogger(__name__)


class RayPool:
    """A connection to a Ray cluster, while its context lasts.

    A connection that the application has made with `ray.init` is used and left open.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: The cluster cannot be reached or started.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._cpus_per_worker = settings.cpus_per_worker
        self._ray, self._is_ours = _connect(settings)
        self._task = self._ray.remote(
            num_cpus=settings.cpus_per_worker, max_retries=_MAX_RETRIES, scheduling_strategy="SPREAD"
        )(do_shard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A cluster that was started here ends with its driver.
        if self._is_ours:
            self._ray.shutdown()

    @property
    def worker_count(self) -> int:
        """Workers that fit on the machines of this moment; at least 1, for a cluster that has yet to grow."""
        cpus = self._ray.cluster_resources().get("CPU", 0.0)
        return max(int(cpus / self._cpus_per_worker), 1)

    def do(self, job: Job, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Json]]:
        """Do shards; see `ShardPool.do`."""
        pending: dict[Any, Shard] = {}
        try:
            for shard in shards:
                while len(pending) >= _SHARDS_PER_WORKER * self.worker_count:
                    yield self._next(pending)
                pending[self._task.remote(job, shard.items)] = shard
            while pending:
                yield self._next(pending)
        finally:
            for reference in pending:
                self._ray.cancel(reference, force=True)

    def _next(self, pending: dict[Any, Shard]) -> tuple[Shard, Json]:
        """Wait for a result and take it and its shard from those that are pending."""
        [reference], _ = self._ray.wait(list(pending), num_returns=1)
        shard = pending.pop(reference)
        try:
            result: Json = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise  # A fault of ours: Ray shows the worker's own traceback.
        except self._ray.exceptions.RayError as failure:
            raise ClusterError(
                f"shard {shard.name} of {len(shard.items)} items has no result after {_MAX_RETRIES + 1} attempts: "
                f"{str(failure).strip().splitlines()[0]}; see Ray's logs of the worker, and whether its memory is "
                "enough (fewer workers a machine: engine.cpus_per_worker)"
            ) from failure
        if "error" in result:
            raise ClusterError(f"a worker on {result['host']} cannot go on: {result['error']}")
        return shard, result


def _connect(settings: EngineSettings) -> tuple[Any, bool]:
    """Return Ray, connected, and whether the connection is ours to close."""
    address = settings.ray_address or os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault(_LOOPBACK_SWITCH, "0")
    with needs_extra("ray"):
        import ray
    if ray.is_initialized():
        return ray, False
    options: dict[str, Any] = {"address": address}
    if not address:
        cpus = int(max(settings.workers * settings.cpus_per_worker, 1)) if settings.workers else None
        # "local" never joins a cluster that happens to run on this machine.
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options |= {"_node_ip_address": _LOOPBACK, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except Exception as failure:  # Ray raises bare ones, for example where a node takes over 30 s to start.
        where = f"join the Ray cluster at {address}" if address else "start a Ray cluster on this machine"
        raise ClusterError(f"cannot {where}: {failure}; see docs/cluster.md") from failure
    if not address and ray.util.get_node_ip_address() != _LOOPBACK:
        ray.shutdown()
        raise ClusterError(
            f"Ray would listen on every interface, because it was imported before this run; set {_LOOPBACK_SWITCH}=0 "
            "in the environment, or connect with `ray.init` yourself"
        )
    return ray, True
