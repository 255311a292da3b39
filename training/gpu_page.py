"""The page of `gpu_proof.py`: what was measured, against the bars, and how each part ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

__all__ = ("page_of", "read_junit")

_HEAD = "# On a GPU\n\nWritten by `training/gpu_proof.py`; docs/gpu.md says what each part does.\n"
_SMALL = (
    "\n**A model of two layers on a CPU: this page shows that every part runs, and none of its numbers means "
    "anything.**\n"
)
_TITLES = {
    "correct": "Right",
    "real": "A real run",
    "rollouts": "Rollouts",
    "step": "A step of DAPO, and memory",
}


def read_junit(text: str) -> dict[str, Any]:
    """Return the tests of a JUnit file with what they recorded."""
    tests = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        outcomes = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        outcome = next((said for tag, said in outcomes.items() if case.find(tag) is not None), "passed")
        recorded = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
        tests.append({"test": case.get("name", ""), "outcome": outcome, **recorded})
    return {"tests": tests}


def page_of(found: Mapping[str, Any]) -> str:
    """Return the page, in Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    pieces = [_HEAD, _SMALL if found["is_small"] else "", f"\n{machine}\n"]
    for name, part in found["parts"].items():
        end = "out of time" if part["out_of_time"] else f"exit code {part['exit_code']}"
        pieces.append(f"\n## {_TITLES[name]}\n\n`{part['command']}`: {end} after {part['seconds']} s.\n")
        result = part["result"]
        if not result:
            pieces.append("\nIt measured nothing. The end of what it said:\n\n```\n")
            pieces.append("\n".join(part["tail"]) + "\n```\n")
            continue
        pieces.append(_BODIES[name](result))
    return "".join(pieces)


def _correct(result: Mapping[str, Any]) -> str:
    tests = result["tests"]
    counts = {
        outcome: sum(test["outcome"] == outcome for test in tests)
        for outcome in ("passed", "failed", "skipped")
    }
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    rows = [(test["test"], test["outcome"], _figure(test.get("difference"))) for test in tests
            if "difference" in test or test["outcome"] == "failed"]  # fmt: skip
    return f"\n{told}.\n\n" + _table(("test", "outcome", "largest difference"), rows)


def _real(result: Mapping[str, Any]) -> str:
    stages = [
        (
            one["stage"],
            one["steps"],
            one["tokens"],
            _figure(one["seconds"]),
            _figure(one["tokens"] / one["seconds"]),
        )
        for one in result["stages"]
    ]
    scores = [(one["stage"], one["questions"], one["n"], _figure(one["recall"]), one.get("ci95", ""))
              for one in result["scores"]]  # fmt: skip
    pooled = [
        (stage, "all", sum(one["n"] for one in asked), _figure(_mean(asked)), "")
        for stage in dict.fromkeys(one["stage"] for one in result["scores"])
        if (asked := [one for one in result["scores"] if one["stage"] == stage])
    ]
    return (
        "\n" + _table(("stage", "steps", "tokens", "seconds, loading too", "tokens a second"), stages)
        + "\n" + _table(("after", "questions", "n", "recall", "95%"), [*scores, *pooled])
    )  # fmt: skip


def _mean(asked: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(one["recall"] * one["n"] for one in asked) / max(1, sum(one["n"] for one in asked)))


def _rows(result: Mapping[str, Any]) -> str:
    """One table for each kind of row, and the bars that it has."""
    rows = result["rows"]
    pieces = []
    for what in dict.fromkeys(row["what"] for row in rows):
        own = [
            {name: value for name, value in row.items() if name != "what"}
            for row in rows
            if row["what"] == what
        ]
        names = list(dict.fromkeys(name for row in own for name in row))
        cells = [[_figure(row.get(name)) for name in names] for row in own]
        pieces.append(f"\n{what}:\n\n" + _table(names, cells))
    bars = list(_bars(rows))
    return "".join(pieces) + ("\n" + _table(("bar", "asked", "reached", ""), bars) if bars else "")


def _bars(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str, str, str]]:
    generated = {row["at_once"]: 0.0 for row in rows if row["what"] == "generate"}
    for row in rows:
        if row["what"] == "generate":
            generated[row["at_once"]] = max(generated[row["at_once"]], row["tokens_per_s"])
    for row in rows:
        if row["what"] == "rollouts":
            at_once = row["at_once"]
            yield _bar(
                f"graph and Python, {at_once} at once", row["share_of_graph_and_python"], 0.05, is_most=True
            )
            if at_once in generated:
                ratio = row["engine_tokens_per_s"] / generated[at_once]
                yield _bar(f"engine over generate, {at_once} at once", ratio, 2.0, is_most=False)
        elif row["what"] == "decode step":
            name = f"decode step over reading the weights, {row['at_once']} at once"
            yield _bar(name, row["ratio"], 4.0, is_most=True)
        elif row["what"] == "ratio":
            yield _bar("DAPO step over TRL's", row["dapo_over_trl"], 0.7, is_most=True)
        elif row["what"] == "DAPO step" and row["trainer"] == "DAPOTrainer":
            yield _bar("share of the chip's peak", row["share_of_peak"], 0.35, is_most=False)


def _bar(name: str, value: float, bound: float, is_most: bool) -> tuple[str, str, str, str]:
    is_reached = value <= bound if is_most else value >= bound
    return (
        name,
        f"{'at most' if is_most else 'at least'} {bound:g}",
        _figure(value),
        "yes" if is_reached else "**no**",
    )


def _figure(value: Any) -> str:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return str(value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_figure(each)}" for name, each in value.items()) or "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


_BODIES = {"correct": _correct, "real": _real, "rollouts": _rows, "step": _rows}
