"""The `tags` dialect: what one step of the policy looks like, read and written in one place.

A step is `<think>…</think>` followed by exactly one of `<search>` (one query per line) or `<answer>`; search
results come back as `<information>`. The tags are those of Search-R1 (arXiv 2503.09516); several queries in
one search, and reading strictly instead of taking the first tag that a pattern finds, are ours.

Invariants: `parse_step` is total (every string is a step or a named `FormatError`) and takes linear time;
`parse_step(render_step(step), n) == step` for every step with at most n queries; and text that went through
`clean_text` can neither open nor close a tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from masksearch_agent.agent.escaping import PROTOCOL_TAGS, neutralise
from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.errors import AgentError
from masksearch_agent.records import MASK, Passage

__all__ = (
    "PROTOCOL_VERSION",
    "STOP_STRINGS",
    "AnswerStep",
    "FormatError",
    "FormatErrorKind",
    "SearchStep",
    "Step",
    "clean_text",
    "parse_step",
    "render_fills",
    "render_information",
    "render_step",
)

PROTOCOL_VERSION = 2
"""Recorded in bundles and trajectories; raised when a step or a result would be written differently."""

STOP_STRINGS = ("</search>", "</answer>")
"""Where a sampler ends a step. The stop text belongs to the step and must be kept."""

FormatErrorKind: TypeAlias = Literal[
    "empty_step",
    "malformed_tag",
    "unopened_tag",
    "unclosed_tag",
    "nested_tag",
    "unexpected_tag",
    "text_outside_tags",
    "duplicate_tag",
    "two_actions",
    "missing_think",
    "missing_action",
    "wrong_order",
    "empty_query",
    "too_many_queries",
    "empty_answer",
    "malformed_call",
    "unknown_tool",
    "refusal",
    "cut_off",
]
"""Every way in which a step can be malformed; the last four are those of tool calls (`dialects`)."""

# Any space but a line feed may stand in a lookalike, because `_collapse` would make it a plain one. `(?a)`
# keeps `ſ` from counting as an `s`; the possessive `*+` keeps the search linear.
_SPACE = r"[^\S\n]*+"
_TAG = re.compile(rf"<{_SPACE}(/?){_SPACE}((?ai:{'|'.join(PROTOCOL_TAGS)})){_SPACE}>")
_STEP_FORM = "<think>…</think> followed by one <search>…</search> or one <answer>…</answer>"
_SEARCH_FORM = "one query per line between <search> and </search>"
_ANSWER_FORM = "the answer between <answer> and </answer>"


@dataclass(frozen=True, slots=True)
class SearchStep:
    """A step that asks for passages; `AgentError` where a text is not what `parse_step` could return."""

    think: str
    """May be empty."""
    queries: tuple[str, ...]
    """At least one; each is one line with single spaces."""

    def __post_init__(self) -> None:
        _require_trimmed("think text", self.think)
        if not self.queries:
            raise AgentError("a search step has no query; give it at least one")
        for query in self.queries:
            _require_trimmed("query", query)
            if not query or query != _collapse(query):
                raise AgentError(
                    f"a query must be one non-empty line with single spaces, got {query!r}; "
                    "pass it through `clean_text` first"
                )


@dataclass(frozen=True, slots=True)
class AnswerStep:
    """A step that ends the run; `AgentError` where a text is not what `parse_step` could return."""

    think: str
    """May be empty."""
    answer: str
    """May have several lines (the fills of a RAMP task)."""

    def __post_init__(self) -> None:
        _require_trimmed("think text", self.think)
        _require_trimmed("answer", self.answer)
        if not self.answer:
            raise AgentError("an answer step needs a non-empty answer")


@dataclass(frozen=True, slots=True)
class FormatError:
    """What is wrong with a malformed step. It is a value and not an exception: models make such steps."""

    kind: FormatErrorKind
    detail: str
    """What was found, in words that quote nothing but tags."""
    expected: str = _STEP_FORM

    @property
    def message(self) -> str:
        """One sentence that tells the model what was wrong and what was expected."""
        return f"Malformed step: {self.detail}; expected {self.expected}."


Step: TypeAlias = SearchStep | AnswerStep


def parse_step(text: str, max_queries: int) -> SearchStep | AnswerStep | FormatError:
    """Read one step of the policy, or what is wrong with it. Never raises.

    Args:
        text: What the model wrote, stop string included. Whitespace around it and around the blocks is fine.
        max_queries: Largest number of queries in one search.
    """
    blocks = _split_blocks(text)
    if isinstance(blocks, FormatError):
        return blocks
    match blocks:
        case [("think", think), ("search", queries)]:
            return _read_search(think, queries, max_queries)
        case [("think", _), ("answer", "")]:
            return FormatError("empty_answer", "the answer is empty", _ANSWER_FORM)
        case [("think", think), ("answer", answer)]:
            return AnswerStep(think, answer)
    return _explain_blocks([name for name, _ in blocks])


def render_step(step: Step) -> str:
    """Return a step in its canonical form.

    A space follows an opening tag: a word after a space is, for most tokenizers, the token that it is in running text,
    and what a step copies from a passage is then copied token by token.
    """
    think = f"<think> {step.think}</think>" if step.think else "<think></think>"
    if isinstance(step, AnswerStep):
        return f"{think}<answer> {step.answer}</answer>"
    queries = "\n".join(step.queries)
    return f"{think}<search> {queries}</search>"


def render_information(passages: Sequence[Passage], numbers: Sequence[int] | None = None) -> str:
    """Return search results as the policy reads them; without numbers of their own they are numbered from 1.

    Each passage takes one line, so a line break in a passage can't forge a numbered passage of its own.
    """
    lines = []
    for number, passage in zip(numbers or range(1, len(passages) + 1), passages, strict=True):
        title = f"{clean_text(passage.title)}: " if passage.title.strip() else ""
        lines.append(f"[{number}] {title}{clean_text(passage.text)}")
    return "\n".join(["<information>", *(lines or ["No results."]), "</information>"])


def render_fills(passage: str, fills: Sequence[str], answer_form: AnswerForm) -> str:
    """Return the answer to a RAMP task in a form: `passage` is the text with a `[mask]` for each of the fills."""
    if answer_form == "bare_fills":
        return "\n".join(fills)
    if answer_form == "fills":
        return "\n".join(f"{number}. {fill}" for number, fill in enumerate(fills, start=1))
    parts = passage.split(MASK)
    return "".join(part + fill for part, fill in zip(parts, [*fills, ""], strict=True))


def clean_text(text: str) -> str:
    """Return text from outside as one line that is safe within a step or a prompt."""
    return neutralise(_collapse(text))


def _split_blocks(text: str) -> list[tuple[str, str]] | FormatError:
    """Return the `(tag name, trimmed content)` blocks of a text that consists of nothing else."""
    blocks: list[tuple[str, str]] = []
    open_name, block_end, content_start = "", 0, 0
    for match in _TAG.finditer(text):
        slash, name = match[1], match[2].lower()
        tag = f"<{slash}{name}>"
        if match[0] != tag:
            return FormatError("malformed_tag", f"the tag {tag} must be written exactly so")
        if not open_name:
            if text[block_end : match.start()].strip():
                return FormatError("text_outside_tags", f"there is text outside the tags, before {tag}")
            if slash:
                return FormatError("unopened_tag", f"{tag} closes a tag that was not opened")
            open_name, content_start = name, match.end()
        elif tag == f"</{open_name}>":
            blocks.append((open_name, text[content_start : match.start()].strip()))
            open_name, block_end = "", match.end()
        else:
            return FormatError("nested_tag", f"{tag} stands inside <{open_name}>")
    if open_name:
        return FormatError("unclosed_tag", f"<{open_name}> is not closed")
    if text[block_end:].strip():
        detail = f"there is text outside the tags, after </{blocks[-1][0]}>" if blocks else "there is no tag"
        return FormatError("text_outside_tags", detail)
    return blocks


def _read_search(think: str, block: str, max_queries: int) -> SearchStep | FormatError:
    queries = tuple(map(_collapse, block.split("\n")))
    if not all(queries):
        detail = "a query is empty" if block else "the search has no query"
        return FormatError("empty_query", detail, _SEARCH_FORM)
    if len(queries) > max_queries:
        detail = f"the search has {len(queries)} queries"
        return FormatError("too_many_queries", detail, f"at most {max_queries}, {_SEARCH_FORM}")
    return SearchStep(think, queries)


def _explain_blocks(names: list[str]) -> FormatError:
    """Say why well-formed blocks in this order are not a step."""
    if not names:
        return FormatError("empty_step", "the step is empty")
    if "information" in names:
        return FormatError("unexpected_tag", "<information> is written by the search tool, never by you")
    for name in names:
        if names.count(name) > 1:
            return FormatError("duplicate_tag", f"there are {names.count(name)} <{name}> blocks")
    if "search" in names and "answer" in names:
        return FormatError("two_actions", "there are both a <search> and an <answer>")
    if "think" not in names:
        return FormatError("missing_think", "there is no <think> block")
    if len(names) == 1:
        return FormatError("missing_action", "there is neither a <search> nor an <answer>")
    return FormatError("wrong_order", f"<{names[0]}> comes before <think>")


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _require_trimmed(what: str, text: str) -> None:
    if text != text.strip():
        raise AgentError(f"{what} must not start or end with whitespace, got {text!r}")
    if tag := _TAG.search(text):
        raise AgentError(f"{what} contains the tag {tag[0]!r}; pass outside text through `clean_text` first")
