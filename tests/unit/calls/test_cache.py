from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.errors import MaskSearchError


def test_an_answer_is_found_again_by_another_process_and_by_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cache.sqlite"
    AnswerCache(path).put(["绍兴", 1], "spans", "text")
    again = AnswerCache(path)
    assert again.get("spans", "text") == ["绍兴", 1]
    assert again.get("spans", "other") is None
    again.put([], "spans", "text")
    assert AnswerCache(path).get("spans", "text") == []


def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and long enough to be looked at" * 50)
    with pytest.raises(MaskSearchError, match=r"cannot use .*notes\.txt as a cache: .*choose another path"):
        AnswerCache(path)
    assert path.read_text().startswith("these are my notes")
