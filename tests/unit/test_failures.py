from __future__ import annotations

import sqlite3

import httpx
import pytest

from masksearch_agent.errors import ModelError, ReplyError, ServiceError, ServiceRefusedError
from masksearch_agent.failures import Failures, is_exhausted, is_outage, kind_of, reason_of, redact, stops_run


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


@pytest.mark.parametrize(
    ("failure", "is_down"),
    [
        (ServiceError("down"), True),
        (httpx.ConnectError("refused"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (StatusError(503), True),
        (StatusError(400), False),
        (ModelError("no room"), False),
        (KeyError("x"), False),
    ],
)
def test_an_outage_is_known_whoever_raises_it(failure: Exception, is_down: bool) -> None:
    assert is_outage(failure) == is_down
    assert not stops_run(failure)


@pytest.mark.parametrize("failure", [StatusError(401), ServiceRefusedError("no key"), MemoryError()])
def test_what_every_item_would_meet_stops_the_run(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        Failures().add("item", failure)


@pytest.mark.parametrize(
    "text",
    [
        "no API key or authorization token were provided. Set the ANTHROPIC_API_KEY environment variable",
        "pass api_key explicitly, or an access token another way; bearer authentication is required",
    ],
)
def test_words_about_keys_are_left_as_they_are(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "GET /v1/models?key=AIzaSyA0123456789abcdefghijklmnopqrstuv failed",
            "GET /v1/models?key=*** failed",
        ),
        ("the key AIzaSyA0123456789abcdefghijklmnopqrstuv is wrong", "the key *** is wrong"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("bearer abc123def was refused", "bearer *** was refused"),
        ('{"api_key": "letters-only"}', '{"api_key": "***"}'),
        ("invalid api_key 'abcd1234efgh5678'", "invalid api_key '***'"),
        ("access_token 'abc123def456'", "access_token '***'"),
        ('headers: Bearer "abcd1234efgh5678"', 'headers: Bearer "***"'),
        ("bearer: abcd1234efgh5678", "bearer: ***"),
        ("{'bearer': 'abcd1234efgh'}", "{'bearer': '***'}"),
        ("('Authorization', 'Bearer abcdefghijklm')", "('Authorization', 'Bearer ***')"),
    ],
)
def test_keys_are_taken_out(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_a_reason_holds_no_key() -> None:
    assert "sk-abcdef123456" not in reason_of(ValueError("Incorrect API key provided: sk-abcdef123456"))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no page 'Ada' of 1,200", "no page … of …"),
        ("it doesn't fit; that isn't good", "it doesn't fit; that isn't good"),
    ],
)
def test_items_that_failed_alike_are_counted_together(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


@pytest.mark.parametrize(
    "said",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:783] . PytorchStreamWriter failed writing file data/0: file write failed",
        "4096 requested and 512 written",
        "database or disk is full",
        "can't start new thread",
        "System error.'Failed to spawn segment merging thread'",
        "loop.cpython-311-x86_64-linux-gnu.so: failed to map segment from shared object",
    ],
)
def test_a_full_disk_is_known_by_what_libraries_say_of_it(said: str) -> None:
    failure = RuntimeError("the checkpoint could not be saved")
    failure.__cause__ = RuntimeError(said)
    assert is_exhausted(failure)
    assert is_exhausted(ImportError(said))
    assert stops_run(failure)
    of_library = type("SafetensorError", (Exception,), {"__module__": "safetensors._safetensors_rust"})
    assert is_exhausted(of_library(said))


@pytest.mark.parametrize(
    ("code", "is_full"), [("FULL", True), ("IOERR_SHMSIZE", True), ("IOERR_READ", False), ("BUSY", False)]
)
def test_a_full_disk_is_known_by_the_codes_of_sqlite(code: str, is_full: bool) -> None:
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
    assert is_exhausted(failure) is is_full


@pytest.mark.parametrize("kind", [ValueError, ReplyError, ConnectionError])
def test_a_document_about_full_disks_costs_itself(kind: type[Exception]) -> None:
    quoted = kind("no answer in: 'tar: No space left on device'")
    assert not stops_run(quoted)
    assert Failures().add("task 1", quoted).endswith("No space left on device'")
