"""What is published: an sdist, a wheel made of it, and that wheel in an environment that holds nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
_SMOKE = """
from langchain_core.language_models import FakeListChatModel
from masksearch_agent import MaskSearchAgent

notes = {"founder": ["Harrow: Ada founded Harrow."]}
steps = ["<think>who?</think><search>founder</search>", "<think></think><answer>Ada</answer>"]
model = FakeListChatModel(responses=steps)
answer = MaskSearchAgent(model, lambda query: notes[query]).invoke("Who founded Harrow?")
print(answer.answer, answer.searches, [passage.text for passage in answer.sources or answer.retrieved])
"""
_MISSING = """
from pathlib import Path
from masksearch_agent import Passage
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import MissingExtraError
from masksearch_agent.retrieval.index import build_index
try:
    build_index([Passage("1", "Harrow", "Ada founded Harrow.")], Path("index"), RetrievalSettings())
except MissingExtraError as failure:
    print(failure)
"""


def command(*words: Any, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return an sdist, and the wheel that was made of it and nothing else."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("published")
    build = (
        "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
    )
    archive = folder / command(sys.executable, "-c", build, "build_sdist", folder, cwd=ROOT).splitlines()[-1]
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    wheel = folder / command(sys.executable, "-c", build, "build_wheel", folder, cwd=source).splitlines()[-1]
    return archive, wheel


def test_the_wheel_holds_the_library_with_its_data_and_nothing_else(published: tuple[Path, Path]) -> None:
    _, wheel = published
    library = {
        str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "masksearch_agent").rglob("*.*")
    }
    kept = {name for name in library if "__pycache__" not in name and (ROOT / "src" / name).is_file()}
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert held == kept


def test_the_wheel_answers_where_nothing_is_installed_but_what_it_asks_for(
    published: tuple[Path, Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(published[1]) as packed:
        packed.extractall(tmp_path / "wheel")
    link_dependencies("masksearch-agent", tmp_path / "dependencies")
    paths = [str(tmp_path / "wheel"), str(tmp_path / "dependencies")]
    # -S leaves out what else is installed here.
    alone = (sys.executable, "-I", "-S", "-c")
    said = command(*alone, f"import sys; sys.path += {paths}\n{_SMOKE}", cwd=tmp_path)
    assert said == "Ada (('founder',),) ['Harrow: Ada founded Harrow.']\n"
    start = "from masksearch_agent.cli import main; sys.argv = ['masksearch', '--help']; main()"
    assert "pretrain" in command(*alone, f"import sys; sys.path += {paths}; {start}", cwd=tmp_path)
    missing = command(*alone, f"import sys; sys.path += {paths}\n{_MISSING}", cwd=tmp_path)
    assert "pip install 'masksearch-agent[index]'" in missing


def link_dependencies(name: str, folder: Path) -> None:
    """Link what a distribution asks for without extras, and what that asks for in turn, into a folder."""
    folder.mkdir()
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set(waiting)
    while waiting:
        wanted, extras = waiting.pop()
        for line in metadata.requires(wanted) or ():
            requirement = Requirement(line)
            markers = [{"extra": extra} for extra in (*extras, "")]
            if requirement.marker and not any(requirement.marker.evaluate(marker) for marker in markers):
                continue
            found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    for wanted in {wanted for wanted, _ in seen} - {name}:
        for file in metadata.files(wanted) or ():
            if file.parts[0] != "..":
                link = folder / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(str(file.locate())))
