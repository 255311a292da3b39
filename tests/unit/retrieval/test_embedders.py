from __future__ import annotations

import numpy as np
import pytest
from fakes.passages import WordEmbedder

from masksearch_agent.retrieval.embedders import SentenceEmbedder, embed_each


@pytest.mark.slow
def test_minilm_puts_meaning_above_shared_words():
    vectors = SentenceEmbedder().embed(
        ["Who wrote the play?", "The author of the drama was a dentist.", "Children play in the park."]
    )
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-2)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@pytest.mark.slow
def test_a_vector_is_the_same_whatever_was_embedded_with_it():
    texts = [
        " ".join(["play", "drama", "Kestrel", "1912", "park"][: 1 + number % 5]) + f" {number}"
        for number in range(40)
    ]
    embedder = SentenceEmbedder()
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    assert (together == alone).all()
    assert (embedder.embed(texts[::-1][:13]) == together[::-1][:13]).all()


@pytest.mark.slow
def test_half_a_surrogate_pair_is_embedded_as_a_question_mark():
    half, mark = SentenceEmbedder().embed(["Who wrote it\udcff", "Who wrote it?"])
    assert (half == mark).all()


def test_making_an_embedder_loads_nothing():
    assert SentenceEmbedder("no/such-model").name == "no/such-model"


class PickyEmbedder(WordEmbedder):
    """Breaks on a word, and cannot number another."""

    def embed(self, texts):
        if any("poison" in text for text in texts):
            raise RuntimeError("it is poisoned")
        vectors = super().embed(texts)
        vectors[["void" in text for text in texts]] = np.nan
        return vectors


def test_a_text_that_breaks_the_embedder_costs_itself():
    embedder, texts = PickyEmbedder(), ["red", "poison", "blue", "void", "green", "poison too"]
    failed: list[tuple[int, str]] = []
    vectors = embed_each(embedder, texts, lambda place, failure: failed.append((place, str(failure))))
    assert sorted(failed) == [
        (1, "it is poisoned"),
        (3, "its vector holds what is no number"),
        (5, "it is poisoned"),
    ]
    assert sorted(vectors) == [0, 2, 4]
    expected = WordEmbedder().embed(["red", "blue", "green"])
    assert [vectors[place].tolist() for place in (0, 2, 4)] == expected.tolist()


@pytest.mark.parametrize("failure", [RuntimeError("no weights"), MemoryError(), ConnectionError("down")])
def test_an_embedder_that_is_broken_itself_stops_the_build(failure: Exception):
    class BrokenEmbedder(WordEmbedder):
        def embed(self, texts):
            raise failure

    with pytest.raises(type(failure)):
        embed_each(BrokenEmbedder(), ["a", "b"], lambda place, failure: pytest.fail("no text is to blame"))
