from __future__ import annotations

import pytest

from masksearch_agent.failures import Failures
from masksearch_agent.ramp.two_passages import chains
from masksearch_agent.ramp.two_passages.chains import interleave_share, two_passage_questions
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import contains_phrase

FILM = Passage("a", "Down to Earth (1932 film)", "Down to Earth is a 1932 American film directed by Ann Lee.")
DIRECTOR = Passage(
    "b", "Ann Lee", "Ann Lee (4 May 1890 – 1950) was a Scottish film director. She was born in Perth."
)
OTHER = Passage("c", "Cy Do", "Cy Do (born 1901) is a French film director and actor.")


def of_category(passages: list[Passage], category: str, seed: int = 0) -> list[SearchTask]:
    return [task for task in two_passage_questions(passages, seed) if task.category == category]


def test_a_bridge_asks_for_a_fact_of_the_second_passage_by_what_the_first_says():
    asked = {
        task.question: task for seed in range(30) for task in of_category([FILM, DIRECTOR], "bridge", seed)
    }
    task = asked["Where was the director of the 1932 film Down to Earth born?"]
    assert task.answers == (("Perth",),)
    assert task.gold_passage_ids == ("a", "b")
    assert [hop.answer for hop in task.hops] == ["Ann Lee", "Perth"]
    assert [hop.need for hop in task.hops] == [
        "the director of the 1932 film Down to Earth",
        "where Ann Lee was born",
    ]
    assert (task.kind, task.source_passage_id) == ("qa", "")


def test_no_question_gives_away_the_bridge_or_the_answer():
    for task in two_passage_questions([FILM, DIRECTOR, OTHER]):
        if task.category == "bridge":
            assert not contains_phrase(task.question, "Ann Lee")
            assert not contains_phrase(task.question, task.answers[0][0])
        assert not any(contains_phrase(hop.query, hop.answer) for hop in task.hops)


def test_an_answer_that_the_first_passage_tells_is_not_asked_for() -> None:
    scottish = Passage("a", FILM.title, FILM.text.replace("American", "Scottish"))
    answers = [
        {task.answers[0][0] for seed in range(30) for task in of_category([film, DIRECTOR], "bridge", seed)}
        for film in (FILM, scottish)
    ]
    assert "Scottish" in answers[0]
    assert "Scottish" not in answers[1]


@pytest.mark.parametrize(
    ("passages", "why"),
    [
        ([FILM], "the director has no passage"),
        ([FILM, Passage("b", "Ann Lee", "Ann Lee was a Scottish botanist.")], "a namesake"),
        ([Passage("a", "X", "X is a 1932 film directed by Ann Lee and Bo Ek."), DIRECTOR], "two directors"),
        ([FILM, DIRECTOR, Passage("d", "Ann Lee (director)", DIRECTOR.text)], "two of that name"),
        (
            [
                FILM,
                Passage("b", "Ann Lee (author)", "Ann Lee (born 1890) is an author. She was born in Perth."),
            ],
            "author",
        ),
        ([FILM, Passage("b", "Ann Lee (director born 1890)", DIRECTOR.text)], "one of several directors"),
        (
            [FILM, Passage("b", "Ann Lee", DIRECTOR.text.replace("1890 – 1950", "1890 – 1925"))],
            "dead by then",
        ),
        ([FILM, Passage("b", "Ann Lee", DIRECTOR.text.replace("1890", "1930"))], "a child then"),
        (
            [Passage("a", "X", "X is a 1932 film based on a play directed by Ann Lee."), DIRECTOR],
            "not the film's",
        ),
    ],
)
def test_what_is_not_sure_gives_no_bridge(passages: list[Passage], why: str):
    assert not of_category(passages, "bridge"), why


def test_a_place_behind_a_comma_must_be_where_the_town_is():
    born = Passage("a", "Bo Ek", "Bo Ek (born 1950) is an American singer. He was born in Jamaica, Queens.")
    country = Passage(
        "b", "Jamaica", "Jamaica is an island country in the Caribbean. Its capital is Kingston."
    )
    assert not of_category([born, country], "bridge")


def test_questions_depend_on_the_seed_and_not_on_the_order():
    passages = [FILM, DIRECTOR, OTHER]
    assert two_passage_questions(passages) == two_passage_questions(passages[::-1])
    assert len({two_passage_questions(passages, seed)[0].question for seed in range(20)}) > 1


def test_the_first_passage_of_a_document_is_read_wherever_it_stands() -> None:
    later = Passage("b2", "Ann Lee", "Ann Lee is a French actor. She was born in Nice.", "b", position=1)
    for passages in ([FILM, DIRECTOR, later], [later, DIRECTOR, FILM]):
        assert {
            task.answers[0][0] for s in range(9) for task in of_category(passages, "bridge", s)
        }.isdisjoint({"Nice", "French"})


