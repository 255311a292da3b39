"""Both report pages in a real browser, with a real mouse and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import Browser, open_browser
from fakes.evaluation_results import result, write_results
from fakes.run_report import run_report

from masksearch_agent.reports.evaluation_page import write_evaluation_page
from masksearch_agent.reports.run_page import write_run_report

pytest.importorskip("numpy")

FORGED = "</script><script>window.forged = 1</script><img src=x onerror='window.forged = 1'><!--"
TABLE = "#question-table"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Return the browser; whatever a test did, no page may have logged an error or run what it was not to run."""
    chromium.problems.clear()
    yield chromium
    assert chromium.run("window.forged") is None
    assert chromium.problems == []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of two runs on 130 and 3 questions, one of which brings markup."""
    folder = tmp_path_factory.mktemp("evals")
    many = [
        result(f"t{number}", 0.0 if number % 10 == 0 else 1.0, hops=1 + number % 2) for number in range(129)
    ]
    forged = result("forged", 0.5, question=FORGED, passage=FORGED, searches=4, stop_reason="forced", hops=3)
    write_results(folder, "qa-agentic", *many, forged)
    write_results(folder, "qa-rag-pe", *(result(f"t{number}", 0.25, seconds=number) for number in range(3)))
    return write_evaluation_page(folder).as_uri()


def tasks(browser: Browser) -> list[str]:
    """Return what the visible questions ask for, in order."""
    shown = browser.run(
        f"[...document.querySelectorAll('{TABLE} tbody > tr:not(.opened) th')].map(cell => cell.innerText)"
    )
    return [text.removeprefix("Who built ").rstrip("?") for text in shown]


def count(browser: Browser) -> str:
    return str(browser.run("document.querySelector('.filters output').textContent"))


def head(field: str) -> str:
    return f"{TABLE} th[data-field={field}]"


def choose(browser: Browser, name: str, first_letters: str) -> None:
    """Choose an option as one does with the keyboard."""
    browser.run(f"document.querySelector('.filters select[name={name}]').focus()")
    browser.type(first_letters)


def test_it_renders(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.run("document.querySelector('h1').innerText") == "Evaluation: " + page.split("/")[-2]
    assert browser.run("document.querySelectorAll('figure.chart svg').length") == 3
    dots = "document.querySelectorAll('[aria-roledescription=circle], [aria-roledescription=point]').length"
    assert browser.run(dots) == 1 + 3 + 1 + 2 + 1, (
        "a difference; recall by hops and by searches of each agent"
    )
    assert count(browser) == "133 of 133 questions"
    assert tasks(browser)[:3] == ["t0", "t1", "t2"]


def test_a_heading_sorts_by_mouse_and_keyboard(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click(head("seconds") + " button")
    assert tasks(browser)[:2] == ["t2", "t1"]
    assert browser.run(f"document.querySelector('{head('seconds')}').ariaSort") == "descending"
    browser.press("Enter")
    assert tasks(browser)[0] == "t0"
    assert browser.run(f"document.querySelector('{head('seconds')}').ariaSort") == "ascending"
    browser.click(head("question") + " button")
    assert tasks(browser)[:4] == [FORGED, "t0", "t0", "t1"], "t10 comes after t9"
    assert browser.run(f"document.querySelectorAll('{TABLE} [aria-sort]').length") == 1


def test_unknown_values_stay_at_the_end(browser: Browser, page: str) -> None:
    browser.open(page)
    gains = (
        f"[...document.querySelectorAll('{TABLE} tbody tr')].slice(0, 4).map(row => row.cells[3].textContent)"
    )
    browser.click(head("gain") + " button")
    assert browser.run(gains) == ["+0.75", "+0.75", "-0.25", "–"]
    browser.click(head("gain") + " button")
    assert browser.run(gains) == ["-0.25", "+0.75", "+0.75", "–"]


def test_words_and_choices_filter(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click(".filters input")
    browser.type("BUILT t12")
    assert count(browser) == "10 of 133 questions"
    assert tasks(browser) == ["t12", *(f"t12{digit}" for digit in range(9))]
    choose(browser, "grade", "w")
    assert tasks(browser) == ["t120"]
    browser.click(".filters button[type=reset]")
    browser.wait_for("document.querySelector('.filters output').textContent === '133 of 133 questions'")
    choose(browser, "agent", "R")
    assert tasks(browser) == ["t0", "t1", "t2"]
    browser.click(".filters button[type=reset]")
    choose(browser, "hops", "3")
    assert tasks(browser) == [FORGED]
    choose(browser, "stop", "a")
    assert (tasks(browser), count(browser)) == ([], "0 of 133 questions")


def test_a_question_opens_its_trajectory_in_place(browser: Browser, page: str) -> None:
    browser.open(page)
    button = f"{TABLE} tbody tr:nth-child(2) th button"
    browser.click(button)
    browser.wait_for("document.querySelector('.reader .turn')")
    opened = browser.run(f"document.querySelector('{TABLE} tbody tr:nth-child(3) .reader').innerText")
    for text in ("task t1 · trajectory ", "I need the builder of t1.", "t1 was built by Ann Bo."):
        assert text in opened
    assert browser.run("document.querySelector('.reader .answer .text').checkVisibility()")
    assert browser.run(f"document.querySelector('{button}').ariaExpanded") == "true"
    browser.click(head("question") + " button")
    assert tasks(browser)[3] == "t1"
    assert browser.run(f"document.querySelector('{TABLE} tbody tr:nth-child(5) .reader').innerText") == opened
    browser.run("document.querySelector('[aria-expanded=true]').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('.reader')") is None


def test_a_link_leads_to_a_question(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click(f"{TABLE} tbody tr:nth-child(5) th button")
    link = browser.run("location.href")
    assert link == page + "#qa%2Fagentic%2Ft4"
    browser.open(link)
    browser.wait_for("document.querySelector('.reader .turn')")
    assert tasks(browser)[:3] == ["t4", "t0", "t1"]


def test_a_hundred_rows_are_drawn_at_a_time(browser: Browser, page: str) -> None:
    browser.open(page)
    assert len(tasks(browser)) == 100
    browser.click(".more")
    assert len(tasks(browser)) == 133
    assert not browser.run("document.querySelector('.more').checkVisibility()")
    assert browser.run("document.activeElement.innerText") == "Who built t100?"


def test_outside_text_is_shown_and_not_run(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click(".filters input")
    browser.type("window.forged")
    assert tasks(browser) == [FORGED]
    browser.click(f"{TABLE} tbody th button")
    browser.wait_for("document.querySelector('.reader .turn')")
    shown: Any = browser.run("document.querySelector('.reader .information').innerText")
    assert "onerror='window.forged = 1'" in shown


def test_markup_that_got_in_could_not_act(browser: Browser, page: str) -> None:
    browser.open(page)
    forged = '<button id="smuggled" onclick="window.forged = 1">'
    browser.run(f"document.body.insertAdjacentHTML('afterbegin', '{forged}')")
    browser.click("#smuggled")
    browser.wait_for("document.activeElement.id === 'smuggled'")
    [problem] = browser.problems
    assert "Content Security Policy" in problem
    browser.problems.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone(browser: Browser, page: str, scheme: str) -> None:
    browser.open(page, width=400, scheme=scheme)
    browser.click(f"{TABLE} tbody th button")
    browser.wait_for("document.querySelector('.reader .turn')")
    browser.click(".open-all")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    reader = browser.run(
        "(box => [box.left, box.right])(document.querySelector('.reader').getBoundingClientRect())"
    )
    assert 0 <= reader[0] < reader[1] <= 400
    colours = "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])"
    ink, paper = (sum(map(int, value[4:-1].split(","))) for value in browser.run(colours))
    assert (ink < paper) == (scheme == "light")


def test_the_page_of_a_run_sorts_opens_and_shows_values(browser: Browser, tmp_path: Path) -> None:
    write_run_report(run_report(), tmp_path)
    browser.open((tmp_path / "report.html").as_uri(), width=500)
    first = "document.querySelector('table.scores tbody th').textContent"
    assert browser.run(first) == "untrained"
    column = "table.scores thead th:nth-child(2) button"
    browser.click(column)
    assert browser.run(first) == "agent"
    browser.click(column)
    assert browser.run(first) == "untrained"
    browser.click(".open-all")
    assert browser.run("[...document.querySelectorAll('details.sample')].every(sample => sample.open)")
    mark = "document.querySelector('[aria-label^=\\'training step: 100; loss\\']')"
    x, y = browser.run(
        f"(mark => {{ mark.scrollIntoView({{block: 'center'}}); const box = mark.getBoundingClientRect(); "
        f"return [box.left + box.width / 2, box.top + box.height / 2]; }})({mark})"
    )
    browser.hover(x, y)
    shown = "[...document.querySelectorAll('.tip')].map(tip => tip.textContent).join('')"
    browser.wait_for(f"{shown} === 'training step: 100\\nloss: 0.5\\nstage: RAMP SFT'")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
