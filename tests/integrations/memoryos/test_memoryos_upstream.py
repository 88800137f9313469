"""MemoryOS itself, unmodified, on our embeddings. It needs a checkout and what that imports:

EVOMEM_MEMORYOS   https://github.com/BAI-LAB/MemoryOS
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOST = ("faiss", "openai", "sentence_transformers")  # what its modules import
SCRIPT = Path(__file__).with_name("memoryos_host.py")


@pytest.mark.slow
def test_memoryos_embeds_with_ours_and_never_loads_its_own_model(tmp_path):
    folder = os.environ.get("EVOMEM_MEMORYOS")
    if not folder:
        pytest.skip("set EVOMEM_MEMORYOS to a checkout, see this file's first lines")
    missing = [name for name in HOST if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"MemoryOS itself needs {', '.join(missing)}")
    modules = Path(folder).resolve() / "memoryos-pypi"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(modules), *sys.path])},
        cwd=modules,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
