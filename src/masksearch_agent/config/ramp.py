"""Settings of the RAMP room."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from masksearch_agent.config.base import Settings
from masksearch_agent.config.calls import ChatModelSettings

__all__ = ("GlinerSettings", "RampSettings")


_LABELS = ("person", "organization", "place", "creative work", "event", "date", "number", "technical term")


class GlinerSettings(Settings):
    """A GLiNER model that finds spans (arXiv 2311.08526). Its extra, `[gliner]`, does not fit beside `[train]`."""

    model: str
    """Folder or hub id. A model whose encoder brings code of its own is refused."""
    labels: tuple[str, ...] = Field(default=_LABELS, min_length=1)
    """What to find, in plain words."""
    threshold: float = Field(default=0.5, ge=0, lt=1)
    """Surer finds only. GLiNER's own default."""
    batch_size: int = Field(default=16, ge=1)
    """Passages read at once."""


class RampSettings(Settings):
    """How passages become masked tasks (MaskSearch, arXiv 2505.20285, section 3.1)."""

    span_model: ChatModelSettings | None = None
    """Chat model that finds the spans, in any language it reads; None for spaCy, in English."""
    gliner: GlinerSettings | None = None
    """GLiNER model that finds the spans instead; None where another extractor does."""
    span_cache: Path | None = Path("runs/span_cache.sqlite")
    """Where the chat model's replies are kept, so that a stopped run does not pay twice; None keeps no cache."""
    spans: Literal["entities", "corpus", "both"] = "both"
    """What spaCy finds in English text: named entities, dates and numbers; terms and identifiers of which the corpus'
    statistics say that they are its own (`ramp.lexicon.glossary`); or both. A closed world says itself what its facts
    are."""
    max_masks: int = Field(default=4, ge=1)
    """Most masks in one passage; the paper's curriculum goes from 1 to 4."""
    mask_count_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    """Relative frequency of 1, 2, … masks. Equal, so that each stage of the curriculum has as many tasks. A
    passage with too few spans draws among the counts it can have; where all of those weigh 0 it gives no
    task. Weights beyond `max_masks` are not read."""
    policy: Literal["uniform", "length_weighted", "perplexity"] = "length_weighted"
    """Which spans are masked: any, the longer the likelier, or those that the reference model finds hardest."""
    reference_model: str | None = None
    """Read by `policy: perplexity`: a causal language model's folder or hub id, or a base model that a package brings;
    None for the model that is trained, which the masks are then made hard for."""
    reference_batch_size: int = Field(default=8, ge=1)
    """Passages that the reference model reads at once."""
    max_span_words: int = Field(default=6, ge=1)
    """Longer spans (titles of laws, quotations) are not answers that can be looked up word by word."""
    skipped_labels: tuple[str, ...] = ()
    """Kinds of spans that are never masked, by the extractor's labels (spaCy: `NORP`, `DATE`, …). What stands in nearly
    every passage, such as the nationality of a film, is found by chance in one that has nothing to do with it."""
    answerability_depth: int = Field(default=10, ge=1)
    """A masked span must be found in this many results of its query. The agent reads fewer per search but may
    search again in other words."""
    min_passage_words: int = Field(default=8, ge=1)
    """Shorter passages say too little to tell what is missing."""
    name_kinds: bool = False
    """Say in the need of a mask what kind of thing it hides (`the year in "is a ___ book"`), as a question does: the
    teacher's thoughts then teach to answer with a thing of the kind that was asked for."""
    cloze_questions: float = Field(default=0.0, ge=0, le=1)
    """Share of the English passages of which a question is made by rule (`ramp.questions`) in place of masks: what a
    small model learns from masks alone, it hardly takes over to questions."""
    two_passage_questions: float = Field(default=0.0, ge=0, le=1)
    """Share of the tasks that are questions over two passages of the corpus, made by rule (`ramp.two_passages`): `Where
    was the director of the film X born?`, `Who was born first, A or B?`. English encyclopedic text gives many, other
    text few; where they run out, the rest are tasks as ever. At 1 nothing is masked."""
    unasked: Literal["mask", "drop"] = "mask"
    """What becomes of a passage of that share which no rule makes an answerable question of."""
    open_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the questions whose source passage may be found, as what a user asks for stands in the documents; such a
    question needs no second passage that gives its answer."""
    support_overlap: float = Field(default=0.5, ge=0, le=1)
    """Share of the words of a query that a sentence with the answer must hold too, title included, to support it,
    beside all names of the query; at 0 the answer is enough. The hindsight teacher asks for half. A fact whose
    extractor knows how to look it up needs the answer only."""
    drop_near_copies: bool = True
    """Make one task of passages that are nearly the same, of the first one."""
    seed: int = 0
    """What is masked depends on this and on the passage, never on its place in the corpus."""

    @property
    def needs_glossary(self) -> bool:
        """Whether the corpus is asked for its phrases."""
        return self.spans != "entities" or self.cloze_questions > 0

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        weights = self.mask_count_weights[: self.max_masks]
        if len(weights) < self.max_masks or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"mask_count_weights needs a weight of at least 0 for each count from 1 to {self.max_masks}, "
                f"not all 0; got {self.mask_count_weights}"
            )
        if self.span_model is not None and self.gliner is not None:
            raise ValueError("span_model and gliner both find spans; set one of them")
        return self
