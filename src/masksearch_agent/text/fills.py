"""From the text of a RAMP answer to its fills, one per mask.

An answer comes in one of two forms: the passage repeated with every mask filled (MaskSearch, arXiv
2505.20285, section 3.1), or the fills alone, one per line. The form is recognised by its text, so a trained
agent may be scored without knowing which one it was trained on.

Invariant: there are exactly as many fills as masks, `""` where one is missing, and every fill comes from the
answer. Any string can be split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from masksearch_agent.records import MASK, SearchTask
from masksearch_agent.text.words import WORD

__all__ = ("split_fills",)

_TOKEN = re.compile(rf"{re.escape(MASK)}|{WORD}")
_NUMBERED = re.compile(r"(?:\[(\d{1,2})\]|\(?(\d{1,2})[.):])\s+(.*)")
_BULLET = re.compile(r"[-*•]\s+")
_EDGES = " \t\n,;:.!?()[]，；：。！？（）"
_MIN_REPEATED_WORDS = 3
"""An answer that shares fewer words of context than this holds fills alone."""
_LEAST_REPEATED = 0.2
"""So does one of as many lines as masks that shares less of the passage, if its lines are numbered or leave no gaps."""


def split_fills(task: SearchTask, answer: str) -> tuple[str, ...]:
    """Split the answer to a RAMP task into its fills, one per mask in order, `""` where the answer has none.

    A line of the short form may be numbered (`1.`, `1)`, `[1]`) or bulleted; where all lines are numbered, the numbers
    say which mask each fill is for. The long form need not be verbatim.
    """
    answer = answer.strip()
    fills = (
        _fills_of_verbatim_passage(task.question, answer)
        or _fills_of_repeated_passage(task.question, answer)
        or _fills_of_lines(answer, task.mask_count)
    )
    return tuple("" if MASK in fill else fill.strip() for fill in fills)


def _fills_of_verbatim_passage(question: str, answer: str) -> list[str] | None:
    """Read the fills between the literal parts of the passage, or return None where one of them is not there."""
    answer = " ".join(answer.split())
    first, *inner, last = (re.sub(r"\s+", " ", part) for part in question.split(MASK))
    # The answer may leave out the title, and a title may itself hold a colon.
    openings = [first[match.end() :] for match in re.finditer(r"^|: ", first)]
    position = next((len(opening) for opening in openings if opening and answer.startswith(opening)), 0)
    end = len(answer) - len(last.rstrip())
    if not position or end < position or not answer.endswith(last.rstrip()):
        return None
    fills = []
    for part in inner:
        # The leftmost match is enough: whatever a later part needs, an earlier end leaves it more room.
        found = answer.find(part, position, end)
        if found < 0:
            return None
        fills.append(answer[position:found])
        position = found + len(part)
    return [*fills, answer[position:end]]


def _fills_of_repeated_passage(question: str, answer: str) -> list[str] | None:
    """Align a passage that was repeated with changes, or return None where the answer repeats none of it."""
    asked = [match.group().lower() for match in _TOKEN.finditer(question)]
    said = list(_TOKEN.finditer(answer))
    matcher = SequenceMatcher(None, asked, [match.group().lower() for match in said], autojunk=False)
    aligned = {
        block.a + offset: block.b + offset
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
        if asked[block.a + offset] != MASK
    }
    if len(aligned) < _MIN_REPEATED_WORDS or 2 * len(aligned) <= len(said):
        return None
    fills = [_gap(asked, said, aligned, index, answer) for index, token in enumerate(asked) if token == MASK]
    # The words of a fill alone, `First World War`, may stand scattered in its passage; then they leave no gap.
    lines = answer.splitlines()
    is_short = len(aligned) < _LEAST_REPEATED * len(asked) and len(lines) == len(fills)
    has_gaps = all(fills) and not all(_NUMBERED.fullmatch(line.strip()) for line in lines)
    return fills if has_gaps or not is_short else None


def _gap(
    asked: Sequence[str], said: Sequence[re.Match[str]], aligned: dict[int, int], mask: int, answer: str
) -> str:
    """Return what the answer says between the aligned words nearest to a mask."""
    left = next((said[aligned[index]].end() for index in range(mask - 1, -1, -1) if index in aligned), 0)
    following = next((index for index in range(mask + 1, len(asked)) if index in aligned), len(asked))
    right = said[aligned[following]].start() if following in aligned else len(answer)
    preceding = next(
        (index for index in range(mask - 1, -1, -1) if index in aligned or asked[index] == MASK), -1
    )
    if preceding >= 0 and preceding not in aligned:
        return ""  # No word tells this fill from the one before it, which has it already.
    gap = answer[left:right]
    return gap if MASK in gap else gap.strip(_EDGES)


def _fills_of_lines(answer: str, count: int) -> list[str]:
    lines = [line.strip() for line in answer.split("\n")]
    if len(lines) != count:
        lines = [line for line in lines if line]
    fills = [""] * count
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    positions = [int(match[1] or match[2]) for match in numbered if match]
    is_numbered = len(positions) == len(lines) and all(
        low < high for low, high in zip([0, *positions], [*positions, count + 1], strict=True)
    )
    for index, line in enumerate(lines[:count]):
        match = numbered[index] if is_numbered else None
        if match:
            fills[positions[index] - 1] = match[3]
        else:
            fills[index] = _BULLET.sub("", line, count=1) if _BULLET.match(line) else line
    return fills
