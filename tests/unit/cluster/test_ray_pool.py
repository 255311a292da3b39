"""The connection to Ray, without Ray."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from masksearch_agent.cluster.ray_pool import RayPool
from masksearch_agent.cluster.shards import Job, Shard
from masksearch_agent.config.engine import EngineSettings
from masksearch_agent.errors import ClusterError, MissingExtraError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class FakeRay:
    """As much of Ray as the pool touches; a shard's reference is its number."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, results: list[Any], node_ip: str = "127.0.0.1", is_initialized: bool = False) -> None:
        self.results = results
        self.options: dict[str, Any] = {}
        self.started = 0
        self.most_pending = 0
        self.cancelled: list[int] = []
        self.is_down = False
        self.is_initialized = lambda: is_initialized
        self.util = SimpleNamespace(get_node_ip_address=lambda: node_ip)

    def init(self, **options: Any) -> None:
        self.options = options

    def shutdown(self) -> None:
        self.is_down = True

    def remote(self, **options: Any) -> Any:
        def submit(job: Job, items: object) -> int:
            self.started += 1
            return self.started - 1

        return lambda function: SimpleNamespace(remote=submit)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def wait(self, references: list[int], num_returns: int) -> tuple[list[int], list[int]]:
        self.most_pending = max(self.most_pending, len(references))
        return references[-1:], references[:-1]

    def get(self, reference: int) -> Any:
        if isinstance(self.results[reference], Exception):
            raise self.results[reference]
        return self.results[reference]

    def cancel(self, reference: int, force: bool) -> None:
        self.cancelled.append(reference)


JOB = Job("generate", {})
SHARDS = [Shard(f"s{number}", [{"n": number}]) for number in range(9)]


def connect(monkeypatch: pytest.MonkeyPatch, ray: FakeRay, **settings: Any) -> RayPool:
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    return RayPool(EngineSettings(name="ray", **settings))


def test_every_shard_comes_with_its_own_result_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([{"value": number} for number in range(9)])
    with connect(monkeypatch, ray) as pool:
        done = [(shard.name, result["value"]) for shard, result in pool.do(JOB, SHARDS)]
    assert done != sorted(done)
    assert sorted(done) == [(f"s{number}", number) for number in range(9)]
    assert ray.most_pending == 4  # Two for each of two workers.
    assert ray.is_down


def test_a_shard_that_ends_worker_after_worker_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([{}, RayError("The worker died.\nMore."), {}, {}])
    with (
        connect(monkeypatch, ray) as pool,
        pytest.raises(ClusterError, match=r"shard s1 of 1 items .* 11 attempts: The worker died\.; see"),
    ):
        list(pool.do(JOB, SHARDS[:4]))
    assert ray.cancelled == [0]


def test_what_a_worker_cannot_do_names_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([{"error": "no index in /data", "host": "node-7"}])
    with (
        connect(monkeypatch, ray) as pool,
        pytest.raises(ClusterError, match="a worker on node-7 cannot go on: no index in /data"),
    ):
        list(pool.do(JOB, SHARDS[:1]))


def test_without_an_address_a_cluster_of_this_machine_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([])
    connect(monkeypatch, ray, workers=3)
    assert ray.options["address"] == "local"
    assert (ray.options["num_cpus"], ray.options["include_dashboard"]) == (3, False)


def test_a_cluster_of_this_machine_that_others_could_reach_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay([], node_ip="192.0.2.7")
    with pytest.raises(ClusterError, match="would listen on every interface"):
        connect(monkeypatch, ray)
    assert ray.is_down


@pytest.mark.parametrize("is_setting", [True, False])
def test_a_running_cluster_is_joined_by_setting_or_environment(
    monkeypatch: pytest.MonkeyPatch, is_setting: bool
) -> None:
    ray = FakeRay([], node_ip="192.0.2.7")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_ADDRESS", "other:6379" if is_setting else "head:6379")
    RayPool(EngineSettings(ray_address="head:6379" if is_setting else None))
    assert ray.options["address"] == "head:6379"
    assert "num_cpus" not in ray.options
    assert not ray.is_down


def test_a_connection_of_the_application_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([], is_initialized=True)
    with connect(monkeypatch, ray):
        pass
    assert (ray.options, ray.is_down) == ({}, False)


def test_a_missing_ray_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed; .*masksearch-agent\[ray\]"):
        RayPool(EngineSettings())
