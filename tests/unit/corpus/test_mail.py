"""E-mails: what somebody wrote is read, in whatever form and letters it was sent."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from masksearch_agent.corpus.mail import read_mail
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport


def mail(subject: str = "Harbour fees", text: str = "They rise in May.\n") -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = (
        subject,
        "Ana Núñez <ana@example.org>",
        "b@example.org",
    )
    message["Date"] = "Tue, 07 May 2024 10:30:00 +0200"
    message["Message-ID"] = f"<{len(subject)}@example.org>"
    message.set_content(text)
    return message


def told(raw: bytes) -> str:
    return " ".join(" ".join(text for _, text in read_mail(raw, "").sections).split())


def test_a_mail_is_its_text_under_its_subject_and_says_who_wrote_it_when(tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(b"\xef\xbb\xbf\r\n" + mail("Liegegebühren").as_bytes())
    [passage] = read_passages(tmp_path)
    assert (passage.title, passage.text, passage.source) == ("Liegegebühren", "They rise in May.", "m.eml")
    assert dict(passage.metadata) == {
        "from": "Ana Núñez <ana@example.org>",
        "to": "b@example.org",
        "date": "2024-05-07T10:30:00+02:00",
    }


def test_of_two_forms_the_plain_one_is_read_unless_it_is_empty() -> None:
    both = mail()
    both.add_alternative("<p>They <b>rise</b> in May, dear.</p>", subtype="html")
    assert told(both.as_bytes()) == "They rise in May."
    empty = mail(text="\n")
    empty.add_alternative("<style>p {}</style><h2>Fees</h2><p>They <b>rise</b>.</p>", subtype="html")
    assert read_mail(empty.as_bytes(), "").sections[-1][0] == ("Fees",)
    assert told(empty.as_bytes()) == "They rise."


def test_an_attached_file_is_counted_and_a_picture_in_the_text_is_none(tmp_path: Path) -> None:
    message = mail()
    message.add_related(b"GIF89a", "image", "gif", cid="<logo>", disposition="inline")
    message.add_attachment(b"%PDF-1.4", "application", "pdf", filename="prices.pdf")
    message.add_attachment("a,b\n", filename="prices.csv")
    message.add_attachment(mail("Old fees", "They were low.\n"))
    (tmp_path / "m.eml").write_bytes(message.as_bytes())
    report = CorpusReport()
    assert {each.title: each.text for each in read_passages(tmp_path, report=report)} == {
        "Harbour fees": "They rise in May.",
        "Harbour fees › Old fees": "They were low.",
    }
    assert (report.kept, dict(report.skipped), report.failed) == (1, {"attached file": 2}, 0)
    assert report.examples[0] == "m.eml, prices.pdf: attached, and not read"


def test_a_file_in_the_form_that_is_not_read_is_counted_too() -> None:
    message = mail()
    message.add_alternative("<p>See the list.</p>", subtype="html")
    message.get_payload()[1].make_mixed()  # type: ignore[union-attr]
    message.get_payload()[1].add_attachment(b"x", "application", "pdf", filename="list.pdf")  # type: ignore[union-attr]
    assert (told(message.as_bytes()), read_mail(message.as_bytes(), "").left_out) == (
        "They rise in May.",
        ["list.pdf"],
    )


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        ("Content-Type: text/plain; charset=x-unknown", "Café Müller öffnet".encode(), "Café Müller öffnet"),
        ("Content-Type: text/plain", "Das Café Müller öffnet früh".encode("cp1252"), "Das Café Müller öffnet früh"),
        ("Content-Type: text/plain; charset=us-ascii", "“Café”".encode("cp1252"), "“Café”"),
        ("Content-Type: text/plain; charset=iso-8859-1", "Café".encode(), "Café"),
        ("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64", b"Q2Fmw6k", "Café"),
        ("Content-Type: text/html; charset=koi8-r", "<p>Мост</p>".encode("koi8-r"), "Мост"),
        ("Content-Type: text/plain; charset=utf-8", b"a\x00b \xff", "a\x00b \ufffd"),
        # The end of the header's value, the boundary and the day are missing.
        ("Content-Type: multipart/mixed", b"Open.", "Open."),
        ("To: @\nDate: some day\nFrom: <<>\nContent-Type: text", b"Open.", "Open."),
        ("Content-Type: text/plain; charset=utf-8", b"A line\r\nand another\r", "A line and another"),
    ],
)  # fmt: skip
def test_odd_letters_and_headers_stop_no_mail(head: str, body: bytes, text: str) -> None:
    assert told(b"Subject: s\n" + head.encode() + b"\n\n" + body) == text


def test_a_day_that_is_none_stays_as_it_is_written() -> None:
    assert read_mail(b"Date: some day\n\nx", "").about == {"date": "some day"}


def test_a_subject_that_is_folded_and_encoded_is_a_line() -> None:
    raw = b"Subject: =?utf-8?b?TGllZ2VnZWLDvGhyZW4=?=\r\n =?iso-8859-1?q?_f=FCr?=\r\n\tBoote\r\n\r\nx"
    assert read_mail(raw, "").title == "Liegegebühren für Boote"


def test_a_mailbox_gives_its_mails_and_counts_what_it_cannot_read(tmp_path: Path) -> None:
    mails = [mail("First", "From May on.\n"), mail("Second", "\n>From the quay.\n"), EmailMessage()]
    mails[2]["Subject"] = "Nothing in it"
    box = b"".join(b"From x Tue May  7 10:30:00 2024\n" + each.as_bytes() + b"\n" for each in mails)
    (tmp_path / "box.mbox").write_bytes(box + b"From x Tue May  7 10:30:00 2024\nSubject: no id\n\nLast.\n")
    report = CorpusReport()
    found = list(read_passages(tmp_path, report=report))
    assert [(each.title, each.document_id, each.source) for each in found] == [
        ("First", "5@example.org", "box.mbox"),
        ("Second", "6@example.org", "box.mbox"),
        ("no id", "box.mbox, message 4", "box.mbox"),
    ]
    assert [each.text for each in found] == ["From May on.", "From the quay.", "Last."]
    assert (report.read, report.kept, dict(report.skipped)) == (4, 3, {"no text": 1})


def test_a_file_that_is_no_mail_fails(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"\x00\x01 no header")
    (tmp_path / "b.mbox").write_bytes(b"no mail")
    (tmp_path / "z.txt").write_text("The rest.")
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["The rest."]
    assert report.failures == {"broken eml": 1, "damaged archive": 1}
