"""Sample trajectories as a conversation that can be read: each block of a step in a style of its own.

Model output is shown as it is: a malformed block stays plain text with its tags in sight. Text from outside is
shown with its tags as their author wrote them (`escaping.restore`), but only after the blocks were told apart,
so it can't forge one here either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from masksearch_agent.agent.escaping import restore
from masksearch_agent.records import MASK
from masksearch_agent.viewer.markup import Markup, join, tag

__all__ = ("draw_sample", "draw_trajectory", "split_blocks")

_BLOCKS = {"assistant": ("think", "search", "answer"), "user": ("information",)}
"""Who may write which block; a tag in anyone else's text is text."""
_TITLES = {"information": "results", "text": ""}
_NUMBERED = re.compile(r"\[(\d+)\] (?:(.{1,80}?): )?(.*)")
_MIN_GOLD_CHARACTERS = 3
"""Shorter answers (`2`, `no`) stand in passages by chance and are not pointed out."""


def draw_sample(sample: Mapping[str, Any], is_open: bool = False) -> Markup:
    """Return a sample trajectory as an element that opens and closes.

    Args:
        sample: One entry of a report's `samples`.
        is_open: Whether it starts opened.
    """
    opened: dict[str, str] = {"open": ""} if is_open else {}
    return tag("details", _draw_summary(sample), draw_trajectory(sample), class_="sample", **opened)


def draw_trajectory(sample: Mapping[str, Any]) -> Markup:
    """Return what a sample holds: the expected and the given answer, then turn by turn how it came about."""
    gold = list(sample.get("gold") or ())
    turns = (_draw_message(message, gold) for message in sample.get("messages") or ())
    return join((_draw_outcome(sample), *turns))


def split_blocks(role: str, content: str) -> Iterator[tuple[str, str]]:
    """Yield a message's `(block name, text)` pairs; text outside the role's blocks is named `text`."""
    names = "|".join(_BLOCKS.get(role, ()))
    pieces = re.split(rf"<({names})>(.*?)</\1>", content, flags=re.DOTALL) if names else [content]
    for index in range(0, len(pieces), 3):
        if pieces[index].strip():
            yield "text", pieces[index].strip()
        if index + 2 < len(pieces):
            yield pieces[index + 1], pieces[index + 2].strip()


def _draw_summary(sample: Mapping[str, Any]) -> Markup:
    recall = sample.get("recall")
    stop_reason = str(sample.get("stop_reason") or "").replace("_", " ")
    tokens = sample.get("tokens")
    searches = sum(
        name == "search"
        for message in sample.get("messages") or ()
        for name, _ in split_blocks(message["role"], message["content"])
    )
    facts = [stop_reason, f"{searches} search{'' if searches == 1 else 'es'}"]
    facts += [f"{tokens:,} tokens"] if isinstance(tokens, int) else []
    return tag(
        "summary",
        tag("strong", str(sample.get("title") or "Trajectory")),
        "" if recall is None else tag("span", f"recall {recall:.2f}", class_=f"badge {_grade(recall)}"),
        tag("span", " · ".join(fact for fact in facts if fact), class_="facts"),
        tag("span", *_highlight(str(sample.get("question") or ""), ()), class_="question"),
    )


def _draw_outcome(sample: Mapping[str, Any]) -> Markup:
    gold = tag("dd", "\n".join(restore(text) for text in sample.get("gold") or ()) or "–")
    answer = tag("dd", restore(str(sample.get("answer") or "")) or "–")
    return tag("dl", tag("dt", "gold"), gold, tag("dt", "answer"), answer, class_="outcome")


def _draw_message(message: Mapping[str, Any], gold: Sequence[str]) -> Markup:
    role = str(message["role"])
    blocks = join(
        tag(
            "div",
            tag("span", _TITLES.get(name, name), class_="name") if name != "text" else "",
            _draw_results(text, gold)
            if name == "information"
            else tag("div", *_highlight(text, ()), class_="text"),
            class_=f"block {name}",
        )
        for name, text in split_blocks(role, str(message["content"]))
    )
    known = role if role in ("system", "user", "assistant") else "user"
    return tag("section", tag("h4", role), tag("div", blocks), class_=f"turn {known}")


def _draw_results(text: str, gold: Sequence[str]) -> Markup:
    """Return search results as a list, one passage an item; other lines stay lines."""
    items = []
    for line in text.split("\n"):
        match = _NUMBERED.fullmatch(line)
        if match is None:
            items.append(tag("li", *_highlight(line, gold)))
            continue
        number, title, body = match.groups()
        heading = (tag("strong", *_highlight(title, gold)), ": ") if title else ()
        items.append(tag("li", tag("span", number, class_="number"), *heading, *_highlight(body, gold)))
    return tag("ol", *items, class_="text")


def _highlight(text: str, gold: Sequence[str]) -> Iterator[str]:
    """Yield the text, as its author wrote it, with masks and gold answers marked."""
    wanted = sorted((re.escape(answer) for answer in gold if len(answer) >= _MIN_GOLD_CHARACTERS), key=len)
    answers = "|".join(reversed(wanted)) or r"(?!)"
    pattern = rf"({re.escape(MASK)})|(?<!\w)((?i:{answers}))(?!\w)"
    position = 0
    text = restore(text)
    for match in re.finditer(pattern, text):
        yield text[position : match.start()]
        yield tag("mark", match[0], class_="mask" if match[1] else "gold")
        position = match.end()
    yield text[position:]


def _grade(recall: float) -> str:
    return "good" if recall >= 1 else "partly" if recall > 0 else "bad"
