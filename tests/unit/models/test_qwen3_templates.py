"""Qwen3's chat template is refused for training, and the two templates of `training/chat_templates` are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_models import with_template

from masksearch_agent.errors import ModelError
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.traces.rows import make_rows

FOLDER = Path(__file__).resolve().parents[3] / "training" / "chat_templates"
# What the template of Qwen/Qwen3-0.6B does to conversations without tools, in its own words.
OFFICIAL = (
    "{%- set ns = namespace(last_query_index=messages|length - 1, found=false) %}"
    "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
    "{%- if not ns.found and message.role == 'user' %}"
    "{%- set ns.found = true %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' %}{%- set reasoning_content = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}"
    "{{- '<|im_start|>assistant\n<think>\n' + reasoning_content.strip('\n') }}"
    "{{- '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\n' + content }}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
OPENING = (Message("system", "Search."), Message("user", "Who founded Harrow Ltd?"))
SEARCH = "<think> The founder.</think><search> founder of Harrow Ltd</search>"
INFORMATION = Message("user", "<information>\n[1] Ada Fenwick: a founder\n</information>")
ANSWER = "<think></think><answer> Ada Fenwick</answer>"
EMPTY = "<think>\n\n</think>\n\n"


def text_of(tokenizer: Any, ids: tuple[int, ...] | list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def test_the_official_template_is_refused_because_it_moves_and_drops_what_was_thought(tiny_tokenizer: Any):
    with pytest.raises(ModelError, match="rewrites assistant messages"):
        ChatFormat(with_template(tiny_tokenizer, OFFICIAL))


@pytest.mark.parametrize(("name", "opened"), [("qwen3_thinking", ""), ("qwen3_no_thinking", EMPTY)])
def test_a_reply_opens_as_qwen3_was_taught_and_only_what_it_sampled_trains(
    tiny_tokenizer: Any, name: str, opened: str
):
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    chat_format = ChatFormat(with_template(tiny_tokenizer, template))
    official = with_template(tiny_tokenizer, OFFICIAL)
    first = chat_format.encode_context(OPENING, is_first=True, is_closed=False)
    expected = official.apply_chat_template(
        [{"role": each.role, "content": each.content} for each in OPENING],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=not opened,
    )
    assert text_of(tiny_tokenizer, first) == expected
    assert expected.endswith(f"<|im_start|>assistant\n{opened}")

    second = chat_format.encode_context([INFORMATION], is_first=False, is_closed=True)
    turns = []
    for number, (context, reply) in enumerate(((first, SEARCH), (second, ANSWER))):
        ids = tuple(chat_format.encode_reply(reply))
        messages = OPENING if not number else (INFORMATION,)
        turns.append(
            Turn(
                f"t{number}", f"t{number - 1}" if number else None, "policy", messages, reply,
                context_ids=tuple(context), sampled_ids=ids, logprobs=(-0.5,) * len(ids), model_version="v",
            )
        )  # fmt: skip
    [row] = make_rows(Trajectory("run", "task", tuple(turns), answer="", stop_reason="answered"))
    assert text_of(tiny_tokenizer, row.input_ids) == (
        f"<|im_start|>system\nSearch.<|im_end|>\n<|im_start|>user\n{OPENING[1].content}<|im_end|>\n"
        f"<|im_start|>assistant\n{opened}{SEARCH}<|im_end|>\n"
        f"<|im_start|>user\n{INFORMATION.content}<|im_end|>\n<|im_start|>assistant\n{opened}{ANSWER}<|im_end|>"
    )
    trained = [token for token, trains in zip(row.input_ids, row.trainable, strict=True) if trains]
    assert text_of(tiny_tokenizer, trained) == f"{SEARCH}<|im_end|>{ANSWER}<|im_end|>"
