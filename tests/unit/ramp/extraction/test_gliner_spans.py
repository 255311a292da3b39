"""GLiNER spans: with a fake that has the real call's signature, and with gliner itself where it is installed.

No released GLiNER model was run: the real one here has random weights, so what it finds means nothing.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.ramp import GlinerSettings
from masksearch_agent.errors import MissingExtraError, ModelError
from masksearch_agent.ramp.extraction.gliner_spans import GlinerSpanExtractor
from masksearch_agent.records import Passage

HAS_GLINER = importlib.util.find_spec("gliner") is not None
needs_gliner = pytest.mark.skipif(
    not HAS_GLINER, reason="gliner is not installed (pip install --no-deps gliner)"
)
SETTINGS = GlinerSettings(model="unused", labels=("person", "place"), threshold=0.4, batch_size=2)


class FakeGliner:
    """Finds given words, as `GLiNER.inference` of gliner 0.2.29 reports entities."""

    def __init__(self, **label_of_word: str) -> None:
        self.label_of_word = label_of_word
        self.calls: list[tuple[list[str], list[str], float, int]] = []

    def inference(
        self, texts: list[str], labels: list[str], threshold: float = 0.5, batch_size: int = 8
    ) -> list[list[dict[str, Any]]]:
        self.calls.append((texts, labels, threshold, batch_size))
        return [
            [
                {
                    "start": text.index(word),
                    "end": text.index(word) + len(word),
                    "text": word,
                    "label": label,
                    "score": 1,
                }
                for word, label in self.label_of_word.items()
                if word in text
            ]
            for text in texts
        ]


def test_finds_become_trimmed_spans_in_the_order_of_the_text() -> None:
    text = "Near London lived the Beatles and Ann's aunt."
    model = FakeGliner(**{"the Beatles": "band", "Ann's": "person", "London": "place", "the ": "article"})
    [(passage, spans)] = GlinerSpanExtractor(SETTINGS, model).extract([Passage("p", "t", text)])
    assert passage.id == "p"
    assert [(span.text, span.label) for span in spans] == [
        ("London", "place"),
        ("Beatles", "band"),
        ("Ann", "person"),
    ]
    assert all(text[span.start : span.end] == span.text for span in spans)


def test_passages_are_read_in_batches_as_they_come() -> None:
    read: list[int] = []

    def passages() -> Iterator[Passage]:
        for number in range(5):
            read.append(number)
            yield Passage(str(number), "t", f"Bo {number}")

    model = FakeGliner(Bo="person")
    stream = GlinerSpanExtractor(SETTINGS, model).extract(passages())
    assert next(stream)[0].id == "0"
    assert read == [0, 1]
    assert [passage.id for passage, _ in stream] == ["1", "2", "3", "4"]
    assert [texts for texts, *_ in model.calls] == [["Bo 0", "Bo 1"], ["Bo 2", "Bo 3"], ["Bo 4"]]
    assert model.calls[0][1:] == (["person", "place"], 0.4, 2)


@pytest.mark.skipif(HAS_GLINER, reason="gliner is installed")
def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"gliner is not installed.*masksearch-agent\[gliner\]"):
        GlinerSpanExtractor(SETTINGS)


def save_random_gliner(folder: Path) -> None:
    """Write a GLiNER checkpoint of some 80,000 random weights, made from its configuration alone."""
    import torch
    from gliner import GLiNER, GLiNERConfig
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a few words"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder / "tokenizer")
    encoder = {
        "model_type": "bert", "vocab_size": len(fast), "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 512,
    }  # fmt: skip
    config = GLiNERConfig(
        model_name=str(folder / "tokenizer"), hidden_size=32, max_width=6, encoder_config=encoder
    )
    torch.manual_seed(0)
    model = GLiNER.from_config(config, backbone_from_pretrained=False)
    model.save_pretrained(folder / "model", safe_serialization=True)


@needs_gliner
def test_gliner_itself_is_loaded_from_a_folder_and_its_spans_are_pieces_of_the_text(tmp_path: Path) -> None:
    save_random_gliner(tmp_path)
    settings = GlinerSettings(model=str(tmp_path / "model"), threshold=0.0, batch_size=2)
    passages = [
        Passage(str(number), "t", text)
        for number, text in enumerate(
            [
                "In March 1969 the Beatles recorded at Trident Studios.",
                "",
                "Zoë saw 北京 in 1912.",
                "Ann, Bo and Cy.",
            ]
        )
    ]
    found = list(GlinerSpanExtractor(settings).extract(passages))
    assert [passage for passage, _ in found] == passages
    assert [bool(spans) for _, spans in found] == [True, False, True, True]
    for passage, spans in found:
        assert list(spans) == sorted(spans, key=lambda span: span.start)
        for span in spans:
            assert passage.text[span.start : span.end] == span.text
            assert span.label in settings.labels
    assert list(GlinerSpanExtractor(settings).extract(passages)) == found


@needs_gliner
def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    save_random_gliner(tmp_path)
    config = tmp_path / "model" / "gliner_config.json"
    data = json.loads(config.read_text())
    data["encoder_config"]["auto_map"] = {"AutoModel": "evil.Model"}
    config.write_text(json.dumps(data))
    with pytest.raises(ModelError, match="brings code of its own"):
        GlinerSpanExtractor(GlinerSettings(model=str(tmp_path / "model")))


@needs_gliner
def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load a GLiNER model.*gliner_config.json"):
        GlinerSpanExtractor(GlinerSettings(model=str(tmp_path)))
