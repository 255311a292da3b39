from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fakes.command_line import CommandLine
from rich.console import Console

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo
from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.cli import app
from masksearch_agent.cli.agents import _show_answer
from masksearch_agent.concurrency import run_many
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import ModelError, TraceError
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.lab import world
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.records import Citation, Hop, Passage, SearchAnswer, SearchTask, Trajectory, Usage
from masksearch_agent.serving.engines import Launch
from masksearch_agent.traces.store import TraceStore

ROOT = Path(__file__).resolve().parents[2]
GROUP: Any = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)
RECIPES = sorted((ROOT / "training").glob("*.yaml"))
INFO = BundleInfo(
    protocol_version=PROTOCOL_VERSION, prompts=FULL_PROMPTS, agent=AgentSettings(), model_version="v"
)
TASK = SearchTask(
    "t1",
    "qa",
    "Who founded the Velling Works?",
    (("Ada Fenwick",),),
    hops=(Hop("the founder of the Velling Works", "founder of the Velling Works", "Ada Fenwick"),),
)
BM25 = ("--set", "retrieval.mode=bm25")
MASKED = SearchTask(
    id="masked",
    kind="ramp",
    question="Ann: Ann was born in [mask].",
    answers=(("1923",),),
    hops=(Hop("year", "born", "1923"),),
)


@pytest.fixture
def small_index(run: CommandLine, tmp_path: Path) -> Path:
    pytest.importorskip("tantivy")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "works.txt").write_text(
        "The founder of the Velling Works is Ada Fenwick, a miller."
    )
    assert run("index", tmp_path / "corpus", "--out", tmp_path / "index", *BM25).code == 0
    return tmp_path / "index"


def assert_one_error(ran: Any, *messages: str) -> None:
    assert ran.code == 1
    assert ran.out == ""
    assert "Traceback" not in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("error:")]
    for message in messages:
        assert re.search(message, line), f"{message!r} is not in: {line}"


# --- help ------------------------------------------------------------------------------------------------


def example_of(command: str) -> list[str]:
    """Return the arguments of the example in a command's help."""
    found = re.search(rf"Example: `masksearch ({command}\b[^`]*)`", GROUP.commands[command].help)
    assert found, f"the help of {command!r} shows no example"
    return shlex.split(found[1])[1:]


def test_every_stage_has_a_command():
    stages = {"world", "index", "ramp", "generate", "sft", "dapo", "eval", "ask", "quickstart"}
    assert stages <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_in_the_help_is_a_command_that_parses(run: CommandLine, command: str):
    shown = run(command, "--help")
    assert shown.code == 0
    assert f"Example: masksearch {command}" in shown.out
    GROUP.commands[command].make_context(command, example_of(command))


def test_a_command_that_does_not_parse_is_refused():
    with pytest.raises(Exception, match="Missing parameter: corpus"):
        GROUP.commands["index"].make_context("index", ["--out", "runs/index"])


def test_graphs_are_drawn_where_there_is_no_folder_yet(run: CommandLine) -> None:
    assert run("draw").out == "drawing: graphs/README.md\n"
    assert Path("graphs/README.md").read_text() == (ROOT / "graphs" / "README.md").read_text()


# --- recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_accepted_and_says_how_to_run_it(run: CommandLine, path: Path):
    resolved = yaml.safe_load(run("recipe", path).out)
    assert LabRecipe.model_validate(resolved).model_dump(mode="json") == resolved
    opening = path.read_text().partition("\nname:")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert "# masksearch " in opening


def test_what_is_trained_on_a_gpu_is_asked_as_its_trajectories_were_made():
    from masksearch_agent.config.recipe import load_recipe

    made, trained = (load_recipe(ROOT / "training" / f"{name}.yaml") for name in ("laptop", "gpu_smollm2"))
    assert (trained.prompts, trained.agent, trained.retrieval, trained.rewards) == (
        made.prompts, made.agent, made.retrieval, made.rewards,
    )  # fmt: skip


