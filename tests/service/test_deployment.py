"""What is shipped to run the service: its commands are ones that evomem takes, its files hold together."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from evomem.cli.arguments import make_parser
from tests.conftest import ROOT

OPERATIONS = ROOT / "docs/operations"
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
UNIT = (OPERATIONS / "evomem.service").read_text("utf-8")
COMPOSE = yaml.safe_load((OPERATIONS / "compose.yaml").read_text("utf-8"))
GUIDES = [ROOT / "docs/start/service.md", OPERATIONS / "containers.md", OPERATIONS / "service.md"]


def commands():
    """Yield every command line of evomem, without its name."""
    entry = json.loads(re.findall(r"^CMD (.*)", DOCKERFILE, re.MULTILINE)[-1])
    yield " ".join(entry)
    yield from re.findall(r"^ExecStart=\S*/evomem (.*)", UNIT, re.MULTILINE)
    yield " ".join(COMPOSE["services"]["evomem"]["command"]).replace("set it in .env", "")
    for page in GUIDES:
        text = page.read_text("utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            for line in lines:
                words = re.search(r"(?:^|\s|/)evomem ((?:serve|keys) .*)", line)
                if words:
                    yield words[1]


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_that_is_shipped_or_documented_is_one_that_evomem_takes(line):
    assert make_parser().parse_args(shlex.split(line, comments=True))


def test_the_image_has_what_it_copies_and_serves_without_privileges():
    for names in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split())
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!"))
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001$", last, re.MULTILINE)
    assert "pip install" not in last


def test_the_services_of_the_compose_file_hold_together():
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service["depends_on"] if "depends_on" in service else ()) <= set(services)
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(COMPOSE["volumes"])
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert (OPERATIONS / services["evomem"]["build"]).resolve() == ROOT


def test_systemd_takes_the_unit(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "evomem.service"
    unit.write_text(UNIT.replace("/opt/evomem/bin/evomem", "/bin/true"))
    done = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
