from __future__ import annotations

import asyncio

import pytest

from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS, choose_prompts
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.hindsight import HindsightTeacher, find_support, quote_support
from masksearch_agent.generator.roles import Findings, Plan, render_answer
from masksearch_agent.records import Hop, Passage, SearchTask
from masksearch_agent.text.fills import split_fills

HOP = Hop("the mayor of Port Aldin", "Port Aldin mayor", "Ada Holt")
UNRELATED = Passage("u", "Kelm", "Ada Holt once visited.")
WEAK = Passage("w", "Port Aldin", "Ada Holt lives here.")
STRONG = Passage("s", "Port Aldin", "Its mayor is Ada Holt.")
SILENT = Passage("n", "Port Aldin", "Its mayor is unknown.")


def test_support_is_the_number_of_the_passage_that_says_most_of_the_query() -> None:
    assert find_support(HOP, (SILENT, UNRELATED, WEAK, STRONG)) == 4


def test_of_equal_passages_the_first_supports() -> None:
    assert find_support(HOP, (STRONG, STRONG)) == 1


def test_the_answer_alone_without_what_was_asked_supports_nothing() -> None:
    assert find_support(HOP, (UNRELATED, SILENT)) is None


def test_a_passage_with_half_of_the_query_supports() -> None:
    assert find_support(HOP, (WEAK,)) == 1


def test_nothing_is_left_to_plan_once_every_hop_is_known() -> None:
    task = SearchTask("q", "qa", "Who?", (("Ada Holt",),), hops=(HOP,))
    findings = Findings(task, ((HOP.query,),), ((STRONG,),))
    teacher = HindsightTeacher()
    assert asyncio.run(teacher.plan(findings)) == Plan("", ())
    assert asyncio.run(teacher.observe(findings)).answer == "Ada Holt"


def test_a_fact_found_on_the_way_to_another_mask_is_noted() -> None:
    other = Hop("the region of Port Aldin", "Port Aldin region", "Ardenia")
    task = SearchTask(
        "r", "ramp", "Port Aldin: [mask], [mask].", (("Ada Holt",), ("Ardenia",)), hops=(HOP, other)
    )
    both = Passage("b", "Port Aldin", "Its mayor is Ada Holt. Its region is Ardenia.")
    seen = asyncio.run(HindsightTeacher().observe(Findings(task, ((HOP.query,),), ((both,),))))
    assert seen.text == "The mayor of Port Aldin is Ada Holt [1]. The region of Port Aldin is Ardenia [1]."
    assert seen.answer == "1. Ada Holt\n2. Ardenia"


def test_needs_per_round_says_how_many_masks_are_looked_up_at_once() -> None:
    hops = tuple(Hop(f"need {n}", f"query {n}", f"answer {n}") for n in range(3))
    task = SearchTask("r", "ramp", "[mask] [mask] [mask]", tuple((h.answer,) for h in hops), hops=hops)
    teacher = HindsightTeacher(GeneratorSettings(needs_per_round=2))
    assert asyncio.run(teacher.plan(Findings(task))).needs == ("need 0", "need 1")
    unknown = Findings(task, (("query 0", "query 1"),), ((UNRELATED,),))
    assert asyncio.run(teacher.plan(unknown)) == Plan("I need need 0 and need 1.", ("need 0", "need 1"))


def test_the_first_thought_lists_all_hops_without_telling_what_is_not_known_yet() -> None:
    born = Hop("Ada Holt's birthplace", "Ada Holt birthplace", "Kelm")
    region = Hop("Kelm's region", "Kelm region", "Ardenia")
    task = SearchTask("q", "qa", "Where?", (("Ardenia",),), hops=(HOP, born, region))
    plan = asyncio.run(HindsightTeacher().plan(Findings(task)))
    assert plan.text == "I need the mayor of Port Aldin, then #1's birthplace, then #2's region."
    assert plan.needs == (HOP.need,)


def test_a_quote_supports_only_where_it_holds_the_context_itself() -> None:
    hop = Hop("need", "Port Aldin harbour mayor salary", "Ada Holt")
    elsewhere = Passage("e", "News", "The harbour of Port Aldin pays its mayor a salary. She met Ada Holt.")
    inside = Passage("i", "Port Aldin", "The mayor of its harbour is Ada Holt.")
    assert find_support(hop, (elsewhere, inside)) == 1
    assert find_support(hop, (elsewhere, inside), in_quote=True) == 2
    assert find_support(hop, (elsewhere,), in_quote=True) is None


