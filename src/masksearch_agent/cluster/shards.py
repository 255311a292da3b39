"""What passes between the driver of a run and its workers.

The driver owns everything that is written. Workers hold no state but what they can open again, so a shard can be done
anywhere, in any order, and a second time where its worker died.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from masksearch_agent.records import content_id

__all__ = ("Job", "Json", "Shard", "ShardPool", "WorkName", "cut_shards")

Json = dict[str, Any]
"""An object of plain data, so that a worker needs nothing of the driver's memory."""

WorkName = Literal["generate", "mask", "answer"]


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every shard of a run."""

    work: WorkName
    spec: Json
    """What a worker opens before its first shard: the recipe, and absolute paths that every machine sees."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A portion of a run's items. `name` depends on them and on the job only, so a restart finds it again."""

    name: str
    items: Sequence[Json]


class ShardPool(Protocol):
    """Workers that do shards."""

    @property
    def worker_count(self) -> int:
        """Workers at this moment; at least 1."""
        ...

    def do(self, job: Job, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Json]]:
        """Yield every shard with its result, once each, in the order in which they are finished.

        Shards are read as the run goes: a few more than there are workers.

        Raises:
            ClusterError: A worker cannot do its part, or a shard ended too many workers.
        """
        ...


def cut_shards(items: Iterable[Mapping[str, Any]], size: int, job: Job) -> Iterator[Shard]:
    """Cut a stream of items, read as the run goes, into shards of `size`; the last one may be smaller."""
    key = content_id(job.work, job.spec)
    stream = iter(items)
    while portion := [dict(item) for item in islice(stream, size)]:
        yield Shard(content_id(key, portion), portion)
