"""Numbers by which an answer cites passages: `[3]`, `[1, 2]`, `[1-3]`, `[1][2]`, `[3](https://…)`, `【3】`."""

from __future__ import annotations

import re

from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.text.sentences import sentence_spans

__all__ = ("numbers_go_on", "read_marks", "without_marks")

_NUMBERS = r"\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*"
_MARKS = re.compile(rf"[^\S\n]*(?:[\[【]\^?({_NUMBERS})[\]】](?:\(https?://[^)\s]*\))?[^\S\n]*)+")
_MARK = re.compile(rf"[\[【]\^?({_NUMBERS})[\]】]")


def numbers_go_on(settings: AgentSettings, is_recording: bool) -> bool:
    """Whether the numbers of passages go on through a run, for a model whose tokens are recorded or not."""
    return (settings.passage_numbers or ("search" if is_recording else "run")) == "run"


def without_marks(answer: str) -> str:
    """Return an answer without the numbers that it cites."""
    return read_marks(answer, 0)[0]


def read_marks(answer: str, known: int) -> tuple[str, list[tuple[int, tuple[int, int]]], int]:
    """Return an answer without its marks, the `(number, claim)` pairs that they mean, and how many mean nothing."""
    parts, position, length, marks = [], 0, 0, []
    for match in _MARKS.finditer(answer):
        before = answer[position : match.start()]
        # A word that follows keeps its space; a mark that begins a line leaves none.
        follows = answer[match.end() : match.end() + 1]
        starts_line = (not before.rstrip(" ") and not length) or before.endswith("\n")
        space = " " if match[0][-1].isspace() and follows.isalnum() and not starts_line else ""
        parts += [before, space]
        length += len(before)
        marks.append(
            (length, starts_line, [n for mark in _MARK.finditer(match[0]) for n in _listed(mark[1])])
        )
        length += len(space)
        position = match.end()
    plain = "".join([*parts, answer[position:]])
    if not plain.strip():
        return answer, [], 0  # A list such as `[3]` is the answer itself.
    left = len(plain) - len(plain.lstrip())
    plain = plain.strip()
    spans, cited, unknown = sentence_spans(plain), [], 0
    for place, starts_line, numbers in marks:
        place -= left
        ends = [span for span in spans if span[0] < place] or spans[:1]
        starts = [span for span in spans if span[1] > place] or spans[-1:]
        claim = starts[0] if starts_line else ends[-1]
        for number in dict.fromkeys(numbers):
            unknown += not 1 <= number <= known
            cited += [(number, claim)] if 1 <= number <= known else []
    return plain, cited, unknown


def _listed(numbers: str) -> list[int]:
    """Return the numbers of `1, 3-5`."""
    listed: list[int] = []
    for part in re.split(r"\s*[,;]\s*", numbers):
        first, *last = map(int, re.split(r"\s*[–-]\s*", part))
        listed += range(first, last[-1] + 1) if last and last[-1] > first else [first, *last]
    return listed
