"""The chart in deploy/chart: its manifests as Helm renders them."""

import subprocess

import yaml

from . import HERE, PATIENCE, program

CHART = HERE.parents[1] / "deploy" / "chart"
RELEASE = "contacts"


def helm(*arguments):
    """Run Helm without the settings of the person who runs the test."""
    command = [program("HELM_BIN"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env={"HOME": "/nonexistent"}, check=False
    )


def template(*flags, chart=CHART, release=RELEASE, version="1.34"):
    """Run `helm template` for a version of Kubernetes; without one, it depends on how Helm was built."""
    return helm("template", release, chart, "--kube-version", version, *flags)


def render(values, *sets, **options):
    """The manifests for a file of deploy/chart/ci, and for settings such as `replicas=2`."""
    flags = [part for setting in sets for part in ("--set-json", setting)]
    done = template("--values", CHART / "ci" / f"{values}.yaml", *flags, **options)
    assert done.returncode == 0, done.stderr
    return Manifests(list(filter(None, yaml.safe_load_all(done.stdout))))


class Manifests(list):
    """The objects of one release."""

    def one(self, kind, suffix=""):
        """The only object of this kind whose name has this suffix."""
        named = [each for each in self if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
        named = [min(named, key=lambda each: len(each["metadata"]["name"]))] if named and not suffix else named
        assert len(named) == 1, (kind, suffix, [each["metadata"]["name"] for each in named])
        return named[0]

    @property
    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        return self.pod["containers"][0]
