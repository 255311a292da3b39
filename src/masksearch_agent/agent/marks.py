"""Numbers by which an answer cites passages: `[3]`, `[1, 2]`, `[1-3]`, `[1][2]`, `[3](https://…)`, `【3】`.

Numbers in brackets that are part of what is said stay as they are written: code, JSON, intervals, vectors, footnotes.
"""

from __future__ import annotations

import json
import re

from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.text.sentences import sentence_spans

__all__ = ("numbers_go_on", "read_marks", "without_marks")

_NUMBERS = r"\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*"
_MARKS = re.compile(rf"[^\S\n]*(?:[\[【]({_NUMBERS})[\]】](?:\(https?://[^)\s]*\))?[^\S\n]*)+")
_MARK = re.compile(rf"[\[【]({_NUMBERS})[\]】]")
_CODE = re.compile(
    r"^[^\S\n]*(?P<fence>```|~~~).*?(?:^[^\S\n]*(?P=fence)|\Z)|(?<!`)(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)",
    re.MULTILINE | re.DOTALL,
)
_VALUE_FOLLOWS = re.compile(r"""(?:=|["']:|\[|\w\()\s*$""")
# The model's own list of sources, which ends an answer: the citations say the same.
_OWN_SOURCES = re.compile(
    r"(?:\A|\n)[#*_ ]*(?:sources?|references?|citations?|来源|参考资料|参考文献)[*_]* ?[:：]?[*_]*[^\S\n]*"
    rf"(?:\n+[-* ]*[\[【]{_NUMBERS}[\]】][^\n]*)+\s*\Z",
    re.IGNORECASE,
)
# Stand, of the same length, for the brackets of numbers that cite nothing; Unicode keeps both out of texts.
_HIDE = {ord("["): "\ufdd0", ord("【"): "\ufdd1"}
_SHOW = {ord(hidden): chr(bracket) for bracket, hidden in _HIDE.items()}
_KNOWN_AT_MOST = 99
"""So many passages a run may have read where that is not known."""


def numbers_go_on(settings: AgentSettings, is_recording: bool) -> bool:
    """Whether the numbers of passages go on through a run, for a model whose tokens are recorded or not."""
    return (settings.passage_numbers or ("search" if is_recording else "run")) == "run"


def without_marks(answer: str) -> str:
    """Return an answer without the numbers that it cites."""
    return read_marks(answer, _KNOWN_AT_MOST)[0]


def read_marks(answer: str, known: int) -> tuple[str, list[tuple[int, tuple[int, int]]], int]:
    """Return an answer without its marks, the `(number, claim)` pairs that they mean, and how many mean nothing."""
    given = answer
    answer = _OWN_SOURCES.sub(_drop_behind_text, _hide_data(answer, known))
    parts, position, length, marks = [], 0, 0, []
    for match in _MARKS.finditer(answer):
        before = answer[position : match.start()]
        # A word that follows keeps its space; a mark that begins a line leaves none.
        follows = answer[match.end() : match.end() + 1]
        starts_line = (not before.rstrip(" ") and not length) or before.endswith("\n")
        space = " " if match[0][-1].isspace() and _is_kept_apart(follows) and not starts_line else ""
        parts += [before, space]
        length += len(before)
        marks.append(
            (length, starts_line, [n for mark in _MARK.finditer(match[0]) for n in _listed(mark[1])])
        )
        length += len(space)
        position = match.end()
    plain = "".join([*parts, answer[position:]])
    if not plain.strip():
        return given, [], 0  # A list such as `[3]` is the answer itself.
    left = len(plain) - len(plain.lstrip())
    plain = plain.strip()
    spans, cited, unknown = sentence_spans(plain), [], 0
    for place, starts_line, numbers in marks:
        place -= left
        ends = [span for span in spans if span[0] < place] or spans[:1]
        starts = [span for span in spans if span[1] > place] or spans[-1:]
        claim = _cell(plain, place) or (starts[0] if starts_line else ends[-1])
        for number in dict.fromkeys(numbers):
            unknown += not 1 <= number <= known
            cited += [(number, claim)] if 1 <= number <= known else []
    return plain.translate(_SHOW), cited, unknown


def _is_kept_apart(follows: str) -> bool:
    return follows.isalnum() or follows == "|"


def _hide_data(answer: str, known: int) -> str:
    """Return an answer of the same length in which brackets that cite nothing are hidden."""
    if _is_json(answer):
        return answer.translate(_HIDE)
    answer = _CODE.sub(lambda code: code[0].translate(_HIDE), answer)
    return _MARK.sub(
        lambda mark: mark[0].translate(_HIDE) if _is_data(mark, known) else mark[0],
        answer,
    )


def _drop_behind_text(sources: re.Match[str]) -> str:
    return "" if sources.string[: sources.start()].strip() else sources[0].translate(_HIDE)


def _is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_data(mark: re.Match[str], known: int) -> bool:
    """Whether bracketed numbers are a value: an index, an interval, a vector, a list in JSON or an assignment."""
    numbers, before = _listed(mark[1]), mark.string[: mark.start()]
    is_list, is_range = bool(re.search("[,;]", mark[1])), bool(re.search("[–-]", mark[1]))
    if _VALUE_FOLLOWS.search(before[-20:]) or (is_list and before.rstrip().endswith((":", "："))):
        return True
    if is_list and is_range:
        return False  # `[0, 12-13]` is how citations are written, and nothing else.
    if 0 in numbers or (len(numbers) > 1 and not any(n <= known for n in numbers)):
        return True
    begins_line = not before.rpartition("\n")[2].strip()
    return is_list and begins_line and bool(re.match(r"[^\S\n]+\S", mark.string[mark.end() :]))


def _cell(text: str, place: int) -> tuple[int, int] | None:
    """Return the cell of a Markdown table that a mark stands in, or its row so far if that is empty; None elsewhere."""
    first = text.rfind("\n", 0, place) + 1
    line = text[first:].split("\n", 1)[0]
    if not line.lstrip().startswith("|"):
        return None
    at = place - first
    if "|" not in line[at:]:
        if not line.rstrip().endswith("|"):
            return None
        at = line.rindex("|")  # Behind the row: its last cell.
    start = line.rfind("|", 0, at) + 1
    cell = line[start : line.find("|", at)]
    if not cell.strip():
        return first, first + at
    left = len(cell) - len(cell.lstrip())
    return first + start + left, first + start + len(cell.rstrip())


def _listed(numbers: str) -> list[int]:
    """Return the numbers of `1, 3-5`."""
    listed: list[int] = []
    for part in re.split(r"\s*[,;]\s*", numbers):
        first, *last = map(int, re.split(r"\s*[–-]\s*", part))
        listed += range(first, last[-1] + 1) if last and last[-1] > first else [first, *last]
    return listed
