"""Importing the package brings nothing; a missing LlamaIndex is named with its extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evomem_integrations.llamaindex as package


def test_importing_the_package_does_not_import_llamaindex():
    code = "import evomem_integrations.llamaindex, sys; print('llama_index' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_name_is_there_and_no_other():
    assert all(isinstance(getattr(package, name), type) for name in package.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = package.Nothing


def test_without_llamaindex_the_extra_is_named():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'llama_index': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import evomem_integrations.llamaindex as p\n"
        "try: p.EvoMemMemory\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install -e '.[llamaindex]'" in done.stdout


def test_releases_that_empty_a_chat_store_are_named():
    code = (
        "import warnings\n"
        "from llama_index.core.llms import ChatMessage\n"
        "from llama_index.core.storage.chat_store import SimpleChatStore\n"
        "store = SimpleChatStore()\n"
        "store.add_message('alice', ChatMessage(role='user', content='x'))\n"
        "try: store.model_dump_json(); print('kept')\n"
        "except Exception: print('lost')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from evomem_integrations.llamaindex import EvoMemMemory\n"
        "print('lost' if any('pydantic<2.14' in str(w.message) for w in caught) else 'kept')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    store, warned = done.stdout.split()
    assert store == warned
