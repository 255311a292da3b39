from __future__ import annotations

import asyncio
import copy
import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.tiny_models import forced_continuation
from langchain_core.messages import HumanMessage, SystemMessage

from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.errors import ModelError
from masksearch_agent.models.local import LocalChatModel, load_checkpoint
from masksearch_agent.records import Message, Sampling, Trajectory
from masksearch_agent.traces.recorder import CallRecording, Recorder
from masksearch_agent.traces.rows import make_rows
from masksearch_agent.trainers.optimization import shared_arguments

QUESTION = [SystemMessage("Answer."), HumanMessage("Who is the founder of Harrow Ltd?")]


@pytest.fixture
def model(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[LocalChatModel]:
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=8, model_version="v1")
    yield model
    model.close()


def reply_chain(model: LocalChatModel, *pieces: str) -> list[int]:
    """Return the ids that follow the generation prompt: its last token, then one for each piece."""
    prompt = model.chat_format.encode_context([Message("user", "u")], is_first=True, is_closed=False)
    return [prompt[-1], *(model.tokenizer(piece)["input_ids"][0] for piece in pieces)]


def test_the_reply_is_the_decoded_text_with_its_cost(model: LocalChatModel, tiny_model: Any):
    with forced_continuation(tiny_model, reply_chain(model, "<think>", " mayor", "</think>", "</search>")):
        reply = model.invoke(QUESTION, stop=["</search>"])
    assert reply.content == "<think> mayor</think></search>"
    assert reply.response_metadata["model_name"] == "v1"
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.usage_metadata["output_tokens"] == 4


def test_the_end_of_turn_is_recorded_but_not_shown(model: LocalChatModel, tiny_model: Any):
    recorder = Recorder()
    chain = [*reply_chain(model, "Ada"), model.chat_format.end_of_turn_id]
    with forced_continuation(tiny_model, chain):
        reply = model.invoke(QUESTION, recording=CallRecording(recorder, "policy", None))
    [turn] = recorder.turns
    assert reply.content == turn.text == "Ada"
    assert list(turn.sampled_ids) == chain[1:]


@pytest.mark.parametrize("ends_itself", [True, False], ids=["end of turn sampled", "stop string"])
def test_two_turns_make_the_row_that_the_template_would_render(
    model: LocalChatModel, tiny_model: Any, tiny_tokenizer: Any, ends_itself: bool
):
    recorder = Recorder()
    chain = reply_chain(model, "<search>", " mayor", "</search>")
    if ends_itself:
        chain.append(model.chat_format.end_of_turn_id)
    stop = [] if ends_itself else ["</search>"]
    conversation: list[Any] = list(QUESTION)
    parent = None
    for _ in range(2):
        with forced_continuation(tiny_model, chain):
            reply = model.invoke(conversation, stop=stop, recording=CallRecording(recorder, "policy", parent))
        parent = reply.response_metadata["turn_id"]
        conversation += [reply, HumanMessage("<information>\nNo results.\n</information>")]

    [row] = make_rows(Trajectory("run", "task", recorder.turns, answer="", stop_reason="answered"))

    roles = {"human": "user", "ai": "assistant"}
    text = tiny_tokenizer.apply_chat_template(
        [{"role": roles.get(m.type, m.type), "content": m.content} for m in conversation[:-1]], tokenize=False
    )
    whole = tiny_tokenizer(text)["input_ids"]
    assert list(row.input_ids) == whole[: len(row.input_ids)]
    left = tiny_tokenizer.decode(whole[len(row.input_ids) :])
    assert left == ("\n" if ends_itself else "<|im_end|>\n")
    assert row.trainable_count == 2 * (len(chain) - 1)


def test_a_reply_at_the_limit_says_so(model: LocalChatModel):
    recorder = Recorder()
    reply = model.invoke(QUESTION, max_tokens=1, recording=CallRecording(recorder, "policy", None))
    assert reply.response_metadata["finish_reason"] == recorder.turns[0].finish_reason == "length"
    assert len(recorder.turns[0].sampled_ids) == 1


def test_a_recording_s_sampling_comes_before_the_model_s_and_after_the_call_s(model: LocalChatModel):
    recorder = Recorder()
    recording = CallRecording(recorder, "policy", None, Sampling(temperature=0.4, top_p=0.6, max_tokens=3))
    model.invoke(QUESTION, recording=recording)
    model.invoke(QUESTION, recording=recording, max_tokens=2, stop=["x"])
    recording = dataclasses.replace(recording, sampling=Sampling(max_tokens=2, stop=("y",)))
    model.invoke(QUESTION, recording=recording)
    assert [turn.sampling for turn in recorder.turns] == [
        Sampling(0.4, 0.6, 3),
        Sampling(0.4, 0.6, 2, ("x",)),
        Sampling(max_tokens=2, stop=("y",)),
    ]


def test_a_model_s_own_stop_strings_hold_where_a_call_has_none(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=2, stop=["</x>"])
    recorder = Recorder()
    for stop in (None, ["</y>"], []):
        model.invoke(QUESTION, stop=stop, recording=CallRecording(recorder, "policy", None))
    model.close()
    assert [turn.sampling.stop for turn in recorder.turns if turn.sampling] == [("</x>",), ("</y>",), ()]


