"""Is it a good task? A sheet of random tasks for a person to rate, and the count of a sheet that was filled in.

Whether tasks are worth learning no statistic tells; somebody has to read some of them. The four questions of the sheet
are what makes a task one: it can be understood, it has an answer that is right or wrong, the corpus gives it, and
somebody might have asked it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from masksearch_agent.errors import TaskError
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import contains_phrase

__all__ = ("RULES", "RatedSheet", "count_sheet", "is_blank_sheet", "write_sheet")

RULES = {
    "clear": "Is it clear what is asked, without the document in front of you? (Of a mask: can one tell what kind of "
    "thing is missing, and of what?) Broken grammar, `it` or `the function` of nowhere, half a name: no.",
    "fact": "Is the answer a fact, and the right one: whole, and one that other answers would contradict? A word that "
    "only happens to stand there, or one of many that would do as well: no.",
    "given": "Does the passage shown under it give the answer to what is asked, and not only hold the same words? Of "
    "an open task that is the source, of the others another passage.",
    "wanted": "Might somebody who uses these documents want to know it?",
}
"""What is asked of a task, by name."""
_SHOWN_CHARACTERS = 700
_TASK = re.compile(r"^## \d+ `(?P<id>[^`]+)`$", re.MULTILINE)
_MARK = re.compile(rf"^- (?P<rule>{'|'.join(RULES)}):[ \t]*(?P<mark>[^\n]*?)[ \t]*$", re.MULTILINE)
_FILLED_IN = re.compile(rf"^- (?:{'|'.join(RULES)}|note):[ \t]*\S", re.MULTILINE)
_MARKS = {**dict.fromkeys(("y", "yes", "1", "x"), True), **dict.fromkeys(("n", "no", "0"), False)}


@dataclass(frozen=True, slots=True)
class RatedSheet:
    """The count of a sheet."""

    rated: int
    """Tasks with all four marks."""
    good: int
    """Those of them with four times yes."""
    yes: dict[str, int]
    """Yes of the rated tasks, by rule."""
    unrated: int
    bad_ids: tuple[str, ...]
    """Tasks that are not good, to look them up."""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the share of good tasks; (0, 1) where nothing was rated."""
        if not self.rated:
            return 0.0, 1.0
        z, n, share = 1.96, self.rated, self.good / self.rated
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


def write_sheet(
    tasks: Sequence[SearchTask],
    count: int,
    seed: int = 0,
    find_passage: Callable[[str], Passage | None] = lambda _: None,
) -> str:
    """Return a Markdown sheet of random tasks to rate, with the rules.

    Args:
        tasks: To draw from.
        count: Tasks drawn; all where there are fewer.
        seed: Of the draw.
        find_passage: Returns a passage by its id, to be shown as what gives the answer; None where it is not known.

    Raises:
        TaskError: There is no task.
    """
    if not tasks:
        raise TaskError("there is no task to rate; build some with `masksearch ramp`")
    drawn = random.Random(seed).sample(list(tasks), min(count, len(tasks)))
    rules = "\n".join(f"- **{name}**: {text}" for name, text in RULES.items())
    head = (
        f"# {len(drawn)} of {len(tasks)} tasks to rate (seed {seed})\n\n"
        f"Write `y` or `n` behind each colon, and a note where you like. A task is good with four times `y`; where in "
        f"doubt, `n`.\n\n{rules}\n\n"
        "`masksearch ramp inspect --rated FILE` counts the sheet.\n"
    )
    return "\n".join(
        [head, *(_entry(number, task, find_passage) for number, task in enumerate(drawn, start=1))]
    )


def count_sheet(text: str) -> RatedSheet:
    """Count a sheet that was filled in; tasks without all four marks count as unrated.

    Raises:
        TaskError: It is no sheet, or a mark is neither yes nor no.
    """
    heads = list(_TASK.finditer(text))
    if not heads:
        raise TaskError("this is no sheet of tasks; expected one that `masksearch ramp inspect --rate` wrote")
    ends = [*(head.start() for head in heads[1:]), len(text)]
    marks = {
        head["id"]: _marks(head["id"], text[head.end() : end]) for head, end in zip(heads, ends, strict=True)
    }
    rated = {task: given for task, given in marks.items() if len(given) == len(RULES)}
    bad = tuple(task for task, given in rated.items() if not all(given.values()))
    yes = {rule: sum(given[rule] for given in rated.values()) for rule in RULES}
    return RatedSheet(len(rated), len(rated) - len(bad), yes, len(marks) - len(rated), bad)


def is_blank_sheet(text: str) -> bool:
    """Return whether a text is a sheet without any mark or note."""
    return _TASK.search(text) is not None and _FILLED_IN.search(text) is None


def _marks(task_id: str, text: str) -> dict[str, bool]:
    found = {}
    for mark in _MARK.finditer(text):
        said = mark["mark"].lower()
        if not said:
            continue
        if said not in _MARKS:
            raise TaskError(f"task {task_id}: {mark['rule']!r} is marked {mark['mark']!r}; expected y or n")
        found[mark["rule"]] = _MARKS[said]
    return found


def _entry(number: int, task: SearchTask, find_passage: Callable[[str], Passage | None]) -> str:
    answers = "; ".join(slot[0] for slot in task.answers)
    shown = [f"## {number} `{task.id}`", "", _quoted(task.question), "", f"Answer: **{answers}**", ""]
    kind = "open" if task.is_open else task.category or task.kind
    for passage_id in task.gold_passage_ids:
        passage = find_passage(passage_id)
        if passage is not None:
            shown += [f"Given by ({kind}): *{passage.title}*", "", _quoted(_around(passage.text, task)), ""]
    return "\n".join([*shown, *(f"- {rule}: " for rule in RULES), "- note: ", ""])


def _around(text: str, task: SearchTask) -> str:
    """Return a passage as far as it is shown, with the answer in it."""
    answer = task.answers[0][0]
    start = text.lower().find(answer.lower()) if contains_phrase(text, answer) else 0
    first = max(0, start - _SHOWN_CHARACTERS // 2)
    cut = text[first : first + _SHOWN_CHARACTERS]
    return f"{'…' if first else ''}{cut}{'…' if first + _SHOWN_CHARACTERS < len(text) else ''}"


def _quoted(text: str) -> str:
    # A heading or a mark of the text itself must not pass for one of the sheet.
    return "\n".join(f"> {line}" for line in text.splitlines() if line.strip())
