"""Make text from outside harmless, reversibly.

A passage, a title or a question may contain `</information>` or `<|im_end|>`. Shown to a model as it stands,
it would end the block it sits in or the whole turn. `neutralise` puts one invisible WORD JOINER (U+2060)
behind the `<` of every such marker, which makes it other tokens and no tag; `restore` takes it out again.

Invariant: `restore(neutralise(text)) == text` for every string, whatever joiners it already holds. This works
because a marker with n joiners becomes one with n + 1, and nothing else changes. So neutralising twice adds
two joiners: neutralise once, where text enters.
"""

from __future__ import annotations

import re

__all__ = ("PROTOCOL_TAGS", "neutralise", "restore")

PROTOCOL_TAGS = ("think", "search", "answer", "information")
"""Names of the tags that the protocol gives a meaning to."""

_CHAT_TOKENS = (
    *("s", "bos", "eos", "pad", "unk", "cls", "sep"),
    *("start_of_turn", "end_of_turn"),
    *("tool_call", "tool_response"),
)
"""Special tokens of common chat templates that are written as tags. `<|…` (and DeepSeek's full-width `<｜…`)
needs no list."""

_JOINER = "\u2060"
_NAMES = "|".join(PROTOCOL_TAGS + _CHAT_TOKENS)
# Possessive quantifiers (`*+`) keep both patterns linear in the length of the text.
_MARKER = rf"(?={_JOINER}*+(?:[|｜]|\s*+(?:/\s*+)?(?:{_NAMES})\s*+>))"
_PLAIN = re.compile(f"<{_MARKER}", re.IGNORECASE)
_JOINED = re.compile(f"<{_JOINER}{_MARKER}", re.IGNORECASE)


def neutralise(text: str) -> str:
    """Return the text with every protocol tag and chat token in it made harmless."""
    if "<" not in text:
        return text
    return _PLAIN.sub(f"<{_JOINER}", text)


def restore(text: str) -> str:
    """Return the original of a neutralised text, for display."""
    if _JOINER not in text:
        return text
    return _JOINED.sub("<", text)
