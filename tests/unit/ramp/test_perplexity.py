from __future__ import annotations

import math

import pytest
from fakes.spans import find_span

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.errors import TaskError
from masksearch_agent.ramp.masking import choose_spans
from masksearch_agent.ramp.perplexity import SpanSurprisal
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Passage

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from fakes.tiny_models import LINES, make_test_model, make_test_tokenizer  # noqa: E402


def spans_of(text: str, *facts: str) -> tuple[Span, ...]:
    return tuple(find_span(text, fact) for fact in facts)


@pytest.fixture(scope="module")
def measured_alone() -> SpanSurprisal:
    tokenizer = make_test_tokenizer()
    return SpanSurprisal(make_test_model(tokenizer), tokenizer, batch_size=1)


def test_surprisal_is_the_mean_of_what_a_plain_pass_gives(measured_alone: SpanSurprisal) -> None:
    text = "Bram Holt is the author of Harrow Ltd in the year 1912."
    passage = Passage("p", "Bram", text)
    [(_, spans)] = measured_alone.measure([(passage, spans_of(text, "Harrow Ltd", "1912"))])

    tokenizer, model = make_test_tokenizer(), make_test_model(make_test_tokenizer())
    whole = f"Bram: {text}"
    with torch.no_grad():
        ids = torch.tensor([tokenizer(whole)["input_ids"]])
        logp = model(ids).logits[0].log_softmax(-1)
    for span, places in zip(spans, ([9, 10], [15, 16]), strict=True):
        assert tokenizer.decode(ids[0, places]).strip() == span.text
        told = [-logp[place - 1, ids[0, place]].item() for place in places]
        assert span.surprisal == pytest.approx(sum(told) / 2, abs=1e-4)


def test_batches_of_unequal_passages_change_nothing(measured_alone: SpanSurprisal) -> None:
    tokenizer = make_test_tokenizer()
    together = SpanSurprisal(make_test_model(tokenizer), tokenizer, batch_size=7)
    texts = [" ".join(LINES[: 1 + number % 5]) + f" It was {LINES[number]}" for number in range(20)]
    read = [
        (
            Passage(f"p{number}", f"T{number}", text),
            spans_of(text, "Ada Fenwick", "Harrow Ltd") if number % 6 else (),
        )
        for number, text in enumerate(texts)
    ]
    one_by_one, batched = list(measured_alone.measure(read)), list(together.measure(read))
    assert [passage.id for passage, _ in batched] == [f"p{number}" for number in range(20)]
    values = [span.surprisal for _, spans in batched for span in spans]
    assert values == pytest.approx([span.surprisal for _, spans in one_by_one for span in spans], abs=1e-4)
    assert len(values) == 32
    assert len({round(value or 0.0, 3) for value in values}) > 10


def test_what_cannot_be_scored_has_a_surprisal_of_zero() -> None:
    tokenizer = make_test_tokenizer()
    surprisal = SpanSurprisal(make_test_model(tokenizer, max_positions=32), tokenizer)
    text = "Ada Fenwick is the founder of Harrow Ltd. " + "x " * 50 + "Port Aldin."
    [(_, spans)] = surprisal.measure(
        [(Passage("p", "", text), spans_of(text, "Ada Fenwick", "Harrow Ltd", "Port Aldin"))]
    )
    assert [span.surprisal == 0 for span in spans] == [True, False, True]


def test_the_hardest_spans_are_masked_whatever_the_seed() -> None:
    text = "aa bb cc dd ee"
    hard = {"bb": 0.5, "cc": 4.0, "dd": math.nextafter(4.0, 5.0), "ee": 0.0}
    spans = tuple(
        Span(text.index(word), text.index(word) + 2, word, "X", surprisal=value)
        for word, value in hard.items()
    )
    passage = Passage("p", "t", text)
    for seed in range(20):
        settings = RampSettings(policy="perplexity", mask_count_weights=(1, 1, 0, 0), seed=seed)
        chosen = [span.text for span in choose_spans(passage, spans, settings)]
        assert chosen in (["dd"], ["cc", "dd"])
    counts = {
        len(choose_spans(passage, spans, RampSettings(policy="perplexity", seed=seed))) for seed in range(30)
    }
    assert counts == {1, 2, 3}


def test_spans_that_no_model_has_read_are_an_error() -> None:
    spans = spans_of("aa bb", "bb")
    with pytest.raises(TaskError, match="read by no reference model"):
        choose_spans(Passage("p", "t", "aa bb"), spans, RampSettings(policy="perplexity"))
