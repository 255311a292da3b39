"""The command that is prepared for a machine with a GPU runs, part by part, on this one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from fakes.scripts import load_script
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "gpu_proof.py"


@pytest.mark.slow
def test_every_part_runs_and_is_on_the_page(tmp_path: Path) -> None:
    # What `correct` runs, tests/gpu, this suite runs itself.
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(tmp_path)]
    ran = subprocess.run(
        [*command, "--parts", "real", "rollouts", "step"], capture_output=True, text=True, check=False
    )
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert ran.returncode == 0, [part["tail"] for part in found["parts"].values() if part["exit_code"]]
    real, rollouts, step = (found["parts"][name]["result"] for name in ("real", "rollouts", "step"))
    assert [stage["stage"] for stage in real["stages"]] == ["ramp_sft", "qa_sft", "qa_dapo"]
    assert all(stage["tokens"] > 0 for stage in real["stages"])
    assert [(one["stage"], one["n"]) for one in real["scores"]] == [
        ("ramp_sft", 4),
        ("qa_sft", 4),
        ("qa_dapo", 4),
    ]
    assert [row["turns"] for row in rollouts["rows"] if row["what"] == "rollouts"] == [24]
    assert {row["what"] for row in rollouts["rows"]} == {"decode step", "rollouts", "generate"}
    assert {row["trainer"] for row in step["rows"] if row["what"] == "DAPO step"} == {
        "DAPOTrainer",
        "GRPOTrainer",
    }
    assert len([row for row in step["rows"] if row["what"] == "memory"]) == 2
    page = (tmp_path / "gpu.md").read_text()
    assert "`python benchmarks/gpu_step.py --device cpu --small --json OUT/step.json`: exit code 0" in page
    for told in ("none of its numbers means anything", "## A real run", "| engine over generate, 8 at once |",
                 "| DAPO step over TRL's | at most 0.7 |", "| share of the chip's peak | at least 0.35 |"):  # fmt: skip
        assert told in page


def required_by(name: str, extras: set[str], known: set[str]) -> set[str]:
    """Return the installed distributions that one needs, those that they need included, in one spelling."""
    for requirement in map(Requirement, metadata.requires(name) or ()):
        spelt = canonicalize_name(requirement.name)
        is_asked = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}
        )
        if is_asked and (spelt not in known or requirement.extras):
            known.add(spelt)
            with suppress(metadata.PackageNotFoundError):
                required_by(requirement.name, requirement.extras, known)
    return known


def test_what_is_brought_and_needed_is_what_the_package_asks_for() -> None:
    # An environment that has been used for long may hold what is not asked for any more.
    asked_for = required_by("masksearch-agent", {"dev"}, {"masksearch-agent"})
    script = (ROOT / "training" / "gpu_transfer.sh").read_text()
    brought = script.partition("packages=(")[2].partition(")")[0].split()
    assert set(map(canonicalize_name, brought)) - asked_for == set()
    assert set(map(canonicalize_name, load_script(SCRIPT).NEEDED)) - asked_for == set()


def test_a_part_that_is_out_of_time_keeps_what_it_measured(tmp_path: Path) -> None:
    proof = load_script(SCRIPT)
    script = tmp_path / "slow.py"
    script.write_text("import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, str(script)], start_new_session=True) as process:
        assert proof.stop_at_limit(process, 0.2)
    assert process.returncode != 0
    assert time.perf_counter() - started < 30
    (tmp_path / "step.json").write_text('{"rows": [{"what": "ratio", "dapo_over_trl": 0.5}]}')
    ended = {"command": "c", "out_of_time": True, "exit_code": -15, "seconds": 1, "tail": [],
             "result": proof.read_result(tmp_path / "step.json")}  # fmt: skip
    nothing = {**ended, "result": {}, "tail": ["the last thing it said"]}
    page = proof.page_of(
        {"machine": {"device": "x"}, "is_small": False, "parts": {"rollouts": nothing, "step": ended}}
    )
    assert "`c`: out of time after 1 s." in page
    assert "| DAPO step over TRL's | at most 0.7 | 0.5 | yes |" in page
    assert "It measured nothing. The end of what it said:\n\n```\nthe last thing it said\n```" in page


def test_the_tests_that_ran_are_counted_with_what_they_recorded(tmp_path: Path) -> None:
    proof = load_script(SCRIPT)
    (tmp_path / "correct.xml").write_text(
        '<testsuites><testsuite><testcase name="a"><properties><property name="difference" value="2e-05"/>'
        '</properties></testcase><testcase name="b"><failure message="m"/></testcase><testcase name="c"><skipped/>'
        "</testcase></testsuite></testsuites>"
    )
    result = proof.read_result(tmp_path / "correct.json")
    part = {"command": "c", "out_of_time": False, "exit_code": 1, "seconds": 1, "tail": [], "result": result}
    page = proof.page_of({"machine": {}, "is_small": False, "parts": {"correct": part}})
    assert "1 passed, 1 failed, 1 skipped." in page
    assert "| a | passed | 2e-05 |" in page
    assert "| b | failed | – |" in page
