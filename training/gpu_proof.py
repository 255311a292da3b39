"""One command for a machine with a GPU: is it right, does it train, how fast is it, how much memory does it take.

    python training/gpu_proof.py --data brought/data --model runs/models/smollm2-135m
    python training/gpu_proof.py --device cpu --small

Parts run in order of worth, each as a process of its own with a time limit; what a part had measured when its time was
over is kept, and a part that fails costs itself. `gpu.json` is written after each part, and goes on from an earlier
call's, so that `--parts` can divide the work; `gpu.md` is the page made of it. Both go to `docs/results` too.
docs/gpu.md says what has to be brought to a machine without a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_page import page_of, read_junit  # noqa: E402

NEEDED = (
    "accelerate", "datasets", "jinja2", "langchain_core", "langgraph", "masksearch_agent", "peft", "pydantic",
    "pytest", "pytest_asyncio", "safetensors", "tantivy", "tenacity", "torch", "transformers", "trl", "typer",
)  # fmt: skip
RESULTS = ROOT / "docs" / "results"
"""Where the page goes too, unless it is of a model that means nothing."""
TAIL_LINES = 40
GRACE_S = 10.0


@dataclass(frozen=True)
class Part:
    """A question that a process answers."""

    name: str
    limit_s: float
    small_limit_s: float = 600.0
    """On a CPU, which others may be using too."""


PARTS = (Part("correct", 90), Part("real", 330), Part("rollouts", 130), Part("step", 200))


def command_of(part: Part, arguments: argparse.Namespace, result: Path) -> list[str]:
    """Return the command of a part, which writes `result`."""
    python = [sys.executable]
    small = ["--small"] if arguments.small else []
    if part.name == "correct":
        chosen = ["-m", "not slow"] if arguments.small else []
        return [*python, "-m", "pytest", str(ROOT / "tests" / "gpu"), "-p", "no:cacheprovider", *chosen,
                f"--junitxml={result.with_suffix('.xml')}"]  # fmt: skip
    if part.name == "real":
        brought = ["--data", str(arguments.data)] if arguments.data else []
        brought += ["--model", str(arguments.model)] if arguments.model else []
        # Loading and the questions are not in the shares that it divides.
        seconds = ["--seconds", str(part.limit_s - 30), "--out", str(arguments.out / "real_run")]
        return [
            *python,
            str(ROOT / "training" / "gpu_real_run.py"),
            *brought,
            *seconds,
            *small,
            "--json",
            str(result),
        ]
    script = str(ROOT / "benchmarks" / f"gpu_{part.name}.py")
    return [*python, script, "--device", arguments.device, *small, "--json", str(result)]


def run_part(part: Part, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a part for as long as it may take, and return what it measured."""
    result = arguments.out / f"{part.name}.json"
    result.unlink(missing_ok=True)
    result.with_suffix(".xml").unlink(missing_ok=True)
    command = command_of(part, arguments, result)
    limit_s = part.small_limit_s if arguments.small else part.limit_s
    log = arguments.out / f"{part.name}.log"
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment_of(arguments), stdout=written, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        is_over = stop_at_limit(process, limit_s)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        "command": shown(command, arguments.out),
        "exit_code": process.returncode,
        "out_of_time": is_over,
        "seconds": round(time.perf_counter() - started, 1),
        "tail": lines[-TAIL_LINES:],
        "result": read_result(result),
    }


def shown(command: Sequence[str], out: Path) -> str:
    """Return a command as it is called in the root of the repository, without the paths of one machine."""
    text = " ".join(command).replace(sys.executable, "python")
    return text.replace(f"{out}/", "OUT/").replace(f"{ROOT}/", "")


def stop_at_limit(process: subprocess.Popen[Any], limit_s: float) -> bool:
    """Wait for a process; at its limit end it and what it started, and return that it was so."""
    try:
        process.wait(limit_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


def environment_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a part, which sees no GPU where it is to run on the CPU."""
    chosen = {"MASKSEARCH_TEST_DEVICE": arguments.device, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    if arguments.device == "cpu":
        chosen["CUDA_VISIBLE_DEVICES"] = ""
    return {**os.environ, **chosen}


def read_result(result: Path) -> dict[str, Any]:
    """Return what a part wrote; nothing where it came to write nothing."""
    if result.is_file():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    junit = result.with_suffix(".xml")
    return read_junit(junit.read_text(encoding="utf-8")) if junit.is_file() else {}


def describe_machine(device: str) -> dict[str, Any]:
    """Return what torch sees; refuse a machine that lacks what the parts need."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"missing here: {', '.join(missing)}; bring them as wheels (training/gpu_transfer.sh)"
        )
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; `--device cpu --small` shows that everything runs")
    described = {
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
        "python": sys.version.split()[0],
        **{name: metadata.version(name) for name in ("torch", "transformers", "trl")},
    }
    if device == "cuda":
        described["memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return described


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; 1 where one of them failed or was out of time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument(
        "--small", action="store_true", help="Models that mean nothing: shows that all parts run."
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", default=names, choices=names)
    parser.add_argument("--data", type=Path, help="For the real run: what gpu_transfer.sh made.")
    parser.add_argument("--model", type=Path, help="For the real run: the checkpoint.")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_proof"))
    arguments = parser.parse_args(argv)
    if arguments.device == "cpu" and not arguments.small:
        parser.error("a CPU would take days; pass --small")
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = arguments.out / "gpu.json"
    found = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {"parts": {}}
    found |= {"machine": describe_machine(arguments.device), "is_small": arguments.small}
    for part in PARTS:
        if part.name not in arguments.parts:
            continue
        sys.stdout.write(f"{part.name} …\n")
        sys.stdout.flush()
        found["parts"][part.name] = done = run_part(part, arguments)
        for folder in (arguments.out, *(() if arguments.small else (RESULTS,))):
            (folder / "gpu.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            (folder / "gpu.md").write_text(page_of(found), encoding="utf-8")
        sys.stdout.write(f"  exit code {done['exit_code']} after {done['seconds']} s\n")
    failed = [name for name in arguments.parts if found["parts"][name]["exit_code"]]
    sys.stdout.write(
        f"page: {arguments.out / 'gpu.md'}; failed or out of time: {', '.join(failed) or 'nothing'}\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