async def test_concurrent_calls_are_sampled_together_with_the_same_result(
    model: LocalChatModel, tiny_model: Any
):
    questions = [[HumanMessage(f"Who is the founder of {'the ' * n}Velling Works?")] for n in range(8)]
    alone = [model.invoke(question).content for question in questions]
    sizes = []
    hook = tiny_model.register_forward_pre_hook(
        lambda _model, _args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    replies = await asyncio.gather(*(model.ainvoke(question) for question in questions))
    hook.remove()
    assert [reply.content for reply in replies] == alone
    assert max(sizes) == 8


def test_threads_may_share_a_model(model: LocalChatModel):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: model.invoke(QUESTION).content, range(16)))
    assert replies == [model.invoke(QUESTION).content] * 16


async def test_a_cancelled_call_leaves_the_others_alone(model: LocalChatModel):
    expected = model.invoke(QUESTION).content
    tasks = [asyncio.create_task(model.ainvoke(QUESTION)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [reply.content for reply in results[1:]] == [expected] * 3


async def test_a_cancelled_task_gives_its_slot_to_one_that_waits_while_others_go_on(
    tiny_model: Any, tiny_tokenizer: Any
):
    no_token = -1
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=40, max_batch_size=2)
    model._engine.end_of_turn_id = no_token  # nothing ends before its limit
    passes: list[tuple[int, int]] = []
    gate, has_started = threading.Event(), threading.Event()

    def watch(_model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" not in kwargs:
            return  # it only asks whether the weights are what they were
        passes.append(tuple(kwargs["input_ids"].shape))
        if kwargs["input_ids"].shape[1] == 1 and not has_started.is_set():
            has_started.set()
            assert gate.wait(60)

    async def ask(number: int) -> str:
        question = [HumanMessage(f"Who is the founder of {'the ' * number}Velling Works?")]
        return str((await model.ainvoke(question)).content)

    expected = [await ask(number) for number in range(3)]
    model._engine.forget()
    model._engine.linger_s = 0.3  # the first two are read together, however slow the machine is
    hook = tiny_model.register_forward_pre_hook(watch, with_kwargs=True)
    tasks = [asyncio.create_task(ask(number)) for number in range(3)]
    await asyncio.to_thread(has_started.wait, 60)
    tasks[1].cancel()
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    hook.remove()
    model.close()

    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert [outcomes[0], outcomes[2]] == [expected[0], expected[2]]
    # The first two were read together and sampled once; then the third one took the slot of the second.
    prompts = [place for place, (_, width) in enumerate(passes) if width > 1]
    assert [passes[place][0] for place in prompts] == [2, 1]
    assert prompts[1] <= 3, "it joined at once and not when the first one was done"
    assert max(rows for rows, width in passes if width == 1) == 2


def test_a_closed_model_opens_again(model: LocalChatModel):
    first = model.invoke(QUESTION).content
    model.close()
    assert model.invoke(QUESTION).content == first


def test_a_conversation_that_is_too_long_is_refused(model: LocalChatModel):
    with pytest.raises(ModelError, match=r"the model reads at most 512; lower the agent's `max_searches`"):
        model.invoke([HumanMessage("mayor " * 600)])


def test_new_weights_are_used_at_the_next_call(tiny_tokenizer: Any):
    from fakes.tiny_models import make_test_model

    weights = make_test_model(tiny_tokenizer)
    model = LocalChatModel(model=weights, tokenizer=tiny_tokenizer, max_tokens=8)
    before = model.invoke(QUESTION).content
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.copy_(torch.randn_like(parameter))
    assert model.invoke(QUESTION).content != before
    model.close()


def test_a_checkpoint_is_loaded_as_it_was_saved(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path):
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model = LocalChatModel.from_pretrained(tmp_path, max_tokens=8)
    assert model.model_version == str(tmp_path)
    original = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=8)
    assert model.invoke(QUESTION).content == original.invoke(QUESTION).content
    for each in (model, original):
        each.close()


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="no checkpoint folder"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="cannot load the tokenizer of"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("has_amx", "processor", "computes"),
    [
        (True, "Intel(R) Xeon(R)", True),
        (False, "Intel(R) Xeon(R)", False),
        (False, "AMD EPYC", True),
    ],
)
def test_a_checkpoint_in_bfloat16_is_held_in_what_the_processor_computes(
    tiny_model: Any,
    tiny_tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_amx: bool,
    processor: str,
    computes: bool,
) -> None:
    saved = copy.deepcopy(tiny_model).to(torch.bfloat16)
    saved.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    capabilities = {"avx512_bf16": True, "cpu_name": processor}
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    model, _ = load_checkpoint(tmp_path)
    assert model.dtype == (torch.bfloat16 if computes else torch.float32)
    assert shared_arguments(SFTSettings(bf16=True), tmp_path)["bf16"] is computes
