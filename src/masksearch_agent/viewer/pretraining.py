"""A run on documents of your own for people: a Markdown page with its tables and trajectories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from masksearch_agent.agent.escaping import restore
from masksearch_agent.viewer.sections import duration
from masksearch_agent.viewer.tables import column_names, label, question_count
from masksearch_agent.viewer.trajectories import split_blocks

__all__ = ("pretraining_markdown",)

_AGENTS = {
    "rag-pe": "RAG-PE: untrained, one retrieval",
    "agent-pe": "Agent-PE: untrained, searching",
    "ramp_sft": "RAMP SFT",
    "ramp_dapo": "RAMP SFT + DAPO",
}
_TASKS = {"ramp": "masked passages", "cloze": "masked sentences asked as questions"}
_SHORT = {name: title.split(":")[0] for name, title in _AGENTS.items()}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$])")


def pretraining_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page; it shows the curves beside it, in a file of the run's name."""
    evals = report["evals"]
    sections = [
        f"# {report['title']}: trained on the masks of a corpus, asked questions",
        f"Base model: `{report['base_model']}`. {_cost(report)} No question of a benchmark was trained on.",
        f"    {report['command']}" if report["command"] else "",
        "## Scores",
        _scores(evals),
        "Recall of the answer's tokens with its 95% bootstrap interval; em: exact match; searches: search steps a "
        "question. All agents have the same prompts, limits and search.",
        _said(evals),
        "The second table counts what the model wrote last as its answer, whatever its form: an untrained model that "
        "writes no tags has no answer by the protocol, yet may say the right thing. `answered`: share of the questions "
        "that ended in an answer by the protocol.",
        "## Paired differences of recall",
        _differences(report["comparisons"], None),
        _verdict(report),
        "The same, with whatever was written last as the answer:",
        _differences(report["comparisons"], "said"),
        "## Training",
        f"![Training curves]({report['name']}.svg)",
        _stages(report),
        _tasks(report["tasks"]),
        _generation(report["generation"]),
        f"## {len(report['samples'])} trajectories of {_SHORT['ramp_sft']}",
        *(_trajectory(sample) for sample in report["samples"]),
        "## Versions",
        ", ".join(f"{package} {version}" for package, version in report["versions"].items()),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _cost(report: Mapping[str, Any]) -> str:
    cores = "one processor core" if report["cores"] == 1 else f"{report['cores']} processor cores"
    return (
        f"Seed {report['seed']}; {duration(report['wall_seconds'])} in all on {cores}, "
        f"{report['peak_memory_gb']:.2f} GB of memory at most."
    )


def _scores(evals: Mapping[str, Any]) -> str:
    def cells(cell: Mapping[str, Any]) -> str:
        return f"{_interval(cell['recall'], *cell['ci95'])}; em {cell['em']:.2f}; {cell['searches']:.1f} searches"

    return _table("agent", evals, cells)


def _said(evals: Mapping[str, Any]) -> str:
    def cells(cell: Mapping[str, Any]) -> str:
        return f"{_interval(cell['said_recall'], *cell['said_ci95'])}; answered {cell['answered']:.0%}"

    return _table("agent, any form of answer", evals, cells)


def _table(corner: str, evals: Mapping[str, Any], write: Callable[[Mapping[str, Any]], str]) -> str:
    columns = column_names(evals)
    heads = [f"{label(name)}, {question_count(evals, name)}" for name in columns]
    rows = [[_AGENTS[agent], *(write(sets[name]) for name in columns)] for agent, sets in evals.items()]
    return _markdown_table([corner, *heads], rows)


def _differences(comparisons: Sequence[Mapping[str, Any]], key: str | None) -> str:
    columns = list(dict.fromkeys(entry["dataset"] for entry in comparisons))
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for entry in comparisons:
        gain = entry if key is None else entry[key]
        pairs.setdefault((entry["after"], entry["before"]), {})[entry["dataset"]] = (
            f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        )
    rows = [
        [f"{_SHORT[after]} over {_SHORT[before]}", *(cells[name] for name in columns)]
        for (after, before), cells in pairs.items()
    ]
    return _markdown_table(["95% interval in brackets", *map(label, columns)], rows)


def _verdict(report: Mapping[str, Any]) -> str:
    """Say where RAMP SFT alone at least doubles the untrained agent, surely."""
    evals = report["evals"]
    met: list[str] = []
    missed: list[str] = []
    for entry in report["comparisons"]:
        if (entry["after"], entry["before"]) == ("ramp_sft", "agent-pe"):
            name = entry["dataset"]
            ratio_met = evals["ramp_sft"][name]["recall"] >= 2 * evals["agent-pe"][name]["recall"]
            (met if ratio_met and entry["low"] > 0 else missed).append(label(name))
    claim = "RAMP SFT alone at least doubles Agent-PE's recall, with the interval of the difference above 0"
    parts = [f"on {', '.join(met)}"] if met else []
    parts += [f"not on {', '.join(missed)}"] if missed else []
    return f"{claim}: {'; '.join(parts)}."


def _stages(report: Mapping[str, Any]) -> str:
    rows = [
        [
            label(stage["name"]),
            duration(stage["seconds"]),
            *(f"{stage[key]:,}" if stage[key] else "–" for key in ("steps", "tokens")),
        ]
        for stage in report["stages"]
    ]
    return _markdown_table(["stage", "time", "steps", "tokens"], rows)


def _tasks(counts: Mapping[str, int]) -> str:
    kinds = [f"{counts[key]:,} {name}" for key, name in _TASKS.items() if counts.get(key)]
    return f"Tasks made from the passages: {', '.join(kinds)}."


def _generation(entries: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(
        f"{entry['accepted']:,} of {entry['accepted'] + entry['rejected']:,} trajectories were accepted "
        f"(rejected: {', '.join(f'{reason} {count:,}' for reason, count in entry['reasons'].items()) or 'none'})."
        for entry in entries
    )


def _trajectory(sample: Mapping[str, Any]) -> str:
    lines = [
        f"### {_plain(sample['title'])}",
        "",
        f"**{_plain(sample['question'])}** Gold: {_plain(' | '.join(sample['gold']))}. Recall "
        f"{sample['recall']:.2f}, {str(sample['stop_reason']).replace('_', ' ')}.",
        "",
    ]
    # The opening messages are the prompt, which all share, and the question.
    first = next((n for n, entry in enumerate(sample["messages"]) if entry["role"] == "assistant"), 0)
    for message in sample["messages"][first:]:
        for name, text in split_blocks(message["role"], message["content"]):
            lines += _block(name, text)
    return "\n".join(lines)


def _block(name: str, text: str) -> Iterator[str]:
    if name == "information":
        yield "- results:"
        yield from (f"    - {_plain(line)}" for line in text.split("\n"))
        return
    said = "; ".join(_plain(line) for line in text.split("\n") if line.strip())
    yield f"- {name}: {said}"


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _plain(text: str) -> str:
    """Return a text from outside, as its author wrote it, so that Markdown shows it and reads nothing into it."""
    return _MARKDOWN.sub(r"\\\1", " ".join(restore(text).split()))


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
