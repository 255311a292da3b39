"""What a text without a declared encoding is read as."""

from __future__ import annotations

import pytest

from masksearch_agent.corpus.encodings import decode_text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Mañana en el puerto.", "latin-1"),
        ("Ada Nuñez built the pier, it is said.", "cp1252"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy v lese u řeky.", "cp1250"),
        ("Zażółć gęślą jaźń. Wisła płynie przez Warszawę i Kraków.", "iso-8859-2"),
        ("Müller fährt über die Brücke.", "cp437"),
        ("Vilnius yra Lietuvos sostinė ir didžiausias šalies miestas.", "iso-8859-13"),
    ],
)
def test_no_letter_is_taken_for_that_of_an_encoding_that_nobody_uses(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text