@pytest.mark.parametrize("size", ["1.5b", "3b", "7b"])
def test_the_paper_s_recipes_can_start_training(size: str, tmp_path: Path):
    pytest.importorskip("trl")
    from masksearch_agent.config.recipe import load_recipe
    from masksearch_agent.trainers.dapo import DAPOConfig

    settings = load_recipe(ROOT / "training" / f"qwen2.5-{size}.yaml").ramp_dapo
    # bfloat16 in a trainer's arguments asks for hardware that the test machine may not have.
    config = DAPOConfig.from_settings(settings.model_copy(update={"bf16": False}), tmp_path)
    assert (config.num_generations, config.epsilon, config.epsilon_high, config.beta) == (16, 0.2, 0.28, 0)
    # 16 optimizer steps use up the rows of one rollout batch.
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps * 16
    assert rows == settings.prompts_per_step * settings.group_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: red", "unknown key 'colour'.*`masksearch recipe` prints all keys"),
        ("agent: {max_serches: 3}", "unknown key 'agent.max_serches'"),
        ("agent: {max_searches: many}", r"agent\.max_searches: .*got 'many'"),
        ("agent: [1, 2", "is not valid YAML"),
        ("- agent", "holds a list; expected settings by name"),
    ],
    ids=["unknown room", "unknown key", "wrong type", "not YAML", "not a mapping"],
)
def test_a_wrong_recipe_is_refused(run: CommandLine, tmp_path: Path, text: str, message: str):
    (tmp_path / "wrong.yaml").write_text(text)
    assert_one_error(run("world", "--recipe", "wrong.yaml"), "wrong.yaml", message)


def test_a_recipe_that_is_not_utf_8_is_refused(run: CommandLine, tmp_path: Path):
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    assert_one_error(run("world", "--recipe", "latin.yaml"), r"the recipe latin\.yaml is not UTF-8 text")


def test_a_recipe_that_is_not_there_is_named(run: CommandLine):
    assert_one_error(run("world", "--recipe", "lost.yaml"), "cannot read the recipe lost.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [("agent.max_searches", "expected `room.setting=value`"), ("name.x=1", "'name' is not a group")],
)
def test_a_wrong_override_is_refused(run: CommandLine, override: str, message: str):
    assert_one_error(run("world", "--set", "name=x", "--set", override), message)


def test_an_override_beats_the_recipe(run: CommandLine, tmp_path: Path):
    (tmp_path / "r.yaml").write_text("agent: {max_searches: 3, max_queries: 2}")
    resolved = yaml.safe_load(run("recipe", "r.yaml", "--set", "agent.max_searches=7").out)
    assert (resolved["agent"]["max_searches"], resolved["agent"]["max_queries"]) == (7, 2)


# --- wrong input -----------------------------------------------------------------------------------------


def test_a_missing_or_empty_corpus_is_refused(run: CommandLine, tmp_path: Path):
    # A name in brackets must not be taken for markup.
    assert_one_error(run("index", "lost[bold].txt"), r"no corpus at lost\[bold\]\.txt; give the path")
    (tmp_path / "empty").mkdir()
    assert_one_error(run("index", "empty"), r"found no passage in empty; a folder must hold \.txt or")
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_corpus_that_gives_no_task_says_what_may(run: CommandLine, small_index: Path):
    pytest.importorskip("spacy")
    ran = run("ramp", "corpus", "--index", small_index, "--json")
    assert (ran.json["kept"], ran.json["passages"]) == (0, 1)
    assert ran.json["advice"].startswith("No task was kept; `dropped` says why.")


def test_a_missing_or_corrupt_index_says_how_to_build_one(run: CommandLine, small_index: Path):
    write_jsonl(Path("tasks.jsonl"), [TASK])
    assert_one_error(
        run("generate", "tasks.jsonl", "--index", "lost"), "no index in lost; run `masksearch index`"
    )
    next(small_index.glob("build-*/passages.jsonl")).write_text("{}\n")
    assert_one_error(
        run("generate", "tasks.jsonl", "--index", small_index), "is damaged.*run `masksearch index`"
    )
    (small_index / "index.json").write_text("{")
    assert_one_error(run("ramp", "corpus", "--index", small_index), "is damaged .*run `masksearch index`")


