"""Words that the rules of English questions look for; data only."""

from __future__ import annotations

import re

__all__ = (
    "CONJUNCTIONS",
    "QUESTION_WORDS",
    "UNIQUE_NOUNS",
    "ARBITRARY",
    "EMPTY_HEADINGS",
    "CONNECTORS",
    "DESCRIBING",
    "EMPTY_ADJECTIVES",
    "ENTRY_NOUNS",
    "EVERYWHERE",
    "IDIOMS",
    "KIND_NOUNS",
    "NAMED_KINDS",
    "NO_PLACE",
    "OF_SUBJECT",
    "ORDINALS",
    "PERSON_NOUN",
    "POINTERS",
    "VAGUE",
    "VAGUE_NOUNS",
    "WORKS",
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONNECTORS = _words("""
    also however therefore thus hence moreover furthermore additionally then instead so again nevertheless
    still finally similarly likewise consequently accordingly otherwise indeed meanwhile afterwards later
    subsequently eventually too first alternatively alternately initially finally
""")

CONJUNCTIONS = _words("""
    if when while after before until unless because since as although once where whenever
""")

POINTERS = _words("""
    this these those following above below previous previously aforementioned former latter here we i our us
    my me let's see example e.g. i.e. figure section chapter others respectively ones there now today
    currently recently nowadays both
""")
"""Words that point out of the sentence: nobody who reads it alone knows where to."""

OF_SUBJECT = _words("""
    such another other same one earlier all both each either neither some many most
""")
"""Point elsewhere only where they say what the sentence is about."""

ENTRY_NOUNS = _words("""
    parameter option function command view setting variable method class module type catalog table column
    field form value attribute clause operator statement flag utility program tool package directive event
    file
""")

KIND_NOUNS = _words("""
    parameter option command function file variable type view table catalog schema package class method module
    statement clause keyword program utility tool extension format library language directory setting
    attribute column property field message event header protocol algorithm role lock process macro flag
    argument operator database system script service daemon server client device partition exception constant
    object interface decorator expression group user account license distribution
""")

ORDINALS = _words("""
    first second third fourth last next final latter two three
""")

VAGUE_NOUNS = _words("""
    film series show album song season episode book novel team club game company city town village country
    state event tournament band group movie character program building school war battle species island river
    region area district act contract award function option command parameter value table file name script
    argument list column module query result page system form case method class object type package process
    operation string number field index message model project work site party election match story plot play
    trial law court
""")

EMPTY_ADJECTIVES = _words("""
        nearby neighboring neighbouring     numerous various several certain own new many few different
    particular specific single additional further
    usual normal first second last next more most less main great good entire whole full following possible
    available necessary given actual current
""")

VAGUE = _words("""
    hard well field subdivision body record completion
    system type name part member number one set kind form series group term way
    list result case example time thing
    use lot place version branch piece variant collection range class person people man woman subject most
    first second third last only same word process act native item concept means majority former founder wife
    son daughter brother sister father mother husband capital fact center centre home site area point state
    line sort title original common major main best largest smallest given found head star general rock art
    order figure television flat endemic comedy jazz geographical extension default alias error opposite
    equivalent abbreviation older array synonym else except match here rather took begin mean cause
    description fought stage good bad play study drama work portion coast arrangement
""")

WORKS = _words("""
    film novel album song series band book game episode magazine opera play poem single surname character
""")

PERSON_NOUN = re.compile(
    r"(?:ist|ian|ser|ger|yer|cker|man|woman|ess|ssor|tor|rer|mer|nter|ller|xer|fer)$"
    r"|^(?:poet|politician|king|queen|emperor|athlete|president|chef|monk|pope|saint|prince|princess|singer|writer"
    r"|author|coach|pilot|scholar|polymath|leader|founder|member|winner|president|ruler|thinker|officer|engineer"
    r"|philosopher|driver|manager|caliph|minister|mayor|governor|goalkeeper|champion|captain|forward|midfielder|person|queen"
    r"|cardinal|archbishop|general|admiral|duke|count|baron|earl|nun|priest|rabbi|imam|sultan|shah|tsar|pharaoh)$"
)
"""What a person is called."""

IDIOMS = frozenset(
    phrase.replace("_", " ")
    for phrase in _words("""
        in_contrast in_addition for_instance for_example in_particular at_worst at_best in_fact in_turn in_general
        in_practice in_other_words as_usual of_course for_now in_short at_first in_all on_average as_well in_part
        on_the_other_hand on_the_one_hand at_the_end_of_the_day
    """)
)
"""Asides that a question does without."""

EMPTY_HEADINGS = _words("""
    a about additional advanced advice administration and appendix approach basic basics bibliography
    book brief by case changes chapter common compatibility concepts conclusion contents course
    description details example examples existing features for further general glossary history how in
    index information installation installing introduction issues list matters miscellaneous more new
    notes of on options other our overview parameters part preface presenting problems procedures recommendations
    reference references release remedial see section setup short solving step structure study summary
    support the tips to topics tutorial types usage use uses using various vs what with working your
    background caution caveats conventions definitions extensibility implementation important limitations motivation
    note preliminaries purpose rationale requirements synopsis terminology tip warning
""")
"""A heading of such words alone says nothing."""

ARBITRARY = _words("""
    can could may might should must will would want need like decide choose wish select prefer help let
""")
"""What one can, ought to or likes to do, others can too."""

UNIQUE_NOUNS = _words("""
    world sun moon earth sea ocean equator north south east west past future public internet universe
""")
"""Everybody knows which one `the world` is."""

QUESTION_WORDS = _words("""
    what which who whom whose when where how in on at by to from for with under of near into during
""")
"""What a question begins with."""

DESCRIBING = _words("""
        abort add adjust advance alter append apply assign attach begin build calculate call cancel cause
    change check clear
    close commit compare compile compress compute concatenate configure connect construct contain control convert copy
        create cut deallocate decode decrypt define delete describe destroy detach determine disable discard
    display divide
        drop dump emit empty enable encode encrypt end establish estimate evaluate exclude execute export
    extract fetch fill
    filter find finish force format free generate get grant hide identify ignore import include increase indicate
    inhibit initialize insert install instruct invoke issue join kill limit list listen load lock log look make
    manipulate mark measure merge modify monitor move multiply notify obtain omit open optimize output override parse
    pause perform place prepare prepend prevent print process produce promote provide query raise read rebuild receive
    record reduce refresh register reindex release reload remove rename repair repeat replace report request require
        reset restart restore restrict retrieve return reverse revoke roll rotate run save scan search select
    send set show
    shut shuffle shutdown sign skip sort specify split start stop store strip submit suppress swap switch synchronize
    tell terminate test transform trim truncate turn undo unlock update upgrade use vacuum validate verify wait write
""")
"""What functions, settings and options do, in the words of those who describe them."""

NAMED_KINDS = _words("""
    package command file daemon module program utility tool function option parameter library script view variable
    extension directory client service group
""")
"""Kinds of things that a manual calls by a word of their own: `the lxc package`."""

EVERYWHERE = _words("release air premiere publish issue broadcast launch distribute")
"""What happens in several places on one day."""

NO_PLACE = re.compile(
    r"\b(?:Peerage|Baronetage|Parliament|Congress|Senate|House of|Assembly|Olympics?|Games|Cup|League|Championships?"
    r"|Army|Navy|Force|Party|Series|Division|Conference|Records|University|Award|Prize|Order)\b"
)
"""What is taken for a place, and asked for with `in what`, if at all."""
