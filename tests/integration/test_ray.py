"""The command line on a Ray cluster of two machines on this one, of which one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tantivy")
pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

from fakes.command_line import CommandLine  # noqa: E402
from fakes.comparable import comparable, trajectories  # noqa: E402

from masksearch_agent.config.recipe import load_recipe  # noqa: E402
from masksearch_agent.evaluation.results import read_results  # noqa: E402
from masksearch_agent.lab.recipe import LabRecipe  # noqa: E402
from masksearch_agent.stages.base import make_base_bundle  # noqa: E402
from masksearch_agent.stages.plan import prompts_of  # noqa: E402
from masksearch_agent.traces.store import TraceStore  # noqa: E402

pytestmark = pytest.mark.slow

WORLD = (
    "world={train_entities: 120, test_entities: 20, train_questions: [{hops: 2, count: 100}], "
    "test_questions: [{hops: 2, count: 12}]}"
)
SETTINGS = (
    WORLD,
    "retrieval.mode=bm25",
    "prompts=compact",
    "evaluation.bootstrap_samples=100",
    "agent.max_step_tokens=24",
)
OPTIONS = tuple(part for setting in SETTINGS for part in ("--set", setting))
OBJECT_STORE_BYTES = 80 * 2**20
TOO_SLOW = "timed out during startup"
"""Ray gives a node 30 seconds, which is not enough on a busy machine; then it is started again."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a head and a second node of one core each, which listen on 127.0.0.1 only."""
    # Workers of niceness 15, as Ray has them, get no core at all on a busy machine; those started ahead cost one.
    ahead = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
    os.environ.update({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0", **ahead})
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    for attempts_left in (2, 1, 0):
        cluster = Cluster(shutdown_at_exit=True)
        try:
            cluster.add_node(**node)
            cluster.add_node(**node)
            break
        except Exception as failure:
            if TOO_SLOW not in str(failure) or not attempts_left:
                raise
            if cluster.head_node is not None:
                cluster.shutdown()
    yield cluster
    cluster.shutdown()


def is_at_work(raylet: Any) -> bool:
    """Return whether a worker of a node is doing a shard; Ray names its processes after what they do."""
    names = []
    for child in raylet.children(recursive=True):
        try:
            names.append(" ".join(child.cmdline()))
        except psutil.Error:
            continue
    return any(name.startswith("ray::do_shard") for name in names)


def kill_node_at_work(cluster: Any, store: Path, done_at_kill: list[int]) -> None:
    """Wait until some trajectories are stored and the second node does a shard; then kill the node."""
    [node] = cluster.worker_nodes
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    deadline_s = time.monotonic() + 300
    while time.monotonic() < deadline_s:
        if store.is_file() and is_at_work(raylet):
            with TraceStore(store) as opened:
                done = opened.count()
            if done and is_at_work(raylet):
                cluster.remove_node(node, allow_graceful=False)
                done_at_kill.append(done)
                return
        time.sleep(0.002)


LISTENING = """
import json, psutil
from masksearch_agent.cluster.ray_pool import RayPool
from masksearch_agent.config.engine import EngineSettings
with RayPool(EngineSettings(name="ray", workers=1)) as pool:
    assert pool.worker_count == 1
    own = psutil.Process()
    sockets = [s for p in (own, *own.children(recursive=True)) for s in p.net_connections("tcp")]
print(json.dumps([s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN]))
"""


def test_a_cluster_of_this_machine_listens_on_loopback_only() -> None:
    without = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in without}
    for _ in range(3):
        ran = subprocess.run(
            [sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True, check=False
        )
        if TOO_SLOW not in ran.stderr:
            break
    assert ran.returncode == 0, ran.stderr
    addresses = json.loads(ran.stdout.splitlines()[-1])
    assert len(addresses) >= 4  # The head's two services, the node, this driver.
    assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_two_nodes_give_what_one_process_gives_and_one_that_is_killed_costs_nothing(
    cluster: Any, run: CommandLine
) -> None:
    def do(*command: object) -> Any:
        return run(*command, *OPTIONS, "--json").json

    def on_ray(shard_size: int) -> tuple[str, ...]:
        return (
            "--engine",
            "ray",
            "--ray-address",
            cluster.address,
            "--set",
            f"engine.shard_size={shard_size}",
        )

    do("world", "--out", "world")
    do("index", "world/passages.jsonl", "--out", "index")

    masking = ("ramp", "world/train", "--index", "index", "--out")
    masked = do(*masking, "one.jsonl")
    assert do(*masking, "two.jsonl", *on_ray(60)) == masked | {"tasks": "two.jsonl"}
    assert Path("two.jsonl").read_bytes() == Path("one.jsonl").read_bytes()
    assert masked["kept"] > 200

    recipe = load_recipe(None, SETTINGS, LabRecipe)
    make_base_bundle("tiny", recipe.name, prompts_of(recipe), recipe.agent, Path("agent"), "../index")
    evaluation = ("eval", "--agent", "agent", "--data", "world/questions/qa_2hop_test.jsonl", "--out")
    scores = do(*evaluation, "one")["qa_2hop_test"]
    scores_on_ray = do(*evaluation, "two", *on_ray(64))["qa_2hop_test"]
    assert scores_on_ray | {"seconds": 0} == scores | {"seconds": 0}
    one, two = (
        comparable(read_results(Path(folder, "qa_2hop_test-agentic.jsonl"))) for folder in ("one", "two")
    )
    assert two == one
    assert len(one) == 12

    generating = ("generate", "one.jsonl", "--index", "index", "--out")
    made = do(*generating, "one.sqlite")
    expected = trajectories(Path("one.sqlite"))
    done_at_kill: list[int] = []
    killer = threading.Thread(target=kill_node_at_work, args=(cluster, Path("two.sqlite"), done_at_kill))
    killer.start()
    made_on_ray = do(*generating, "two.sqlite", *on_ray(30))
    killer.join()
    assert trajectories(Path("two.sqlite")) == expected
    assert made_on_ray == made | {"traces": "two.sqlite"}
    [done] = done_at_kill
    assert 0 < done < len(expected)

    nothing = {"accepted": 0, "rejected": 0, "reasons": {}, "skipped": len(expected)}
    assert do(*generating, "two.sqlite", *on_ray(30)) == made | {"traces": "two.sqlite"} | nothing
    assert trajectories(Path("two.sqlite")) == expected
