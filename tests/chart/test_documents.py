"""docs/kubernetes.md names values that exist, and its examples work."""

import json
import re

import yaml
from support.chart import CHART, template

PAGE = (CHART.parents[1] / "docs" / "kubernetes.md").read_text()
PROPERTIES = json.loads((CHART / "values.schema.json").read_text())


def fences(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def exists(path, schema):
    """Whether the values may have this path, such as `store.url`."""
    while reference := schema.get("$ref"):
        schema = PROPERTIES["definitions"][reference.rpartition("/")[2]]
    if not path:
        return True
    if "properties" not in schema:
        return schema.get("type") == "object"
    return path[0] in schema["properties"] and exists(path[1:], schema["properties"][path[0]])


def test_every_value_that_is_named_exists():
    prose = "".join(PAGE.split("```")[::2])
    words = re.findall(r"`([A-Za-z]+(?:\.[A-Za-z-]+)*)(?:: [^`]*)?`", prose)
    named = {word for word in words if word.split(".")[0] in PROPERTIES["properties"]}
    assert len(named) > 40
    assert [word for word in sorted(named) if not exists(word.split("."), PROPERTIES)] == []


def test_the_first_example_installs(tmp_path):
    values = re.search(r"<<'END'\n(.*?)^END$", fences("sh")[0], re.DOTALL | re.MULTILINE)[1]
    done = with_values(tmp_path, values)
    assert done.returncode == 0, done.stderr
    # The names in the commands of the page.
    objects = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    assert {("Deployment", "contacts-hypersender-grpc"), ("Service", "contacts-hypersender-grpc-headless")} <= names


def test_the_other_examples_install_and_fail_as_the_page_says(tmp_path):
    base = "image: {repository: r}\napiKey: {existingSecret: s}\n"
    (replicas,) = fences("yaml")
    assert with_values(tmp_path, base + replicas).returncode == 0
    done = with_values(tmp_path, base + "replicas: 3\nterminationGracePeriodSeconds: 30\n")
    (message,) = fences("text")
    assert message.strip() in done.stderr


def with_values(directory, values):
    (directory / "values.yaml").write_text(values)
    return template("--values", directory / "values.yaml")
