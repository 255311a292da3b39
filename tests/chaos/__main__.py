"""Stops commands in every way there is, and tells what was lost: `make chaos`, or `python tests/chaos --seed 0`.

It stands among the tests because it uses their fakes, and is no test of the suite because it takes minutes and draws
its moments. What it finds gets a small test there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(HF_HUB_OFFLINE="1", ANONYMIZED_TELEMETRY="False", TOKENIZERS_PARALLELISM="false")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import trl  # noqa: E402, F401 (before the forks, so that none of them imports it)
from commands import Fault, make_commands  # noqa: E402
from hostile import hostile_text  # noqa: E402
from interruptions import full_disks, kills, pairs, scarce, signals  # noqa: E402
from leaks import long_run  # noqa: E402
from reporting import finish, make_parser, print_table  # noqa: E402

import masksearch_agent.trainers.dapo  # noqa: E402
import masksearch_agent.trainers.exam  # noqa: E402, F401

_MOST_SHOWN = 20
PARTS = ("kills", "signals", "disks", "scarce", "pairs", "hostile", "leaks")


def main(arguments: argparse.Namespace) -> int:
    """Run the parts and print what they found; return how many faults there were."""
    rows: list[tuple[str, int, str]] = []
    faults: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="masksearch-chaos-"))
    commands = []
    if set(arguments.only) & {"kills", "signals", "disks", "scarce", "pairs"}:
        commands = make_commands(folder / "base", arguments.seed)
    parts = {
        "kills": lambda: kills(commands, folder, arguments.kills, arguments.seed),
        "signals": lambda: signals(commands, folder, arguments.signals, arguments.seed),
        "disks": lambda: full_disks(commands, folder, arguments.disks, arguments.seed),
        "scarce": lambda: scarce(commands, folder, arguments.disks, arguments.seed),
        "pairs": lambda: pairs(commands, folder, arguments.pairs, arguments.seed),
        "hostile": lambda: hostile_text(arguments.passages, arguments.seed, arguments.tokenizer),
        "leaks": lambda: long_run(arguments.calls),
    }
    for name in arguments.only:
        started_s = time.perf_counter()
        found = parts[name]()
        rows += found.rows
        faults += found.faults
        took_s = time.perf_counter() - started_s
        sys.stderr.write(f"{name}: {len(found.faults)} faults, {took_s:.0f} s\n")
    print_table(["what", "times", "came to"], rows)
    for fault in faults[:_MOST_SHOWN]:
        sys.stdout.write(f"- FAULT {fault}\n")
    finish(arguments, {"rows": rows, "faults": faults}, f"{len(faults)} faults")
    return len(faults)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=20, help="Of each of the five commands.")
    parser.add_argument("--signals", type=int, default=4, help="Of each command, of each of the two.")
    parser.add_argument(
        "--disks", type=int, default=5, help="Full ones for each command; as often too little memory."
    )
    parser.add_argument("--pairs", type=int, default=4, help="Of each command at once.")
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--tokenizer", nargs="*", default=[], help="Of a chat model, to try as well.")
    parser.add_argument("--calls", type=int, default=20_000)
    try:
        sys.exit(min(1, main(parser.parse_args())))
    except Fault as fault:
        sys.exit(f"cannot begin: {fault}")