@pytest.mark.parametrize(
    ("title", "text", "thought"),
    [
        (
            "Port Aldin",
            "It has a quay. Its mayor is Ada Holt. Ada Holt sings.",
            '"Port Aldin" says: Its mayor is Ada Holt.',
        ),
        ("", "The mayor of Port Aldin is Ada Holt.", "Passage 2 says: The mayor of Port Aldin is Ada Holt."),
    ],
)
async def test_support_can_be_quoted_under_its_title_or_number(title: str, text: str, thought: str) -> None:
    teacher = HindsightTeacher(GeneratorSettings(quote_support=True))
    task = SearchTask("q", "qa", "Who?", (("Ada Holt",),), hops=(HOP,))
    told = Passage("s", title, text)
    observation = await teacher.observe(Findings(task, ((HOP.query,),), ((SILENT, told),)))
    assert observation.text == thought
    assert observation.answer == "Ada Holt"


async def test_after_a_quote_the_kind_of_thing_that_was_needed_leads_to_the_answer() -> None:
    hop = Hop('the person in "Its mayor is ___."', "Port Aldin mayor", "Ada Holt", kind="person")
    told = Passage("s", "Port Aldin", "It has a quay. Its mayor is Ada Holt.")
    task = SearchTask("q", "ramp", "Port Aldin: Its mayor is [mask].", (("Ada Holt",),), hops=(hop,))
    teacher = HindsightTeacher(GeneratorSettings(quote_support=True))
    observation = await teacher.observe(Findings(task, ((hop.query,),), ((told,),)))
    assert observation.text == '"Port Aldin" says: Its mayor is Ada Holt. So the person is Ada Holt.'


def test_a_long_sentence_is_quoted_from_its_beginning_or_up_to_the_answer() -> None:
    words = [f"w{index}" for index in range(50)]
    early, late = ([*words[:place], "Ada", "Holt", *words[place:]] for place in (10, 40))
    assert quote_support(HOP, Passage("p", "", " ".join(early))) == " ".join(early[:30])
    assert quote_support(HOP, Passage("p", "", " ".join(late))) == " ".join(late[12:42])


def test_an_answer_that_only_the_title_holds_is_quoted_with_it() -> None:
    assert quote_support(HOP, Passage("p", "Ada Holt", "She is the mayor.")) == "Ada Holt: She is the mayor."


async def test_the_passage_form_repeats_the_passage_with_every_mask_filled() -> None:
    task = SearchTask(
        "t", "ramp", "Port Aldin: It is led by [mask].", (("Ada Holt",),), hops=(HOP,), source_passage_id="s"
    )
    told = Passage("p", "Port Aldin", "The mayor is Ada Holt.")
    found = Findings(task, ((HOP.query,),), ((told,),))
    observation = await HindsightTeacher(answer_form="passage").observe(found)
    assert observation.answer == "Port Aldin: It is led by Ada Holt."
    assert (await HindsightTeacher().observe(found)).answer == "1. Ada Holt"
    assert (await HindsightTeacher(answer_form="bare_fills").observe(found)).answer == "Ada Holt"


def test_bare_fills_keep_their_order_and_are_read_back() -> None:
    task = SearchTask("t", "ramp", "[mask] met [mask] at [mask].", (("Ada",), ("Bo",), ("2nd Quay",)))
    answer = render_answer(task, ["Ada", "Bo", "2nd Quay"], "bare_fills")
    assert answer == "Ada\nBo\n2nd Quay"
    assert split_fills(task, answer) == ("Ada", "Bo", "2nd Quay")


def test_the_prompts_of_bare_fills_ask_for_no_numbers() -> None:
    for style in ("full", "compact"):
        assert "number" in choose_prompts(style, "fills").masks_system
        assert "number" not in choose_prompts(style, "bare_fills").masks_system


def test_the_prompts_of_the_passage_form_ask_for_the_passage() -> None:
    assert "whole passage" in choose_prompts("full", "passage").masks_system
    assert choose_prompts("full", "fills") == FULL_PROMPTS
    assert choose_prompts("compact", "passage").masks_system != COMPACT_PROMPTS.masks_system


def test_what_follows_from_all_hops_is_said_before_the_answer() -> None:
    other = Hop("the mayor of Kelm", "Kelm mayor", "Cy Do")
    task = SearchTask(
        "c", "qa", "Do both have the same mayor?", (("no",),), hops=(HOP, other), conclusion="So it is no."
    )
    found = Passage("k", "Kelm", "Its mayor is Cy Do.")
    first = Findings(task, ((HOP.query,),), ((STRONG,),))
    second = Findings(task, ((HOP.query,), (other.query,)), ((STRONG,), (found,)))
    teacher = HindsightTeacher(GeneratorSettings(quote_support=True))
    early, late = (asyncio.run(teacher.observe(findings)) for findings in (first, second))
    assert early.answer is None
    assert "So it is no." not in early.text
    assert late.answer == "no"
    assert late.text == '"Kelm" says: Its mayor is Cy Do. So it is no.'
