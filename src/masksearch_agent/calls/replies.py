"""Replies of chat models as typed values: one schema, read from tags in text, strictly and without evaluating it.

A schema is a `Reply` whose fields are texts, choices, or tuples of texts. As text, each field stands in the tag
of its name, a tuple with one entry per line:

    <thought>The employer is not named yet.</thought>
    <needs>
    the employer of Ada Holt
    </needs>

Invariant: `parse_tagged` is total. Every string is a value or a sentence that says what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

__all__ = ("Line", "Reply", "ReplyT", "parse_tagged")

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text that is not blank."""

_END_OF_THOUGHT = "</think>"
"""What reasoning models write first ends so; the tag that opens it may stand in the chat template."""


class Reply(BaseModel):
    """What a chat model is asked to fill in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ReplyT = TypeVar("ReplyT", bound=Reply)


def parse_tagged(text: str, schema: type[ReplyT]) -> ReplyT | str:
    """Return the reply in a text, or what is wrong with it in one sentence that quotes nothing but tags."""
    said = _read(text, schema)
    # A field may quote the tag, so it is the end of a thought only where the text is no reply as it stands.
    _, thought, rest = text.partition(_END_OF_THOUGHT)
    return _read(rest, schema) if isinstance(said, str) and thought else said


def _read(text: str, schema: type[ReplyT]) -> ReplyT | str:
    blocks = _blocks(text, list(schema.model_fields))
    if isinstance(blocks, str):
        return blocks
    data: dict[str, Any] = {
        name: _lines(block) if get_origin(schema.model_fields[name].annotation) is tuple else block
        for name, block in blocks.items()
    }
    return validate_reply(data, schema)


def validate_reply(data: Any, schema: type[ReplyT]) -> ReplyT | str:
    """Return data as a reply, or what is wrong with it."""
    try:
        return schema.model_validate(data)
    except ValidationError as failure:
        first = failure.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            return f"<{field}> is missing"
        return f"<{field}>: {first['msg']}" if field else first["msg"]


def _blocks(text: str, names: list[str]) -> dict[str, str] | str:
    blocks: dict[str, str] = {}
    end, open_name, start = 0, "", 0
    for tag in re.finditer(rf"<(/?)({'|'.join(map(re.escape, names))})>", text):
        slash, name = tag[1], tag[2]
        if not open_name:
            if text[end : tag.start()].strip():
                return f"there is text outside the tags, before {tag[0]}"
            if slash:
                return f"{tag[0]} closes a tag that was not opened"
            if name in blocks:
                return f"there are two <{name}> blocks"
            open_name, start = name, tag.end()
        elif slash and name == open_name:
            blocks[name] = text[start : tag.start()].strip()
            open_name, end = "", tag.end()
        else:
            return f"{tag[0]} stands inside <{open_name}>"
    if open_name:
        return f"<{open_name}> is not closed"
    if text[end:].strip():
        return f"there is text outside the tags, after </{list(blocks)[-1]}>" if blocks else "there is no tag"
    return blocks


def _lines(block: str) -> tuple[str, ...]:
    """Return the entries of a list, without the bullets and numbers that models put before them."""
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    return tuple(
        re.sub(rf"^(?:[-*•]|{number}[.)])\s+", "", line) for number, line in enumerate(lines, start=1)
    )
