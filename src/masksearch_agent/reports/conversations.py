"""Trajectories as conversations that can be read: each block of a step told apart, gold answers and masks marked.

Model output is shown as it is: a malformed block stays plain text with its tags in sight. Text from outside is shown
with its tags as their author wrote them (`escaping.restore`), but only after the blocks were told apart, so it can't
forge one here either. Templates escape every text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from masksearch_agent.agent.escaping import restore
from masksearch_agent.records import MASK
from masksearch_agent.reports.records import Sample

__all__ = ("Block", "Piece", "Turn", "pieces", "split_blocks", "turns_of")

_BLOCKS = {"assistant": ("think", "search", "answer"), "user": ("information",)}
"""Who may write which block; a tag in anyone else's text is text."""
_NUMBERED = re.compile(r"\[(\d+)\] (?:(.{1,80}?): )?(.*)")
_MIN_GOLD_CHARACTERS = 3
"""Shorter answers (`2`, `no`) stand in passages by chance and are not pointed out."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, and how it is marked: `mask`, `gold` or not at all."""

    text: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A numbered search result, or another line among them."""

    number: str
    title: tuple[Piece, ...]
    text: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a step: `think`, `search`, `answer`, `information`, or `text` outside of any."""

    name: str
    text: tuple[Piece, ...] = ()
    passages: tuple[Passage, ...] = ()
    """Of `information`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message."""

    role: str
    blocks: tuple[Block, ...]


def turns_of(sample: Sample) -> list[Turn]:
    """Return the messages of a sample, block by block."""
    return [
        Turn(message.role, tuple(_blocks(message.role, message.content, sample.gold)))
        for message in sample.messages
    ]


def split_blocks(role: str, content: str) -> Iterator[tuple[str, str]]:
    """Yield a message's `(block name, text)` pairs; text outside the role's blocks is named `text`."""
    names = "|".join(_BLOCKS.get(role, ()))
    parts = re.split(rf"<({names})>(.*?)</\1>", content, flags=re.DOTALL) if names else [content]
    for index in range(0, len(parts), 3):
        if parts[index].strip():
            yield "text", parts[index].strip()
        if index + 2 < len(parts):
            yield parts[index + 1], parts[index + 2].strip()


def pieces(text: str, gold: Sequence[str] = ()) -> tuple[Piece, ...]:
    """Return a text, as its author wrote it, with masks and gold answers marked."""
    wanted = sorted((re.escape(answer) for answer in gold if len(answer) >= _MIN_GOLD_CHARACTERS), key=len)
    answers = "|".join(reversed(wanted)) or r"(?!)"
    text, position, found = restore(text), 0, []
    for match in re.finditer(rf"({re.escape(MASK)})|(?<!\w)((?i:{answers}))(?!\w)", text):
        found += [Piece(text[position : match.start()]), Piece(match[0], "mask" if match[1] else "gold")]
        position = match.end()
    return tuple(piece for piece in (*found, Piece(text[position:])) if piece.text)


def _blocks(role: str, content: str, gold: Sequence[str]) -> Iterator[Block]:
    for name, text in split_blocks(role, content):
        if name == "information":
            yield Block(name, passages=tuple(_passage(line, gold) for line in text.split("\n")))
        else:
            yield Block(name, pieces(text))


def _passage(line: str, gold: Sequence[str]) -> Passage:
    match = _NUMBERED.fullmatch(line)
    if match is None:
        return Passage("", (), pieces(line, gold))
    number, title, text = match.groups()
    return Passage(number, pieces(title, gold) if title else (), pieces(text, gold))
