"""Helm finds no fault in the chart, and every manifest is what each version of Kubernetes accepts."""

import tomllib

import kubernetes_validate
import pytest
import yaml
from support.chart import CHART, helm, render

VALUES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
VERSIONS = ["1.28", "1.34", "1.37"]
ROOT = CHART.parents[1]
ALERTS = ROOT / "deploy" / "alerts" / "hypersender-grpc.yaml"

# The objects of the Prometheus operator have no schemas there. These are the fields that the chart may use.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
TEXT = {"type": "string", "minLength": 1}


def whole(required, **optional):
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


METADATA = whole({"name": TEXT, "labels": TEXTS})
RULE = whole(
    {"alert": TEXT, "expr": TEXT, "labels": TEXTS, "annotations": TEXTS}, **{"for": TEXT, "keep_firing_for": TEXT}
)
GROUP = whole({"name": TEXT, "rules": {"type": "array", "items": RULE, "minItems": 1}}, interval=TEXT)
ENDPOINT = whole({"port": TEXT, "path": TEXT, "interval": TEXT, "scrapeTimeout": TEXT})
SELECTOR = whole({"matchLabels": TEXTS})
SPECS = {
    "ServiceMonitor": whole({"selector": SELECTOR, "endpoints": {"type": "array", "items": ENDPOINT, "minItems": 1}}),
    "PrometheusRule": whole({"groups": {"type": "array", "items": GROUP, "minItems": 1}}),
}
API = "monitoring.coreos.com/v1"


def test_there_are_four_files_of_values():
    assert VALUES == ["everything", "file-store", "minimal", "tls"]


@pytest.mark.parametrize("values", VALUES)
def test_lint_finds_nothing(values):
    done = helm("lint", "--strict", CHART, "--values", CHART / "ci" / f"{values}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout, done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_every_manifest_is_valid(values, version):
    manifests = render(values, version=version)
    assert len(manifests) >= 7
    for manifest in manifests:
        validate(manifest, version)


def validate(manifest, version):
    if manifest["apiVersion"] == API:
        schema = whole(
            {"apiVersion": {"const": API}, "kind": TEXT, "metadata": METADATA, "spec": SPECS[manifest["kind"]]}
        )
        kubernetes_validate.utils.jsonschema.validate(manifest, schema)
    else:
        # The package takes an older version when it has no schemas for the wanted one.
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_a_field_that_kubernetes_does_not_know_is_found():
    pod = render("minimal").one("Deployment")
    pod["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessprobe"):
        validate(pod, VERSIONS[0])


def test_every_object_has_a_name_of_its_own_and_the_common_labels():
    for values in VALUES:
        manifests = render(values, release="a" * 53)
        names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
        assert len(names) == len(set(names)), names
        for manifest in manifests:
            assert len(manifest["metadata"]["name"]) <= 63
            assert all(len(label) <= 63 for label in manifest["metadata"]["labels"].values())
            assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "a" * 53


def test_the_chart_has_the_version_of_the_service():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def test_the_alerts_are_those_of_deploy():
    if not ALERTS.exists():
        pytest.skip("deploy/alerts does not exist")
    copy = CHART / "files" / "alerts.yaml"
    assert copy.read_text() == ALERTS.read_text(), f"cp {ALERTS} {copy}"
    groups = render("everything").one("PrometheusRule")["spec"]["groups"]
    assert groups == yaml.safe_load(ALERTS.read_text())["groups"]
