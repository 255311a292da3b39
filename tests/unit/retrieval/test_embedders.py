from __future__ import annotations

import numpy as np
import pytest

from masksearch_agent.retrieval.embedders import SentenceEmbedder


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


def test_making_an_embedder_loads_nothing():
    assert SentenceEmbedder("no/such-model").name == "no/such-model"
