"""Which spans of a passage are masked: a policy weighs them, and a seeded draw picks some.

The policies are those of MaskSearch (arXiv 2505.20285, section 3.1). The script published with it samples
with replacement, so a passage that should have four masks often has fewer; here a span is drawn at most
once. By perplexity nothing is drawn but the number of masks: the hardest spans are taken.

Invariant: the draw depends on the seed, the passage and its spans only, so order and sharding of the corpus
do not matter.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.perplexity import perplexity
from masksearch_agent.ramp.spans import IDENTIFIER, Span
from masksearch_agent.records import Passage, content_id
from masksearch_agent.text.words import count_words

__all__ = ("POLICIES", "MaskPolicy", "choose_spans", "length_weighted", "uniform")


MaskPolicy = Callable[[Passage, Sequence[Span]], Sequence[float]]
"""Weighs the spans of a passage: how much each is worth masking, and 0 for one that must not be masked."""


def uniform(passage: Passage, spans: Sequence[Span]) -> Sequence[float]:
    """Weigh all spans alike."""
    return [1.0] * len(spans)


def length_weighted(passage: Passage, spans: Sequence[Span]) -> Sequence[float]:
    """Weigh a span by its number of words; one with a digit, and an identifier, as much as the longest of the passage.

    Long names, numbers and identifiers are what a model can't guess.
    """
    lengths = [float(count_words(span.text)) for span in spans]
    largest = max(lengths, default=1.0)
    is_exact = [span.label == IDENTIFIER or re.search(r"\d", span.text) is not None for span in spans]
    return [largest if exact else length for exact, length in zip(is_exact, lengths, strict=True)]


POLICIES: dict[str, MaskPolicy] = {
    "uniform": uniform,
    "length_weighted": length_weighted,
    "perplexity": perplexity,
}
"""The policies that settings can name."""


def choose_spans(passage: Passage, spans: Sequence[Span], settings: RampSettings) -> tuple[Span, ...]:
    """Draw which of the usable spans of a passage to mask.

    Returns:
        Distinct spans in the order of the text; none where the passage cannot have a wanted number of masks.
    """
    weights = POLICIES[settings.policy](passage, spans)
    candidates = [(span, weight) for span, weight in zip(spans, weights, strict=True) if weight > 0]
    count_weights = settings.mask_count_weights[: min(settings.max_masks, len(candidates))]
    if not any(count_weights):
        return ()
    generator = random.Random(content_id(settings.seed, passage.id))
    (count,) = generator.choices(range(1, len(count_weights) + 1), weights=count_weights)
    if settings.policy == "perplexity":
        keyed = [(weight, index) for index, (_, weight) in enumerate(candidates)]
    else:
        # Weighted sampling without replacement: the largest u^(1/w) (Efraimidis and Spirakis 2006).
        keyed = [(generator.random() ** (1 / weight), index) for index, (_, weight) in enumerate(candidates)]
    chosen = (candidates[index][0] for _, index in sorted(keyed, reverse=True)[:count])
    return tuple(sorted(chosen, key=lambda span: span.start))
