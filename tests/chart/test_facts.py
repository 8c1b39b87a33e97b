"""Facts that the chart computes from several values."""

import json
import re
import subprocess

import pytest
from support import program
from support.chart import CHART, render, template

STORE = 'store={"url":"redis://valkey:6379"}'
SCALING = 'autoscaling={"enabled":true,"minReplicas":2,"maxReplicas":%d}'


def surge(surge, unavailable=0):
    return f"rollingUpdate={json.dumps({'maxSurge': surge, 'maxUnavailable': unavailable})}"


def flag(manifests, name):
    """The value of a flag in the arguments of the container, or None."""
    found = [flag.partition("=")[2] for flag in manifests.container["args"] if flag.partition("=")[0] == name]
    assert len(found) <= 1, found
    return found[0] if found else None


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], None),
        (["allowReplicasWithoutStore=true", "replicas=3"], None),
        ([STORE], "2"),
        ([STORE, "replicas=3"], "4"),
        ([STORE, "replicas=3", surge(2)], "5"),
        ([STORE, "replicas=3", surge(0, 1)], "3"),
        # Kubernetes rounds the surge up, to 1 of 3 and to 3 of 9.
        ([STORE, "replicas=3", surge("25%")], "4"),
        ([STORE, "replicas=9", surge("25%")], "12"),
        ([STORE, "replicas=4", surge("100%")], "8"),
        ([STORE, "replicas=4", surge("0%", 1)], "4"),
        ([STORE, "replicas=9", SCALING % 6], "7"),
        ([STORE, SCALING % 10, surge("25%")], "13"),
    ],
)
def test_replicas_are_the_most_pods_of_a_rollout(sets, expected):
    assert flag(render("minimal", *sets), "--replicas") == expected


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], 35),
        (['drain={"waitSeconds":15,"timeoutSeconds":60}'], 85),
        (['drain={"waitSeconds":300,"timeoutSeconds":300}'], 610),
        (["terminationGracePeriodSeconds=90"], 90),
        (["terminationGracePeriodSeconds=35"], 35),
    ],
)
def test_the_grace_period_covers_the_drain(sets, expected):
    manifests = render("minimal", *sets)
    assert manifests.pod["terminationGracePeriodSeconds"] == expected
    wait, timeout = (int(flag(manifests, name).removesuffix("s")) for name in ("--drain-wait", "--drain-timeout"))
    assert expected >= wait + timeout + 10
    readiness = manifests.container["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < wait


def test_probes_use_grpc_without_tls_and_the_admin_port_with_it():
    container = render("minimal").container
    service = "hypersender.contact.v1.ContactService"
    assert container["livenessProbe"]["grpc"] == {"port": 50051, "service": ""}
    assert (
        container["readinessProbe"]["grpc"] == container["startupProbe"]["grpc"] == {"port": 50051, "service": service}
    )
    container = render("tls", 'ports={"admin":9191}').container
    assert container["livenessProbe"]["httpGet"] == {"port": "admin", "path": "/livez"}
    assert container["readinessProbe"]["httpGet"] == container["startupProbe"]["httpGet"]
    assert container["readinessProbe"]["httpGet"] == {"port": "admin", "path": "/readyz"}
    assert {"name": "admin", "containerPort": 9191} in container["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "grpc" not in container[probe]


def test_a_file_store_has_one_pod_at_a_time():
    manifests = render("file-store")
    spec = manifests.one("Deployment")["spec"]
    assert spec["strategy"] == {"type": "Recreate"} and spec["replicas"] == 1
    path = flag(manifests, "--store").removeprefix("file:")
    mounts = {mount["name"]: mount["mountPath"] for mount in manifests.container["volumeMounts"]}
    assert path.startswith(mounts["data"] + "/")
    claim = manifests.one("PersistentVolumeClaim")
    assert manifests.pod["volumes"][-1]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    other = render("file-store", 'store={"file":{"enabled":true,"existingClaim":"kept"}}')
    assert all(manifest["kind"] != "PersistentVolumeClaim" for manifest in other)


def test_an_autoscaler_decides_the_number_of_replicas_alone():
    manifests = render("everything")
    assert "replicas" not in manifests.one("Deployment")["spec"]
    scaler = manifests.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == manifests.one("Deployment")["metadata"]["name"]


def test_no_disruption_budget_can_block_the_drain_of_a_node():
    for values in ("minimal", "everything"):
        spec = render(values).one("PodDisruptionBudget")["spec"]
        assert spec["maxUnavailable"] == 1 and "minAvailable" not in spec


def test_services_select_the_pods_and_nothing_else():
    manifests = render("everything")
    labels = manifests.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    test = manifests.one("Pod")["metadata"]["labels"].items()
    services = [manifest["spec"] for manifest in manifests if manifest["kind"] == "Service"]
    ports = {port["name"] for port in manifests.container["ports"]}
    assert len(services) == 4
    for service in services:
        assert service["selector"].items() <= labels and not service["selector"].items() <= test
        assert {port["targetPort"] for port in service["ports"]} <= ports
    for object, path in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        assert manifests.one(object)["spec"][path]["matchLabels"].items() <= labels


@pytest.mark.parametrize(("values", "protocol"), [("minimal", "grpc"), ("everything", "grpc"), ("tls", "https")])
def test_the_services_name_their_protocol(values, protocol):
    manifests = render(values)
    headless = manifests.one("Service", "-headless")["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is False
    for service in (manifests.one("Service")["spec"], headless):
        assert [port["appProtocol"] for port in service["ports"]] == [protocol]


def test_another_callers_file_or_revision_replaces_the_pods():
    def annotations(*sets):
        return render("minimal", *sets).one("Deployment")["spec"]["template"]["metadata"]["annotations"]

    before = annotations()
    assert annotations() == before
    one, other = (annotations(f'callers={{"toml":"[callers.{name}]"}}') for name in "ab")
    assert len({str(found) for found in (before, one, other)}) == 3
    assert annotations('secretsRevision="2"') != before
    assert annotations('apiKey={"existingSecret":"other"}') != before


def test_the_pod_has_no_rights():
    for values in ("minimal", "everything"):
        manifests = render(values)
        for pod in (manifests.pod, manifests.one("Pod")["spec"]):
            assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
            context = pod["securityContext"]
            assert context["runAsNonRoot"] and context["runAsUser"] == context["fsGroup"] == 65532
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            context = pod["containers"][0]["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
        assert manifests.one("ServiceAccount")["automountServiceAccountToken"] is False
    # OpenShift chooses the users.
    context = render("minimal", 'podSecurityContext={"runAsUser":null,"runAsGroup":null,"fsGroup":null}').pod
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context["securityContext"].keys()


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], [["443"]]),
        (['settings={"base-url":"https://proxy.example.com:8443/api"}'], [["443", "8443"]]),
        (['settings={"upstream-proxy":"http://proxy.example.com:3128"}'], [["443", "3128"]]),
        (['settings={"upstream-proxy":"socks5://proxy.example.com"}'], [["443", "1080"]]),
        (['store={"url":"redis://valkey"}'], [["443"], ["6379"]]),
        (['store={"url":"redis://[fd00::1]:6390/0"}'], [["443"], ["6390"]]),
        (['store={"url":"rediss://a:7000,b:7001?cluster=true"}'], [["443"], ["7000", "7001"]]),
        (['otlp={"endpoint":"http://collector:4317"}'], [["443"], ["4317"]]),
        (['otlp={"endpoint":"https://collector/path"}'], [["443"], ["443"]]),
    ],
)
def test_the_network_policy_opens_the_ports_that_are_used(sets, expected):
    policy = render("minimal", 'networkPolicy={"enabled":true}', *sets).one("NetworkPolicy")["spec"]
    dns, *others = ([str(port["port"]) for port in rule["ports"]] for rule in policy["egress"])
    assert set(dns) == {"53", "5353"}
    assert others == expected
    assert policy["ingress"] == [{"ports": [{"port": "grpc", "protocol": "TCP"}], "from": [{"podSelector": {}}]}]


