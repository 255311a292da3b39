from __future__ import annotations

import string
import unicodedata
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.errors import CorpusError
from masksearch_agent.records import content_id
from masksearch_agent.text.cleaning import clean_text, search_form
from masksearch_agent.text.values import as_text

anything = st.text(
    st.characters() | st.sampled_from("\u200b\u200d\u00ad\u202e\ud83d\ude00\r\n\x00e\u0301data:,A")
)


@given(anything)
def test_clean_text_can_be_stored_and_stays_clean(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode().decode() == cleaned
    assert clean_text(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)


@given(st.text(string.ascii_letters + string.digits + string.punctuation.replace(":", "") + " \n\t"))
def test_plain_text_comes_back_as_it_was(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We love it \ud83d", "We love it \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("Cafe\u0301", "Café"),
        ("har\u00adbour\u200b \u202eold\u202c\ufeff", "harbour old"),
        ("a\r\nb\rc\u2028d\x00", "a\nb\nc\nd"),
        ("har\u200dbour", "harbour"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("a ![plan](data:image/png;base64," + "QUJD" * 99 + ") b", "a  b"),
        ("data: what we measured", "data: what we measured"),
        ("Ｆｕｌｌ", "Ｆｕｌｌ"),
    ],
)
def test_what_is_cleaned(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((None, ""), (float("nan"), ""), (Decimal("NaN"), ""), (7.0, "7"), (7, "7"), (2.5, "2.5")),
        *((float("inf"), "inf"), (True, "true"), (date(2024, 5, 1), "2024-05-01"), (Decimal("3.10"), "3.10")),
        *((datetime(2024, 5, 1), "2024-05-01"), (datetime(2024, 5, 1, 9), "2024-05-01T09:00:00")),
        *((b"caf\xc3\xa9", "café"), ("a\r\nb", "a\nb")),
        *((timedelta(hours=36, seconds=5), "36:00:05"), (timedelta(minutes=-90), "-1:30:00")),
    ],
)  # fmt: skip
def test_a_cell_is_read_as_what_it_means(value: object, expected: str) -> None:
    assert as_text(value) == expected


def test_a_list_is_no_cell() -> None:
    with pytest.raises(CorpusError, match="is a list; expected text"):
        as_text([1])


def test_an_id_can_be_made_of_half_a_surrogate_pair() -> None:
    assert len(content_id("\ud83d")) == 16
    assert content_id("\ud83d") != content_id("\ud83e")


@pytest.mark.parametrize("text", ["ΑΘΗΝΑ", "Αθήνα", "αθηνα", "Ἀθήνα"])
def test_greek_is_found_with_and_without_its_accents(text: str) -> None:
    assert search_form(text) == "αθηνα"
    assert search_form("Ξενοδοχείο Café") == "ξενοδοχειο café"