def test_indexing_says_what_was_read_and_skipped_and_adds_only_what_changed(run: CommandLine, tmp_path: Path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("red fox")
    (tmp_path / "documents" / "b.txt").write_bytes(b"\xff\xfe\xff")
    first = run("index", "documents", "--out", "index", *BM25, "--json")
    told = json.loads(first.out)
    assert (first.code, told["changed"]) == (3, {"added": 1, "removed": 0, "embedded": 0})
    assert told["documents"] == {
        "read": 2, "kept": 1, "skipped": 1, "failed": 1, "reasons": {"wrong encoding": 1}, "passages": 1,
    }  # fmt: skip
    assert "1 of 2 items failed" in first.err
    assert run("index", "documents", "--out", "index", *BM25, "--max-failed", 0.5).code == 0
    (tmp_path / "documents" / "b.txt").write_text("blue whale")
    assert run("index", "documents", "--out", "index", *BM25, "--json").json["changed"]["added"] == 1
    assert run("index", "documents", "--out", "index", *BM25, "--json").json["changed"]["added"] == 0


def test_a_part_of_a_corpus_is_added_to_an_index_and_takes_the_place_of_its_old_form(
    run: CommandLine, tmp_path: Path
):
    for folder, texts in {
        "all": {"a": "red fox", "b": "blue whale"},
        "new": {"a": "grey fox", "c": "tea"},
    }.items():
        (tmp_path / folder).mkdir()
        for name, text in texts.items():
            (tmp_path / folder / f"{name}.txt").write_text(text)
    run("index", "all", "--out", "index", *BM25)
    added = run("index", "new", "--out", "index", "--add", "--json").json
    assert (added["passages"], added["mode"]) == (3, "bm25")
    assert added["changed"] == {"added": 2, "removed": 1, "embedded": 0}
    assert added["replaced"] == {"documents": 1, "first": ["a.txt"]}
    assert_one_error(run("index", "new", "--out", "nowhere", "--add"), "no index in nowhere")


def test_tasks_are_inspected_as_table_plot_and_json(run: CommandLine, small_index: Path, tmp_path: Path):
    write_jsonl(Path("tasks.jsonl"), [MASKED])
    shown = run("ramp", "inspect", "tasks.jsonl", "--index", small_index, "--plot", "plots/tasks.svg")
    assert shown.code == 0
    for part in ("was born in [mask]", "1923", "query: born", "facts by form", "year", "lookup rank", "█"):
        assert part in shown.out
    picture = (tmp_path / "plots" / "tasks.svg").read_text()
    assert "<svg" in picture
    assert "url(http" not in picture
    found = run("ramp", "inspect", "tasks.jsonl", "--json").json
    assert (found["tasks"], found["distributions"]["masks"]) == (1, {"1": 1})
    write_jsonl(Path("questions.jsonl"), [TASK])
    assert_one_error(run("ramp", "inspect", "questions.jsonl"), "there is no RAMP task to inspect")
    Path("runs").write_text("no folder, and nothing is written there without --rate")
    assert run("ramp", "inspect", "tasks.jsonl").code == 0


def test_a_sheet_of_tasks_is_written_and_counted(run: CommandLine, small_index: Path, tmp_path: Path):
    write_jsonl(Path("tasks.jsonl"), [MASKED])
    written = run(
        "ramp",
        "inspect",
        "tasks.jsonl",
        "--index",
        small_index,
        "--rate",
        "100",
        "--out",
        "s/sheet.md",
        "--json",
    )
    assert written.json == {"sheet": "s/sheet.md", "tasks": 1, "seed": 0}
    sheet = tmp_path / "s" / "sheet.md"
    assert "was born in [mask]" in sheet.read_text()
    assert run("ramp", "inspect", "--rated", "s/sheet.md", "--json").json["unrated"] == 1
    sheet.write_text(
        re.sub(r"^- (clear|fact|given|wanted): $", r"- \1: y", sheet.read_text(), flags=re.MULTILINE)
    )
    counted = run("ramp", "inspect", "--rated", "s/sheet.md", "--json").json
    assert (counted["rated"], counted["good"], counted["good_share"]) == (1, 1, 1.0)
    assert_one_error(run("ramp", "inspect", "--rated", "tasks.jsonl"), "this is no sheet of tasks")
    assert_one_error(run("ramp", "inspect", "--rated", "none.md"), "cannot read the sheet")
    assert_one_error(run("ramp", "inspect"), "nothing to inspect; pass task files")


@pytest.mark.parametrize("mark", ["- clear: y", "- note: the half of a name", "- given: maybe"])
def test_a_sheet_that_somebody_has_begun_to_fill_in_is_not_written_over(
    run: CommandLine, tmp_path: Path, mark: str
):
    write_jsonl(Path("tasks.jsonl"), [MASKED])
    command = ("ramp", "inspect", "tasks.jsonl", "--rate", "1", "--out", "sheet.md")
    assert (run(*command).code, run(*command).code) == (0, 0)
    sheet = tmp_path / "sheet.md"
    filled = sheet.read_text().replace(mark[: mark.index(":") + 1], mark)
    sheet.write_text(filled)
    assert_one_error(run(*command), r"sheet\.md is not a sheet that nobody has filled in.*`--out`")
    assert sheet.read_text() == filled


def test_tasks_are_exported_with_a_card(run: CommandLine, tmp_path: Path):
    write_jsonl(Path("tasks.jsonl"), [MASKED])
    report = run("ramp", "export", "tasks.jsonl", "--out", "data", "--format", "jsonl", "--json").json
    assert report == {"dataset": "data", "rows": {"train": 1}, "format": "jsonl"}
    assert (tmp_path / "data" / "README.md").is_file()
    assert (tmp_path / "data" / "data" / "train.jsonl").read_text() == Path("tasks.jsonl").read_text()


def test_an_index_is_opened_as_it_was_built(run: CommandLine, small_index: Path):
    write_jsonl(Path("tasks.jsonl"), [TASK])
    assert run("generate", "tasks.jsonl", "--index", small_index, "--json").json["accepted"] == 1
    asked_for_more = run("generate", "tasks.jsonl", "--index", small_index, "--set", "retrieval.mode=hybrid")
    assert_one_error(asked_for_more, "has no dense part")


def test_a_served_bundle_is_announced_and_an_ended_server_reported(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / BUNDLE_FILE).write_text(INFO.model_dump_json())
    asked: list[Any] = []

    def plan(directory: Path, name: str, port: int, settings: Any, is_refreshable: bool) -> Launch:
        asked.append((directory, name, settings.python, settings.dtype))
        # Answers one request, the health check, and ends.
        once = "import http.server as h; h.HTTPServer(('127.0.0.1', {}), h.SimpleHTTPRequestHandler).handle_request()"
        command = (sys.executable, "-c", once.format(port))
        return Launch("vllm", command, model_name=name)

    (tmp_path / "health").write_text("ok")
    monkeypatch.setattr("masksearch_agent.serving.server.plan_launch", plan)
    served = run(
        "serve", "--agent", "agent", "--vllm-python", "/vllm/python", "--set", "serving.dtype=float32"
    )
    assert re.fullmatch(r"url: http://127\.0\.0\.1:\d+\nmodel: v\nengine: vllm\n", served.out)
    assert served.code == 1
    assert "the vllm server ended by itself, with exit code 0" in served.err
    assert asked == [(tmp_path / "agent", "v", "/vllm/python", "float32")]


def test_what_is_no_bundle_is_not_served(run: CommandLine, tmp_path: Path):
    assert_one_error(run("serve", "--agent", tmp_path), "has no masksearch.json")


def test_a_task_file_with_a_broken_line_is_refused(run: CommandLine, small_index: Path, tmp_path: Path):
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    with (tmp_path / "tasks.jsonl").open("a") as file:
        file.write('{"id": "t2", "kind"\n')
    assert_one_error(
        run("generate", "tasks.jsonl", "--index", small_index), r"tasks\.jsonl, line 2: not JSON"
    )
    (tmp_path / "tasks.jsonl").write_text('{"id": "t2", "kind": "riddle"}\n')
    assert_one_error(run("generate", "tasks.jsonl", "--index", small_index), "line 1: not a valid SearchTask")
    (tmp_path / "tasks.jsonl").write_text("")
    refused = run("generate", "tasks.jsonl", "--index", small_index)
    assert_one_error(refused, r"no tasks in tasks\.jsonl; build some with `masksearch ramp`")
    assert_one_error(run("generate", "lost.jsonl", "--index", small_index), r"no file at lost\.jsonl")


def test_a_corrupt_trace_store_is_refused_and_left_alone(run: CommandLine, small_index: Path, tmp_path: Path):
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    store = tmp_path / "traces.sqlite"
    store.write_bytes(b"not a database, and long enough to be looked at" * 50)
    before = store.read_bytes()
    refused = run("generate", "tasks.jsonl", "--index", small_index, "--out", store)
    assert_one_error(refused, r"traces\.sqlite is damaged or no trace store .*move it away")
    assert store.read_bytes() == before


def test_generating_twice_adds_nothing(run: CommandLine, small_index: Path, tmp_path: Path):
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    command = ("generate", "tasks.jsonl", "--index", small_index, "--out", "traces.sqlite", "--json")
    first, second = run(*command).json, run(*command).json
    assert (first["accepted"], first["skipped"]) == (1, 0)
    assert (second["accepted"], second["skipped"]) == (0, 1)
    with TraceStore(tmp_path / "traces.sqlite") as store:
        assert store.count() == 1


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, rf"has no {BUNDLE_FILE}, so it is not an agent bundle"),
        ("{", "cannot read .*save the agent again"),
        (json.dumps({"protocol_version": PROTOCOL_VERSION}), "is malformed: prompts: Field required"),
        (INFO.model_copy(update={"protocol_version": 99}).model_dump_json(), "protocol version 99, but this"),
        (INFO.model_dump_json(), "names no index"),
        (
            INFO.model_copy(update={"index": "../lost"}).model_dump_json(),
            "lost, which is not there; .*`masksearch",
        ),
    ],
    ids=["none", "torn", "malformed", "other protocol", "no index", "lost index"],
)
def test_a_wrong_bundle_is_refused(run: CommandLine, tmp_path: Path, description: str | None, message: str):
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    (tmp_path / "agent").mkdir()
    if description is not None:
        (tmp_path / "agent" / BUNDLE_FILE).write_text(description)
    refused = run("dapo", "--agent", tmp_path / "agent", "--tasks", "tasks.jsonl", "--out", "new")
    assert_one_error(refused, message)


