"""The stand-in needs no Mem0; the store names the extra that brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evomem_integrations.mem0 as package


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_stand_in_works_without_mem0_and_the_store_names_the_extra():
    out = run(
        "import sys; sys.modules['mem0'] = None\n"
        "import evomem, evomem_integrations.mem0 as p\n"
        "with evomem.open(':memory:', 'hash') as db:\n"
        "    memory = p.Memory(database=db)\n"
        "    print(len(memory.add('I live in Bergen.', user_id='a')['results']))\n"
        "try: p.register\n"
        "except ImportError as error: print(error)"
    )
    assert out.startswith("1\n")
    assert "pip install -e '.[mem0]'" in out


def test_there_is_no_other_name():
    with pytest.raises(AttributeError, match="Nothing"):
        _ = package.Nothing
