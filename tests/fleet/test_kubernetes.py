"""The manifests of docs/operations/kubernetes: they fit Kubernetes' schemas, and name what there is."""

from __future__ import annotations

from typing import Any

import pytest

from evomem.cli.arguments import make_parser
from tests.conftest import ROOT

yaml: Any = pytest.importorskip("yaml")
FOLDER = ROOT / "docs" / "operations" / "kubernetes"


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


@pytest.mark.parametrize(
    "manifest", manifests("service.yaml"), ids=lambda manifest: manifest["kind"]
)
def test_a_manifest_fits_the_schema_of_its_kind(manifest):
    validate = pytest.importorskip("kubernetes_validate", reason="not installed")
    validate.validate(manifest, validate.latest_version(), strict=True)


def test_the_deployment_starts_the_service_with_options_that_there_are():
    [container] = manifests("service.yaml")[0]["spec"]["template"]["spec"]["containers"]
    args = make_parser().parse_args(container["args"])
    assert args.command == "serve"
    assert args.lease == 10


def test_the_serve_config_is_one_that_ray_takes_and_evomem_understands(monkeypatch):
    schema = pytest.importorskip("ray.serve.schema", reason="needs the extra [ray]")
    from evomem.fleet.serving import build

    [service] = manifests("rayservice.yaml")
    config = schema.ServeDeploySchema(**yaml.safe_load(service["spec"]["serveConfigV2"]))
    [application] = config.applications
    assert application.import_path == "evomem.fleet.serving:build"
    monkeypatch.setenv("EVOMEM_DB", "postgresql://nobody@nowhere/none")
    built = build(application.args)._bound_deployment
    [given] = application.deployments
    assert built.name == given.name == "evomem"
    assert built._deployment_config.max_queued_requests == 256
    assert given.autoscaling_config["max_replicas"] == 16