def test_ramp_that_nothing_would_be_drawn_from_is_refused(run: CommandLine):
    refused = run(
        "dapo", "--agent", "a", "--tasks", "tasks.jsonl", "--out", "new", "--ramp-tasks", "ramp.jsonl"
    )
    assert_one_error(refused, "--ramp-tasks was passed, but ramp_dapo.ramp_share is 0; set it")
    refused = run(
        "sft", "--traces", "t.sqlite", "--use", "qa_sft", "--out", "new", "--ramp-traces", "r.sqlite"
    )
    assert_one_error(refused, "--ramp-traces was passed, but qa_sft.ramp_share is 0; set it")


def test_a_run_folder_of_other_settings_is_refused(run: CommandLine, tmp_path: Path):
    (tmp_path / "run").mkdir()
    other = {"made_from": {"kind": "world", "seed": 5}}
    replace_text(tmp_path / "run" / "ledger" / "world.json", json.dumps(other))
    refused = run("quickstart", "--out", tmp_path / "run")
    assert_one_error(refused, "holds a run with other settings: its 'world' was made from another seed")


# --- where to write ---


OPTIONS = {
    "index": ("corpus",), "ramp": ("corpus", "--index", "i"), "ramp export": ("t.jsonl",), "draw": (),
    "ramp inspect": ("t.jsonl", "--rate", "1"), "generate": ("t.jsonl", "--index", "i"), "export": ("t.sqlite",),
    "eval": ("--agent", "a", "--data", "q.jsonl"), "sft": ("--traces", "t.sqlite"), "dapo": ("--tasks", "t.jsonl"),
    "pretrain": ("corpus",), "evolve": (), "world": (), "base": (), "quickstart": (), "ablate": (), "real-text": (),
}  # fmt: skip
WRITE_A_FILE = {"ramp", "ramp inspect", "generate", "draw"}


