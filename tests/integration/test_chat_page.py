"""The page to talk to an agent, in a real browser: what it streams, what an answer rests on, and who sees it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("gradio")

from fakes.browser import Browser, open_browser
from fakes.chat_models import ScriptedChatModel
from langchain_core.messages import BaseMessage

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.serving.chat_page import launch_chat_page, make_chat_page

PASSAGES = [
    "Harrow was a yard. Ada Lovelace founded <b>Harrow</b> in 1932.",
    "It built ships and anchors. " * 20,
]


def reply(messages: list[BaseMessage]) -> str:
    """Search, then answer; the follow-up names what was asked before."""
    if "fail" in messages[-1].text:
        raise ValueError("the model is gone")
    asked = [m.text for m in messages if m.type == "human" and not m.text.startswith("<")]
    if messages[-1].text.startswith("<information>"):
        answer = "Ada Lovelace" if len(asked) == 1 else f"after {asked[0]}"
        if "list" in asked[0]:
            answer = "Ada Lovelace founded it. [1]\nOthers built <b>ships</b>. [2]"
        return f"<think>The passage says it.</think><answer>{answer}</answer>"
    return "<think>I have to look.</think><search>founder of Harrow</search>"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agent = MaskSearchAgent(ScriptedChatModel(script=reply), lambda query: PASSAGES)
    page = launch_chat_page(agent, port)
    yield f"http://127.0.0.1:{port}"
    page.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def ask(browser: Browser, question: str, expected: str) -> None:
    browser.wait_for("document.querySelector('textarea:not([disabled])')")
    browser.click("textarea")
    browser.type(question)
    browser.press("Enter")
    browser.wait_for(f"document.body.innerText.includes({expected!r})")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 400])
def test_an_answer_comes_with_its_steps_and_the_sentence_it_rests_on(
    address: str, browser: Browser, width: int
) -> None:
    browser.open(address, width=width)
    browser.problems.clear()  # Of the page before, which was left while its connection was open.
    ask(browser, "Who founded Harrow?", "Sources")
    text = browser.run("document.body.innerText")
    for shown in ("Thought", "Searched: founder of Harrow", "2 passages", "Ada Lovelace"):
        assert shown in text
    assert (
        browser.run("document.querySelector('mark').innerText")
        == "Ada Lovelace founded <b>Harrow</b> in 1932."
    )
    assert browser.run("document.documentElement.scrollWidth") <= width
    foreign = (
        "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.includes('127.0.0.1'))"
    )
    assert (browser.run(foreign), browser.problems) == ([], [])


@pytest.mark.slow
def test_a_finished_answer_keeps_its_numbers_and_line_breaks(address: str, browser: Browser) -> None:
    browser.open(address)
    ask(browser, "list the founders of Harrow", "Sources")
    text = browser.run("document.body.innerText")
    assert "Ada Lovelace founded it. [1]\nOthers built <b>ships</b>. [2]" in text
    headings = browser.run("[...document.querySelectorAll('.passage b')].map(e => e.innerText)")
    assert headings == ["[1]", "[2]"]


@pytest.mark.slow
def test_a_visitor_s_conversation_goes_on_and_another_s_does_not(address: str, browser: Browser) -> None:
    browser.open(address)
    ask(browser, "Who founded Harrow?", "Sources")
    ask(browser, "And when?", "after Who founded Harrow?")
    browser.open(address)
    ask(browser, "Who founded it?", "Ada Lovelace")
    assert "after" not in browser.run("document.body.innerText")


@pytest.mark.slow
def test_a_question_that_fails_says_so_and_the_next_is_answered(address: str, browser: Browser) -> None:
    browser.open(address)
    ask(browser, "fail", "This question failed. ValueError: the model is gone")
    ask(browser, "Who founded Harrow?", "after fail")


class Visitor:
    """Asks the page as Gradio does, with what it shows."""

    session_hash = "visitor"

    def __init__(self) -> None:
        self.model = ScriptedChatModel(
            script=lambda messages: f"<think></think><answer>to {messages[-1].text}</answer>"
        )
        self.page = make_chat_page(MaskSearchAgent(self.model, lambda query: PASSAGES))

    async def ask(self, question: str, *shown: str) -> list[str]:
        """Ask, where the page shows so many questions with their answers; return what of them the model reads."""
        history = [{"role": role, "content": text} for text in shown for role in ("user", "assistant")]
        [*_] = [said async for said in self.page.fn(question, history, self)]
        return [message.text for message in self.model.calls[-1] if message.type == "human"]


async def test_what_a_visitor_clears_is_forgotten() -> None:
    visitor = Visitor()
    await visitor.ask("one")
    assert await visitor.ask("two", "one") == ["one", "two"]
    assert await visitor.ask("three") == ["three"]
    assert await visitor.ask("four", "three") == ["three", "four"]


async def test_what_a_visitor_takes_back_or_asks_again_is_forgotten_alone() -> None:
    visitor = Visitor()
    await visitor.ask("one")
    await visitor.ask("two", "one")
    await visitor.ask("three", "one", "two")
    assert await visitor.ask("three", "one", "two") == ["one", "two", "three"]
    assert await visitor.ask("four", "one") == ["one", "four"]
    assert await visitor.ask("five", "one", "four") == ["one", "four", "five"]