def test_others_make_their_share_until_they_run_out():
    mixed = list(interleave_share("aaaaaaaa", "bbb", 0.5))
    assert "".join(mixed) == "abababaaaaa"
    assert "".join(interleave_share("aaaa", "bb", 1)) == "bb"
    assert "".join(interleave_share("aaaa", "bb", 0)) == "aaaa"


COUNTRY = Passage(
    "c", "Norway",
    "Norway is a country in Europe with an area of 385,207 km2. Its capital is Oslo. The official language is "
    "Norwegian. It has a population of 5,500,000.",
)  # fmt: skip
CITY = Passage("d", "Tresk", "Tresk is a city on the Glom River in Norway. It has a population of 9,000.")


def needs(passages: list[Passage]) -> set[tuple[str, str]]:
    """Return what leads to the second passage, and what is asked of it."""
    return {
        (task.hops[0].need, task.hops[1].kind)
        for seed in range(10)
        for task in of_category(passages, "bridge", seed)
    }


@pytest.mark.parametrize(
    ("passage", "end", "asked"),
    [
        # What the capital is of the country where an airport is, nobody asks.
        (Passage("a", "Orly Airport", "Orly Airport is an airport in Norway."), COUNTRY, set()),
        (Passage("a", "Orly", "Orly is a village in Norway."), COUNTRY, set()),
        (Passage("a", "Ann Lee", "Ann Lee (born 1950) is a singer. She was born in Norway."), COUNTRY, set()),
        (Passage("a", "Orly", "Orly is a city in Norway."), COUNTRY,
         {("the country where Orly is located", "language")}),
        (Passage("a", "Ann Lee", "Ann Lee (born 1950) is a singer. She was born in Tresk."), CITY,
         {("the city where Ann Lee was born", "country")}),
        (Passage("a", "Orly School", "Orly School is a school in Tresk."), CITY,
         {("the city where Orly School is located", "country")}),
        # Where a band was formed, it need not be based.
        (Passage("a", "The Oars", "The Oars are a rock band formed in Tresk."), CITY, set()),
        # A capital is asked about for its own sake; its inhabitants are counted anew each year.
        (Passage("a", "Vestland", "Vestland is a state. Its capital is Tresk."), CITY,
         {("the capital of Vestland", "river")}),
    ],
)  # fmt: skip
def test_of_a_place_is_asked_what_belongs_to_what_leads_there(
    passage: Passage, end: Passage, asked: set[tuple[str, str]]
) -> None:
    assert needs([passage, end]) == asked


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Orly School (Tresk)", ""),
        ("Orly School (school)", "the city where the school Orly School is located"),
        ("Orly School", "the city where Orly School is located"),
    ],
)
def test_a_namesake_is_told_apart_or_not_asked_about(title: str, named: str) -> None:
    found = needs([Passage("a", title, "Orly School is a school in Tresk."), CITY])
    assert {need for need, _ in found} == ({named} if named else set())


def test_a_song_that_others_share_the_name_of_is_not_asked_about_without_its_band() -> None:
    song = Passage(
        "a", "Our Yard (Oars song)", "Our Yard is a 1932 song written by Bo Ek and produced by Ann Lee."
    )
    assert not of_category([song, DIRECTOR], "bridge")
    alone = Passage("a", "Our Yard (song)", song.text)
    found = {need for need, _ in needs([alone, DIRECTOR])}
    assert found == {"the producer of the song Our Yard", "the producer of the 1932 song Our Yard"}


def test_a_pair_that_breaks_a_rule_costs_its_question_and_is_counted(monkeypatch: pytest.MonkeyPatch):
    film = Passage("d", "Up (1931 film)", "Up (1931 film) is a 1931 American film directed by Cy Do.")
    bridge = chains._bridge

    def broken(chain, *rest):
        if chain.start.title == FILM.title:
            raise KeyError("noun")
        return bridge(chain, *rest)

    monkeypatch.setattr(chains, "_bridge", broken)
    failures = Failures()
    tasks = two_passage_questions([FILM, DIRECTOR, film, OTHER], failures=failures)
    starts = {task.evidence[0].title for task in tasks if task.category == "bridge"}
    assert starts == {film.title}
    assert failures.reasons["KeyError: …"] >= 1


def test_the_dead_teach_nowhere() -> None:
    school = Passage(
        "s", "Perth University", "Perth University is a university in Perth, Scotland, founded in 1901."
    )
    living = "Bo Ek (born 1900) is a Danish physicist. He is a professor at Perth University."
    asked = [of_category([Passage("p", "Bo Ek", text), school], "bridge")
             for text in (living, living.replace("born 1900", "1900 – 1950"))]  # fmt: skip
    assert asked[0]
    assert not asked[1]


def test_sections_of_a_page_are_no_namesakes() -> None:
    section = Passage(
        "c", "Down to Earth (1932 film) › Plot", "The hero comes down to earth and stays there."
    )
    assert of_category([FILM, DIRECTOR, section], "bridge")
