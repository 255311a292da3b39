"""How a benchmark of this folder is called, and how it tells what it measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "langgraph", "langchain-core")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all benchmarks take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the closed world and of the sampling.")
    parser.add_argument("--json", type=Path, help="Write the results to this file too.")
    return parser


def machine() -> dict[str, Any]:
    """Describe where the numbers come from."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return {
        "processor": model,
        "usable_cores": len(usable),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; broken numbers get three digits."""
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    lines = [list(header), ["-" * width for width in widths], *cells]
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def finish(arguments: argparse.Namespace, results: Mapping[str, Any], verdict: str) -> None:
    """Print the verdict and the machine, and write the results as JSON where that was asked for."""
    described = machine()
    print(f"\n{verdict}\n{json.dumps(described)}")
    if arguments.json is not None:
        settings = {name: str(value) for name, value in vars(arguments).items() if name != "json"}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"arguments": settings, "machine": described, **results}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def finish_rows(arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]], verdict: str = "") -> None:
    """Print measurements, one row each and all with the same columns, and finish with them."""
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    finish(arguments, {"rows": list(rows)}, verdict)
