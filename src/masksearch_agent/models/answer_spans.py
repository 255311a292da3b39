"""Which answers stand word for word in what a run was shown.

An answer is held while it is written: after every token its text so far must be the beginning of a span, and it may
end only where a span does. Compared is text and not tokens, because a span may begin in the middle of how a passage
was cut into tokens. Spans begin and end with whole words (`text.words`); an answer of several lines is one of several
spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from masksearch_agent.text.words import WORD

__all__ = ("ANSWER_CLOSE", "ANSWER_OPEN", "AnswerSpans")

ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
_VERDICTS = ("yes", "no", "Yes", "No")
_SEPARATOR = "\x00"
_WORD = re.compile(rf"\d+(?:[.,]\d+)+|{WORD}")
"""A number is one word: `5` is no span of `3.5`."""
_WRITTEN = re.compile(rf"[^\s{_SEPARATOR}]+")
_PROPOSED_CHARACTERS = 16
"""Of a continuation: longer than the longest token that would begin it matters little."""
_PROPOSALS = 4096


class AnswerSpans:
    """The answers that are allowed: spans of texts, `yes` and `no`.

    Args:
        texts: What was shown, and the question itself, whose options may be the answer.
        lines: Spans that the answer may have at most, one a line.
        is_numbered: Whether each line begins with its number, as `1. `.
    """

    def __init__(self, texts: Sequence[str], lines: int = 1, is_numbered: bool = False) -> None:
        self.texts = tuple(" ".join(text.split()) for text in texts)
        self.lines = lines
        self.is_numbered = is_numbered
        self._whole = _SEPARATOR.join((*_VERDICTS, *self.texts))
        # Also with the punctuation that is written to them: `$5`, `5%`, `J.`.
        words = [*_WORD.finditer(self._whole), *_WRITTEN.finditer(self._whole)]
        self._starts = {word.start() for word in words}
        self._ends = {word.end() for word in words}

    def accepts(self, written: str) -> bool:
        """Whether a text, from behind `<answer>` on, can still become an allowed answer; text behind its end may be
        anything.
        """
        answer, closing, _ = written.partition(ANSWER_CLOSE)
        if closing:
            return self.holds(answer)
        if self._closing(written):
            return True
        return self._begins(written)

    def holds(self, answer: str) -> bool:
        """Whether a text is a whole allowed answer; spaces around it play no part."""
        lines = answer.strip().split("\n")
        return len(lines) <= self.lines and all(
            self._is_line(line, number, to_end=True) for number, line in enumerate(lines, start=1)
        )

    def continuations(self, written: str) -> Iterator[str]:
        """Yield texts that may follow what was written: what stands behind it in the shown texts, or the end."""
        if rest := self._closing(written):
            yield rest
        if self.holds(written):
            yield ANSWER_CLOSE
            if written.count("\n") + 1 < self.lines:
                yield "\n"
        *before, line = written.removeprefix(" ").split("\n")
        if self.is_numbered:
            prefix = f"{len(before) + 1}. "
            if prefix.startswith(line) and line != prefix:
                yield prefix[len(line) :]
                return
            line = line.removeprefix(prefix)
        for at in islice(self._places(line), _PROPOSALS):
            rest = self._whole[at + len(line) : at + len(line) + _PROPOSED_CHARACTERS].split(_SEPARATOR)[0]
            if rest:
                yield rest
                # At the beginning a word after a space is another token than one without.
                if not written:
                    yield f" {rest}"

    def _closing(self, written: str) -> str:
        """Return what an end that has begun still lacks; empty where none has."""
        at = written.rfind("<")
        is_closing = at >= 0 and ANSWER_CLOSE.startswith(written[at:]) and self.holds(written[:at])
        return ANSWER_CLOSE[len(written) - at :] if is_closing else ""

    def _begins(self, written: str) -> bool:
        *before, last = written.removeprefix(" ").split("\n")
        if len(before) + 1 > self.lines:
            return False
        return all(
            self._is_line(line.rstrip(" "), number, to_end=True)
            for number, line in enumerate(before, start=1)
        ) and self._is_line(last, len(before) + 1, to_end=False)

    def _is_line(self, line: str, number: int, to_end: bool) -> bool:
        if self.is_numbered:
            prefix = f"{number}. "
            if prefix.startswith(line):
                return not to_end
            if not line.startswith(prefix):
                return False
            line = line.removeprefix(prefix)
        if not line:
            return not to_end
        return any(not to_end or at + len(line) in self._ends for at in self._places(line))

    def _places(self, text: str) -> Iterator[int]:
        """Yield where a text stands in what was shown, from the beginning of a word on."""
        if not text:
            yield from sorted(self._starts)
            return
        at = self._whole.find(text)
        while at >= 0:
            if at in self._starts and _SEPARATOR not in text:
                yield at
            at = self._whole.find(text, at + 1)
