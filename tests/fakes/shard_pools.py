"""A cluster in this process, which finishes shards in another order than it was given them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import islice

from masksearch_agent.cluster.shards import Job, Json, Shard
from masksearch_agent.cluster.work import do_shard


class ShuffledPool:
    """Does shards here, a few at a time in a random order.

    Args:
        stops_after: Raise `KeyboardInterrupt` in place of the result after this many.
        seed: Of the order.
    """

    worker_count = 3

    def __init__(self, stops_after: int | None = None, seed: int = 0) -> None:
        self.stops_after = stops_after
        self.finished: list[Shard] = []
        self._chance = random.Random(seed)

    def do(self, job: Job, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Json]]:
        json.dumps(job.spec)  # Raises where something else than plain data would have to cross.
        stream = iter(shards)
        while wave := list(islice(stream, 2 * self.worker_count)):
            self._chance.shuffle(wave)
            for shard in wave:
                if len(self.finished) == self.stops_after:
                    raise KeyboardInterrupt
                result = do_shard(job, json.loads(json.dumps(shard.items)))
                assert "error" not in result, result
                self.finished.append(shard)
                yield shard, result
