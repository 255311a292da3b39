"""A chat template as a set of exact token suffixes.

A conversation is never rendered twice: each turn adds only the tokens of its new messages, framed by the
template's own turn boundary, to what was sent and sampled before. That is only right where the template is
prefix-preserving, i.e. rendering a longer conversation starts with the rendering of the shorter one;
`ChatFormat` checks that when it is made. (The idea of taking a suffix from a dummy conversation is TRL's,
`GRPOTrainer._get_tool_suffix_ids`.)

A template that rewrites earlier turns (many drop their reasoning) is refused, unless the caller can do with forks: then
every conversation is rendered whole, and one that no longer begins with what was sent and sampled starts a sequence of
its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from masksearch_agent.errors import ModelError
from masksearch_agent.records import MASK, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ("ChatFormat",)

logger = logging.getLogger(__name__)

_REPLY = "<think>x</think><answer>x</answer>"
_PLAIN_REPLY = "zqx"
_CACHED_CONTEXTS = 1024
_JOINER = "\u2060"
_OWN = re.compile(rf"</?(?:think|search|answer|information)>|{re.escape(MASK)}")
"""What the protocol writes into contexts itself, whatever a tokenizer takes it for; `agent.escaping` has made those of
others harmless before."""
_OPENING = (Message("system", "s"), Message("user", "u"))


class ChatFormat:
    """Renders messages as tokens for one tokenizer.

    Args:
        tokenizer: It needs a chat template, a pad token and an end-of-sequence token.
        allow_rewriting: Take a template that is not prefix-preserving, with a warning; only `encode_added` can then go
            on with a conversation.

    Raises:
        ModelError: The tokenizer lacks one of these, or its template takes no system prompt or is not
            prefix-preserving.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, allow_rewriting: bool = False) -> None:
        self.tokenizer = tokenizer
        name = self._name = tokenizer.name_or_path or type(tokenizer).__name__
        if not tokenizer.chat_template:
            raise ModelError(f"the tokenizer of {name!r} has no chat template; set `tokenizer.chat_template`")
        if tokenizer.pad_token_id is None:
            raise ModelError(
                f"the tokenizer of {name!r} has no pad token; set `tokenizer.pad_token` (to a token that is "
                f"never sampled, not to the end-of-turn token) and save it"
            )
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {name!r} has no end-of-sequence token; set `tokenizer.eos_token`"
            )
        self._special = _special_pattern(tokenizer)
        # The rollouts of a group open alike and are often shown the same passages.
        self._cached_ids = lru_cache(_CACHED_CONTEXTS)(self._context_ids)
        self.end_of_turn_id = self._find_end_of_turn()
        self.is_prefix_preserving = True
        """Whether a longer conversation always begins with the tokens of the shorter one."""
        try:
            self._prefix_text = self._find_prefix_text()
            self._check_prefix_preserving()
        except ModelError as problem:
            if not allow_rewriting:
                raise
            self.is_prefix_preserving = False
            logger.warning("%s; turns that it rewrites train as rows of their own", problem)

    def encode_context(self, messages: Sequence[Message], is_first: bool, is_closed: bool) -> list[int]:
        """Return the ids that new messages add; see `traces.rows.TurnEncoder`."""
        if is_first:
            return list(self._cached_ids(tuple(messages), True))
        if not self.is_prefix_preserving:
            raise ModelError(
                f"the chat template of {self._name!r} rewrites earlier turns, so a turn cannot be appended to them; "
                f"use a training template that only appends"
            )
        suffix = list(self._cached_ids(tuple(messages), False))
        # A reply that sampled its end-of-turn token already holds the first id of the boundary.
        return suffix[1:] if is_closed else suffix

    def encode_added(
        self, sent_ids: Sequence[int], conversation: Sequence[Message], known: int
    ) -> list[int] | None:
        """Return the ids that a conversation adds to what was sent and sampled for its `known` first messages.

        The last of those is a reply. The ids go up to where the next reply begins; None where the template writes the
        first messages in another way now.
        """
        if self.is_prefix_preserving:
            is_closed = sent_ids[-1] == self.end_of_turn_id
            return self.encode_context(conversation[known:], is_first=False, is_closed=is_closed)
        whole = self._ids(self._render(conversation, add_generation_prompt=True))
        return whole[len(sent_ids) :] if whole[: len(sent_ids)] == list(sent_ids) else None

    def encode_reply(self, text: str) -> list[int]:
        """Return the ids of a reply, its end-of-turn token included."""
        return [*self._ids(text), self.end_of_turn_id]

    def decode_reply(self, ids: Sequence[int]) -> str:
        """Return a reply's text without its end-of-turn token."""
        kept = list(ids[:-1]) if ids and ids[-1] == self.end_of_turn_id else list(ids)
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _context_ids(self, messages: tuple[Message, ...], is_first: bool) -> tuple[int, ...]:
        if is_first:
            return tuple(self._ids(self._render(messages, add_generation_prompt=True)))
        text = self._render([*_OPENING, Message("assistant", _REPLY), *messages], add_generation_prompt=True)
        if not text.startswith(self._prefix_text):
            raise self._not_preserving(self._ids(self._prefix_text), self._ids(text))
        return tuple(self._ids(text[len(self._prefix_text) :]))

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        conversation: list[dict[str, Any]] = [
            {"role": m.role, "content": m.content if m.role == "assistant" else self._harmless(m.content)}
            for m in messages
        ]
        try:
            options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
            return str(self.tokenizer.apply_chat_template(conversation, **options))
        except TemplateError as failure:
            roles = ", ".join(message.role for message in messages)
            raise ModelError(
                f"the chat template of {self._name!r} refuses messages of the roles {roles}: {failure}; use a "
                f"template that takes a system prompt and then user and assistant in turn"
            ) from failure

    def _harmless(self, text: str) -> str:
        """Return a text from outside without the special tokens of this tokenizer, as `agent.escaping` makes tags so.

        Those that look like no tag of a chat, such as `[INST]` and `<file_name>`, only their tokenizer knows.
        """
        return self._special.sub(lambda found: f"{found[0][0]}{_JOINER}{found[0][1:]}", text)

    def _ids(self, text: str) -> list[int]:
        # A tokenizer refuses half a surrogate pair.
        whole = text.encode(errors="replace").decode()
        return list(self.tokenizer(whole, add_special_tokens=False)["input_ids"])

    def _find_prefix_text(self) -> str:
        text = self._render([*_OPENING, Message("assistant", _REPLY)], add_generation_prompt=False)
        cut = text.rfind(_REPLY)
        if cut < 0:
            raise ModelError(
                f"the chat template of {self._name!r} rewrites assistant messages (it drops or moves `<think>` text), "
                f"so earlier turns would change; use a template that keeps every turn as it was written"
            )
        return text[: cut + len(_REPLY)]

    def _find_end_of_turn(self) -> int:
        conversation = [*_OPENING, Message("assistant", _PLAIN_REPLY), Message("user", "u")]
        text = self._render(conversation, add_generation_prompt=True)
        boundary = self._ids(text[text.rfind(_PLAIN_REPLY) + len(_PLAIN_REPLY) :])
        if not boundary or boundary[0] not in self.tokenizer.all_special_ids:
            raise ModelError(
                f"the chat template of {self._name!r} does not end an assistant turn with a special token, so a turn's "
                f"end cannot be learned; use a template with an end-of-turn token"
            )
        return boundary[0]

    def _check_prefix_preserving(self) -> None:
        conversation = list(_OPENING)
        built = self.encode_context(conversation, is_first=True, is_closed=False)
        for turn in range(2):
            conversation += [Message("assistant", _REPLY), Message("user", f"v{turn}")]
            built += self.encode_reply(_REPLY)
            built += self.encode_context(conversation[-1:], is_first=False, is_closed=True)
            whole = self._ids(self._render(conversation, add_generation_prompt=True))
            if built != whole:
                raise self._not_preserving(built, whole)

    def _not_preserving(self, sent: Sequence[int], whole: Sequence[int]) -> ModelError:
        pairs = enumerate(zip(sent, whole, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(sent), len(whole)))
        token = self.tokenizer.convert_ids_to_tokens(whole[at]) if at < len(whole) else "the end"
        return ModelError(
            f"the chat template of {self._name!r} is not prefix-preserving: a longer conversation differs from "
            f"what was sent before at token {at} ({token!r}); use a training template that only appends"
        )


def _special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Return a pattern of the special tokens of a tokenizer, those that it has no name for included."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    names = {name for name in (*added, *tokenizer.all_special_tokens) if len(name) > 1}
    names = {name for name in names if not _OWN.fullmatch(name)}
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
