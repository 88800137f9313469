"""LightMem itself, unmodified, on our embedder and store. It needs a checkout and what that imports:

EVOMEM_LIGHTMEM   https://github.com/zjunlp/LightMem
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOST = ("qdrant_client", "tiktoken", "openai")  # what its modules import
SCRIPT = Path(__file__).with_name("lightmem_host.py")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["pair", "embedder"])
def test_lightmem_runs_on_our_parts_with_its_configuration_unchanged(part, tmp_path):
    folder = os.environ.get("EVOMEM_LIGHTMEM")
    if not folder:
        pytest.skip("set EVOMEM_LIGHTMEM to a checkout, see this file's first lines")
    missing = [name for name in HOST if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"LightMem itself needs {', '.join(missing)}")
    source = str(Path(folder).resolve() / "src")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), part, str(tmp_path / "qdrant")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