def test_every_command_that_writes_is_among_those_below() -> None:
    subcommands = {f"ramp {name}": command for name, command in GROUP.commands["ramp"].commands.items()}
    every = {**GROUP.commands, **subcommands}
    writing = {name for name, command in every.items() if any(p.name == "out" for p in command.params)}
    assert writing == {*OPTIONS, "ramp build"} - {"ramp"}


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("place", ["another kind", "below a file", "not writable"])
def test_a_place_that_cannot_be_written_to_is_told_before_any_work(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    is_file = command in WRITE_A_FILE
    kinds = ("folder", "file") if is_file else ("file", "folder")
    out, message = {
        "another kind": (kinds[0], "is a {}; name a {} to write to".format(*kinds)),
        "below a file": ("file/below", r"cannot be made, because .*file is a file; name another"),
        "not writable": ("folder/new", r"cannot be written, because .*folder is not writable"),
    }[place]  # fmt: skip
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK or Path(path).name != "folder")
    assert_one_error(run(*command.split(), *OPTIONS[command], "--out", out), message)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_cannot_be_used_after_all_is_one_line(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    monkeypatch.setattr(world, "write_closed_world", lambda *_: replace_text(tmp_path / "taken", "x"))
    assert_one_error(run("world"), rf"cannot use {tmp_path}/taken: Is a directory$")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("limit", ["0", "-1"])
@pytest.mark.parametrize("command", ["ramp", "generate", "eval", "traces"])
def test_a_limit_that_is_none_is_refused(run: CommandLine, command: str, limit: str) -> None:
    arguments = OPTIONS.get(command, ("t.sqlite",))
    ran = run(command, *arguments, "--limit", limit)
    if (command, limit) == ("traces", "0"):  # Its counts alone.
        assert_one_error(ran, "no trace store at")
    else:
        assert (ran.code, "Invalid value for '--limit'" in ran.err) == (2, True)


# --- results and interruption ----------------------------------------------------------------------------


def test_results_in_brackets_are_printed_as_they_are(run: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world, "write_closed_world", lambda recipe, seed, out: {"world": "a [mask] b [/]"})
    assert run("world").out == "world: a [mask] b [/]\n"
    assert run("world", "--json").json == {"world": "a [mask] b [/]"}


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(run: CommandLine, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world, "write_closed_world", interrupt)
    stopped = run("world")
    assert (stopped.code, stopped.out) == (130, "")
    assert "Stopped. Run the same command again to go on from here." in stopped.err


def test_ctrl_c_before_a_command_has_begun_is_told_alike(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("masksearch_agent.cli.application.app", interrupt)
    stopped = run("world")
    assert (stopped.code, stopped.out) == (130, "")
    assert "Stopped. Run the same command again to go on from here." in stopped.err


def test_an_error_that_is_not_ours_is_not_hidden(run: CommandLine, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise sqlite3.ProgrammingError("a bug")

    monkeypatch.setattr(world, "write_closed_world", fail)
    with pytest.raises(sqlite3.ProgrammingError, match="a bug"):
        run("world")
    assert not issubclass(sqlite3.ProgrammingError, TraceError)


def write_run(path: Path, *recalls: float) -> Path:
    common = {
        "gold": ["Ada"],
        "em": 0.0,
        "f1": 0.0,
        "stop_reason": "answered",
        "searches": 1,
        "sampled_tokens": 1,
    }
    common |= {"format_errors": 0, "gold_recall": None, "hops": 1, "seconds": 0.1}
    rows = [
        {
            **common,
            "task_id": f"q{n}",
            "question": f"Question {n} [x]?",
            "answer": f"{path.stem}{n}",
            "recall": r,
        }
        for n, r in enumerate(recalls)
    ]
    write_jsonl(path, rows)
    return path


def test_two_runs_are_compared_question_by_question(run: CommandLine, tmp_path: Path) -> None:
    before, after = (
        write_run(tmp_path / "old.jsonl", 0.0, 1.0, 0.5),
        write_run(tmp_path / "new.jsonl", 1.0, 0.5, 0.5),
    )
    ran = run("compare", before, after)
    assert ran.code == 0, ran.err
    assert "recall: 0.500 before, 0.667 after" in ran.out
    assert "may be chance" in ran.out
    assert "Better: Question 0 [x]? [q0]" in ran.out
    assert "Worse: Question 1 [x]? [q1]" in ran.out
    assert "before 1.00: old1" in ran.out
    compared = run("compare", before, after, "--json").json
    assert (compared["n"], compared["gain"]["mean"]) == (3, pytest.approx(1 / 6))
    assert [change["task_id"] for change in compared["better"]] == ["q0"]


def test_compare_names_what_cannot_be_compared(run: CommandLine, tmp_path: Path) -> None:
    before = write_run(tmp_path / "old.jsonl", 0.0)
    assert_one_error(run("compare", before, tmp_path / "none.jsonl"), "no file at")
    assert_one_error(run("compare", before, before, "--metric", "judge"), "no question with a judge score")


def test_a_deployed_agent_is_not_asked_for_what_only_a_bundle_can_do(
    run: CommandLine, tmp_path: Path
) -> None:
    questions = tmp_path / "q.jsonl"
    write_jsonl(questions, [TASK])
    evaluation = ("eval", "--agent", "http://127.0.0.1:1", "--data", questions)
    assert_one_error(run(*evaluation, "--baseline", "rag-pe"), "needs an agent bundle")
    assert_one_error(run(*evaluation, "--data", questions), "two question files have one name")


@pytest.fixture
def partly_failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[object, ...]:
    """Return a command that evaluates an agent which answers one of two questions, and fails at the other."""

    async def answer_task(self: Any, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        if task.id != "right":
            raise ModelError("the prompt has 2100 tokens but the server reads at most 2048")
        return Trajectory("t", task.id, (), "Ada", "answered", producer=self.model_version), Usage()

    monkeypatch.setattr("masksearch_agent.evaluation.answering.RemoteAgent.answer_task", answer_task)
    questions = tmp_path / "q.jsonl"
    write_jsonl(questions, [SearchTask(name, "qa", "Who?", (("Ada",),)) for name in ("right", "too long")])
    return ("eval", "--agent", "http://127.0.0.1:1", "--data", questions, "--out", tmp_path / "out")


def test_questions_that_fail_are_told_by_the_summary_the_report_and_the_exit_code(
    run: CommandLine, partly_failing: tuple[object, ...], tmp_path: Path
) -> None:
    ran = run(*partly_failing, "--json")
    scores = json.loads(ran.out)["q"]
    assert (ran.code, scores["n"], scores["recall"], scores["failed"]) == (3, 2, 0.5, 1)
    assert scores["failures"] == {"the prompt has … tokens but the server reads at most …": 1}
    assert "1 of 2 items failed (50.0%)" in ran.err
    assert "Questions that failed" in (tmp_path / "out" / "report.html").read_text()
    assert run(*partly_failing).code == 3, "what failed stays failed"
    assert run(*partly_failing, "--max-failed", "0.5").code == 0
    assert run(*partly_failing, "--set", "max_failed=0.49").code == 3


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "no memory is left"),
    ],
)
def test_a_full_disk_or_memory_ends_a_command_in_words(
    run: CommandLine,
    partly_failing: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    told: str,
) -> None:
    async def answer_task(self: Any, task: SearchTask, seed: int) -> None:
        raise failure

    monkeypatch.setattr("masksearch_agent.evaluation.answering.RemoteAgent.answer_task", answer_task)
    assert_one_error(run(*partly_failing), told)


def test_sigterm_stops_a_command_as_ctrl_c_does(run: CommandLine, monkeypatch: pytest.MonkeyPatch):
    cleaned_up = []

    def wait(*arguments: object) -> None:
        async def work() -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(60)
            finally:
                cleaned_up.append(True)

        run_many(work())

    monkeypatch.setattr(world, "write_closed_world", wait)
    handler = signal.getsignal(signal.SIGTERM)
    stopped = run("world")
    assert (stopped.code, stopped.out, cleaned_up) == (143, "", [True])
    assert "Stopped. Run the same command again to go on from here." in stopped.err
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_full_disk_is_one_line_whoever_meets_it(run: CommandLine, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(world, "write_closed_world", fail)
    assert_one_error(run("world"), r"No space left on device.*; what was finished is kept\. Make room")


def test_nobody_who_reads_is_no_error_to_talk_about():
    nobody, closed = os.pipe()
    os.close(nobody)
    command = [sys.executable, "-m", "masksearch_agent.cli", "recipe"]
    ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    os.close(closed)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_an_answer_is_shown_with_the_sentences_that_it_rests_on() -> None:
    passage = Passage("p", "Harrow", "Ada founded it.", source="towns.pdf", metadata={"page": 3})
    cited = Citation(2, passage, passage.text, 0, 15, "Ada", 0, 3)
    answer = SearchAnswer("Ada [b]", "", (passage,), (), "answered", citations=(cited,), unknown_citations=1)
    console = Console(record=True, width=80)
    _show_answer(answer, console)
    shown = console.export_text()
    assert "Ada [b]" in shown
    assert "cited [2] Harrow towns.pdf, page 3" in shown
    assert "“Ada founded it.”" in shown
    assert "1 cited numbers are of no passage" in shown


def test_a_passage_without_a_title_is_not_named_by_its_id() -> None:
    passage = Passage("3f9c", "", "Ada founded it.")
    cited = Citation(1, passage, passage.text, 0, 15, "Ada", 0, 3)
    console = Console(record=True, width=80)
    _show_answer(SearchAnswer("Ada", "", (passage,), (), "answered", citations=(cited,)), console)
    shown = console.export_text()
    assert "cited [1]" in shown
    assert "“Ada founded it.”" in shown
    assert "3f9c" not in shown
