"""Hooks in the settings of an agent: nothing else changes, and everything can be taken back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomem.cli import main
from evomem.errors import InputError
from evomem.hooks import json_text
from evomem.hooks.agents import AGENTS
from evomem.hooks.settings import BACKUP, with_hooks, without_hooks

CLAUDE, CODEX = AGENTS["claude-code"], AGENTS["codex"]
COMMAND = "/venv/bin/python -m evomem hooks run claude-code --db /home/ines/.evomem/evomem.db"
THEIRS = {"type": "command", "command": "notify-send done", "timeout": 5}
SETTINGS = """\
{
    "$schema": "https://json.schemastore.org/claude-code-settings.json",
    "permissions": {"allow": ["Bash(npm run test:*)", "WebFetch(domain:docs.python.org)"], "deny": []},
    "env": { "DISABLE_TELEMETRY": "1" },

    "hooks": {
        "PostToolUse": [
            {"matcher": "Edit|Write", "hooks": [{"type": "command", "command": "ruff format ."}]}
        ],
        "SessionStart": [{"hooks": [{"type": "command", "command": "git status --short"}]}]
    },
    "model": "opus"
}
"""


def hooks_of(text):
    return json.loads(text).get("hooks", {})


def commands(text):
    return [
        handler["command"]
        for groups in hooks_of(text).values()
        for group in groups
        for handler in group["hooks"]
    ]


# the file --------------------------------------------------------------------------------------


def test_a_new_file_has_a_group_for_each_event():
    hooks = hooks_of(with_hooks("", CLAUDE, COMMAND))
    assert list(hooks) == ["SessionStart", "PreCompact", "SessionEnd"]
    (group,) = hooks["SessionStart"]
    assert group == {
        "matcher": "startup|clear|compact",
        "hooks": [{"type": "command", "command": COMMAND, "timeout": 30}],
    }
    assert hooks["SessionEnd"] == [
        {"hooks": [{"type": "command", "command": COMMAND, "timeout": 10}]}
    ]


def test_codex_gives_the_end_of_a_session_three_seconds():
    hooks = hooks_of(with_hooks("", CODEX, COMMAND))
    assert hooks["SessionEnd"][0]["hooks"][0]["timeout"] == 3


@pytest.mark.parametrize("agent", [CLAUDE, CODEX], ids=["claude-code", "codex"])
def test_other_settings_keep_every_byte(agent):
    after = with_hooks(SETTINGS, agent, COMMAND)
    start, end = SETTINGS.index('"hooks"'), SETTINGS.index('"model"')
    assert after.startswith(SETTINGS[:start])
    assert after.endswith(SETTINGS[end:])
    assert "git status --short" in commands(after)
    assert "ruff format ." in commands(after)
    assert commands(after).count(COMMAND) == 3


def test_the_new_lines_are_indented_as_the_others():
    lines = with_hooks(SETTINGS, CLAUDE, COMMAND).splitlines()
    assert '        "SessionEnd": [' in lines
    assert "            {" in lines


@pytest.mark.parametrize(
    "text",
    [
        "",
        SETTINGS,
        SETTINGS.replace("\n", "\r\n"),
        SETTINGS.replace("    ", "\t"),
        SETTINGS.rstrip(),
        "\n\n" + SETTINGS + "\n",
        '{"model": "opus"}',
        '{"hooks": {"Stop": [{"hooks": []}]}, "model": "opus"}',
        '{"hooks":{"SessionEnd":[{"hooks":[{"type":"command","command":"date"}]}]}}',
        '{\n  "model": "ö \\ud83d\\ude00 \\" { [ , "\n}',
    ],
)
def test_taking_the_hooks_out_gives_the_same_bytes(text):
    after = with_hooks(text, CLAUDE, COMMAND)
    assert len(commands(after)) == len(commands(text) if text else []) + 3
    taken = without_hooks(after)
    assert taken == text or (text, json.loads(taken)) == ("", {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
GROUP = st.fixed_dictionaries({"hooks": st.lists(st.just(THEIRS), min_size=1, max_size=2)})
EVENTS = st.sampled_from(["SessionStart", "SessionEnd", "PreCompact", "Stop", "hooks"])
OTHERS = st.dictionaries(st.text().filter(lambda key: key != "hooks"), JSON, max_size=4)
HOOKS = st.dictionaries(EVENTS, st.lists(GROUP, min_size=1, max_size=2), min_size=1, max_size=3)


@given(
    OTHERS,
    HOOKS | st.none(),
    st.sampled_from([None, 0, 1, 2, 4, "\t"]),
    st.booleans(),
    st.booleans(),
)
def test_other_settings_are_kept_and_uninstalling_restores_the_original(
    others, hooks, indent, ascii, last
):
    value = (
        others
        if hooks is None
        else {"hooks": hooks, **others}
        if last
        else {**others, "hooks": hooks}
    )
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    after = with_hooks(text, CLAUDE, COMMAND)
    assert {key: setting for key, setting in json.loads(after).items() if key != "hooks"} == others
    assert with_hooks(after, CLAUDE, COMMAND) == after
    if value:  # an empty object is written anew
        assert without_hooks(after) == text
    assert json.loads(without_hooks(after)) == value


def test_another_command_takes_the_place_of_the_old_one():
    before = with_hooks(SETTINGS, CLAUDE, COMMAND)
    after = with_hooks(before, CLAUDE, COMMAND + " --memory work")
    assert commands(after).count(COMMAND + " --memory work") == 3
    assert COMMAND not in commands(after)
    assert without_hooks(after) == SETTINGS


def test_out_of_a_group_that_somebody_added_to_only_ours_is_taken():
    hooks = hooks_of(with_hooks("", CLAUDE, COMMAND))
    hooks["SessionStart"][0]["hooks"].insert(0, THEIRS)
    left = hooks_of(without_hooks(json.dumps({"hooks": hooks})))
    assert left == {"SessionStart": [{"matcher": "startup|clear|compact", "hooks": [THEIRS]}]}


@pytest.mark.parametrize(
    "command", ["evomem hooks install codex", "my-evomem-hooks run x", "evomem"]
)
def test_commands_that_only_look_like_ours_stay(command):
    text = json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": command}]}]}})
    assert without_hooks(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"hooks": []}',
        '{"hooks": {"Stop": {}}}',
        "// no\n{}",
        '{"a": 1,}',
        "\ufeff{}",
        "1",
    ],
)
def test_settings_that_are_not_as_documented_are_refused(text):
    for edit in (lambda: with_hooks(text, CLAUDE, COMMAND), lambda: without_hooks(text)):
        with pytest.raises(InputError, match="nothing was changed"):
            edit()


@given(JSON.filter(lambda value: isinstance(value, dict | list)), st.sampled_from([None, 2]))
def test_spans_are_where_the_values_stand(value, indent):
    text = json.dumps(value, indent=indent)
    spans = json_text.children(text, 0)
    inside = list(value.items()) if isinstance(value, dict) else [(None, item) for item in value]
    assert [(span.key, json.loads(text[span.value : span.end])) for span in spans] == inside


# the command -----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "EVOMEM_DB"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def settings(home):
    path = home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(SETTINGS)
    path.chmod(0o600)
    return path


def test_without_a_yes_nothing_is_written_and_what_would_be_is_shown(settings, capsys):
    assert main(["hooks", "install", "claude-code"]) == 2
    shown = capsys.readouterr().err
    assert '+        "SessionEnd": [' in shown
    assert "give --yes" in shown
    assert settings.read_text() == SETTINGS
    assert list(settings.parent.iterdir()) == [settings]


def test_install_and_uninstall_leave_the_files_as_they_were(settings, capsys):
    assert main(["hooks", "install", "claude-code", "--yes", "--memory", "work"]) == 0
    written = settings.read_text()
    (ours,) = set(commands(written)) - set(commands(SETTINGS))
    assert "-m evomem hooks run claude-code --db " in ours
    assert ours.endswith(".evomem/evomem.db --memory work")
    assert settings.stat().st_mode & 0o777 == 0o600
    assert settings.with_name(settings.name + BACKUP).read_text() == SETTINGS
    assert main(["hooks", "install", "claude-code", "--yes", "--memory", "work"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert settings.read_text() == written
    assert main(["hooks", "uninstall", "claude-code", "--yes"]) == 0
    assert settings.read_text() == SETTINGS
    assert list(settings.parent.iterdir()) == [settings]
    assert main(["hooks", "uninstall", "claude-code", "--yes"]) == 0


@pytest.mark.parametrize("text", ["{}", "{ }\n", '{"hooks": {}}', '{"hooks": {"Stop": []}}', "\n"])
def test_empty_settings_come_back_as_they_were(settings, text):
    settings.write_text(text)
    assert main(["hooks", "install", "claude-code", "--yes"]) == 0
    assert len(commands(settings.read_text())) == 3
    assert main(["hooks", "uninstall", "claude-code", "--yes"]) == 0
    assert settings.read_text() == text


def test_uninstalling_keeps_changes_made_after_installation(settings):
    main(["hooks", "install", "claude-code", "--yes"])
    settings.write_text(settings.read_text().replace('"model": "opus"', '"model": "sonnet"'))
    main(["hooks", "uninstall", "claude-code", "--yes"])
    assert settings.read_text() == SETTINGS.replace("opus", "sonnet")


def test_a_file_that_did_not_exist_is_removed_again(home):
    path = home / ".codex" / "hooks.json"
    assert main(["hooks", "install", "codex", "--yes"]) == 0
    assert len(commands(path.read_text())) == 3
    assert main(["hooks", "uninstall", "codex", "--yes"]) == 0
    assert not path.exists()


def test_a_link_to_a_file_elsewhere_stays_a_link(settings, home):
    real = home / "dotfiles.json"
    settings.rename(real)
    settings.symlink_to(real)
    main(["hooks", "install", "claude-code", "--yes"])
    assert settings.is_symlink()
    assert COMMAND.split()[2] in real.read_text()
    main(["hooks", "uninstall", "claude-code", "--yes"])
    assert real.read_text() == SETTINGS


def test_the_agents_own_variables_and_an_option_name_the_file(home, monkeypatch):
    monkeypatch.setenv("CODEX_HOME", str(home / "elsewhere"))
    main(["hooks", "install", "codex", "--yes"])
    assert (home / "elsewhere" / "hooks.json").exists()
    main(["hooks", "install", "codex", "--yes", "--settings", str(home / "project.json")])
    assert (home / "project.json").exists()


def test_a_damaged_file_is_named_and_stays(settings, capsys):
    settings.write_text("{ oops")
    assert main(["hooks", "install", "claude-code", "--yes"]) == 2
    assert str(settings) in capsys.readouterr().err.replace("\n", "")
    assert settings.read_text() == "{ oops"


def test_a_url_is_not_written_into_settings(settings, capsys):
    options = ["--yes", "--db", "postgresql://ines:hunter2@db/evomem"]
    assert main(["hooks", "install", "claude-code", *options]) == 2
    assert "hunter2" not in capsys.readouterr().err
    assert settings.read_text() == SETTINGS
