"""How an answer is compared with the accepted ones, wherever that is asked.

The judge, the rewards and the evaluation share these functions, so a trajectory that was accepted for
training is right by the same measure that it is later rewarded and evaluated by. All of them are pure.

Normalisation is the official one of SQuAD and HotpotQA (`hotpot_evaluate_v1.py`), with two additions that
leave plain ASCII text as it was: Unicode is NFKC-normalised and its punctuation dropped like ASCII
punctuation, and every Chinese character is a token of its own. Exact match and F1 use it as it is, so they are
those of the official scorers.

Token recall is the answer reward of MaskSearch (arXiv 2505.20285), which says no more about it than its name; for a
masked passage it is taken over the masked spans only, so repeating the passage earns nothing. It reads numbers with
more care than the official normalisation, which takes `3.5` for `35` and `1990-95` for `199095`, and a yes or no
counts only where the answer decides for it.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from masksearch_agent.records import SearchTask
from masksearch_agent.text.fills import split_fills
from masksearch_agent.text.words import space_chinese, words_of

__all__ = (
    *("answer_exact", "answer_recall", "answer_slots", "contains_phrase", "exact_match", "f1"),
    *("normalize_answer", "phrase_form", "token_recall", "tokenize_answer"),
)

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_DROP_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})

_POINT, _MINUS = "\ue000", "\ue001"
"""Stand for the point and the sign of a number; private characters, which normalisation leaves in place."""
_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?!\.?\d)")
_NEGATIVE = re.compile(r"(?<!\S)[-−](?=\d)")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[-‐–—/:.](?=\d)")
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_SMALL_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_SMALL_NUMBERS)}
# "No" before a noun decides nothing ("no information was found"), and neither does "No. 5".
_YES = re.compile(r"\byes\b|^是(?!否)|[，。；,.;]是[的。]?$|^对[的，。]?")
_NO = re.compile(
    r"\bno\b(?!\.\s*\d)(?=\s*(?:$|[^\w\s]|(?:i|we|you|he|she|it|they|this|that|these|those|there|both|neither|"
    r"only|but|because|and|or)\b))|不是|^否|^不[，。]?$"
)
_LEADING_VERDICT = re.compile(r"\W*(yes|no(?!\.\s*\d))\s*(?:[,.;:!–—-]|$)")
_CLOSED_GOLDS = {"yes": "yes", "no": "no", "是": "yes", "否": "no", "不 是": "no"}


def normalize_answer(text: str) -> str:
    """Return the text in lower case, without punctuation and articles, with single spaces."""
    lowered = unicodedata.normalize("NFKC", text).lower().translate(_DROP_ASCII_PUNCTUATION)
    if not lowered.isascii():
        lowered = "".join(
            char
            for char in lowered
            if unicodedata.category(char)[0] != "P" and unicodedata.category(char) != "Cf"
        )
        lowered = space_chinese(lowered)
    return " ".join(_ARTICLE.sub(" ", lowered).split())


def tokenize_answer(text: str) -> list[str]:
    """Return the tokens that recall and F1 count: the words of the normalised text."""
    return normalize_answer(text).split()


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1.0 where the prediction equals an accepted answer after normalisation; a blank one never does."""
    is_equal = normalize_answer(prediction) in map(normalize_answer, golds)
    return float(is_equal and bool(prediction.strip()))


def token_recall(prediction: str, golds: Sequence[str]) -> float:
    """Return the share of an accepted answer's tokens that the prediction holds, for the best of the aliases.

    Tokens count with their multiplicity. Number words, ordinals, ranges and decimals are read as numbers (`two` is
    `2`, `5th` is `5`, `3.50` is `3.5` and not `35`). A yes or no is recalled where it is what the prediction decides
    for: `yes or no` and `no information` recall neither. An alias of articles only (`The The`) has no token to
    recall, so it counts as recalled where it matches exactly.
    """
    said = Counter(_number_tokens(prediction))
    verdict = _verdict(prediction)
    return max((_recall(prediction, said, verdict, gold) for gold in golds), default=0.0)


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the token F1 of the best alias; yes, no and noanswer count only when equal (HotpotQA's rule)."""
    return max((_f1(prediction, gold) for gold in golds), default=0.0)


def contains_phrase(text: str, phrase: str) -> bool:
    """Return whether the text holds the phrase as whole words, whatever its case, punctuation and articles."""
    sought = phrase_form(phrase)
    return bool(sought) and f" {sought} " in f" {phrase_form(text)} "


def answer_slots(task: SearchTask, answer: str) -> list[tuple[str, tuple[str, ...]]]:
    """Pair each part of an answer with what is accepted for it.

    A question has one pair, the whole answer; a RAMP task one per mask, `""` for a missing fill.
    """
    parts = split_fills(task, answer) if task.kind == "ramp" else (answer,) * len(task.answers)
    return list(zip(parts, task.answers, strict=True))


def answer_recall(task: SearchTask, answer: str) -> float:
    """Return the token recall of an answer, averaged over the masks of a RAMP task."""
    slots = answer_slots(task, answer)
    return sum(token_recall(part, golds) for part, golds in slots) / len(slots)


def answer_exact(task: SearchTask, answer: str) -> float:
    """Return 1.0 where every part of an answer matches exactly, else 0.0."""
    return min(exact_match(part, golds) for part, golds in answer_slots(task, answer))


def _recall(prediction: str, said: Counter[str], verdict: str, gold: str) -> float:
    closed = _CLOSED_GOLDS.get(normalize_answer(gold))
    if closed:
        return float(verdict == closed)
    expected = Counter(_number_tokens(gold))
    if not expected:
        return exact_match(prediction, (gold,))
    return (said & expected).total() / expected.total()


def _number_tokens(text: str) -> list[str]:
    """Return the words of the normalised text, each number in one way of writing it."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = _DECIMAL.sub(_read_decimal, _NEGATIVE.sub(_MINUS, text))
    text = _ORDINAL.sub(r"\1", _BETWEEN_DIGITS.sub(" ", text))
    return [_NUMBER_WORDS.get(word, word) for word in tokenize_answer(text)]


def _read_decimal(number: re.Match[str]) -> str:
    fraction = number[2].rstrip("0")
    return f"{number[1]}{_POINT}{fraction}" if fraction else number[1]


def _verdict(text: str) -> str:
    """Return whether the text decides for `yes` or for `no`; an empty string where for neither or both."""
    text = unicodedata.normalize("NFKC", text).lower().strip()
    leading = _LEADING_VERDICT.match(text)
    if leading:
        return leading[1]
    is_yes, is_no = bool(_YES.search(text)), bool(_NO.search(text))
    return "" if is_yes == is_no else "yes" if is_yes else "no"


def _f1(prediction: str, gold: str) -> float:
    said, expected = normalize_answer(prediction), normalize_answer(gold)
    if said != expected and not _CLOSED_ANSWERS.isdisjoint({said, expected}):
        return 0.0
    common = (Counter(said.split()) & Counter(expected.split())).total()
    # 2PR / (P + R) with P = common / |said| and R = common / |expected|.
    return 2 * common / (len(said.split()) + len(expected.split())) if common else 0.0


@lru_cache(maxsize=4096)
def phrase_form(text: str) -> str:
    """Return the words that `contains_phrase` compares, in lower case, without articles, with single spaces."""
    # Remembered, because one passage is asked for many phrases, one after the other.
    # Punctuation separates here instead of vanishing: in "1641–1685" the phrase "1685" must be found.
    words = words_of(unicodedata.normalize("NFKC", text).lower())
    return " ".join(word for word in words if word not in {"a", "an", "the"})