def test_large_numbers_are_whole():
    manifests = render("minimal", 'settings={"cache-entries":100000000,"in-flight":1000000,"rate":0.5}')
    assert flag(manifests, "--cache-entries") == "100000000" and flag(manifests, "--in-flight") == "1000000"
    assert flag(manifests, "--rate") == "0.5"
    done = template("--values", CHART / "ci/minimal.yaml", "--set", "settings.cache-entries=2000000")
    assert "--cache-entries=2000000" in done.stdout


def test_the_chart_works_within_another(tmp_path):
    outer = tmp_path / "outer"
    (outer / "charts").mkdir(parents=True)
    (outer / "charts" / "hypersender-grpc").symlink_to(CHART)
    (outer / "Chart.yaml").write_text("apiVersion: v2\nname: outer\nversion: 0.1.0\n")
    inner = {"enabled": True, "image": {"repository": "r"}, "apiKey": {"existingSecret": "s"}}
    values = json.dumps({"global": {"region": "a"}, "hypersender-grpc": inner})
    (outer / "values.yaml").write_text(values)
    done = template(chart=outer)
    assert done.returncode == 0 and "kind: Deployment" in done.stdout, done.stderr


def test_the_schema_knows_every_flag_of_serve_with_its_range():
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]
    text = subprocess.run(
        [program("HYPERSENDER_GRPC_BIN"), "serve", "--help"], capture_output=True, text=True, check=True
    )
    flags = dict(re.findall(r"^ +(?:-., )?--([a-z-]+)(.*?)(?=^ +-|\Z)", text.stdout, re.MULTILINE | re.DOTALL))
    del flags["help"], flags["version"]
    others = {flag for flag in flags if any(re.search(pattern, flag) for pattern in schema["patternProperties"])}
    assert flags.keys() == schema["properties"].keys() | others and not schema["properties"].keys() & others
    # The flags that the schema does not list must be refused with the name of the value that sets them.
    done = template(*(part for flag in others for part in ("--set", f"settings.{flag}=x")))
    for flag in others:
        assert f"settings.{flag}: the chart sets this flag; use" in done.stderr
    ranges = 0
    for flag, rule in schema["properties"].items():
        if rule.get("type") in ("integer", "number"):
            words = " ".join(flags[flag].split())
            bounds = re.search(r"\(([\d.]+) to ([\d.]+)\)", words)
            assert bounds is None or [float(bound) for bound in bounds.groups()] == [
                rule["minimum"],
                rule["maximum"],
            ], flag
            ranges += bounds is not None
    assert ranges >= 8
