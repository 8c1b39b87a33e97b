"""The chart: its arguments start the service, its probes pass, and rollouts lose no call."""

import hashlib
import json
import time

import grpc
import pytest
import trustme
from support import wait_until
from support.ask import ask
from support.chart import render
from support.envoy import Envoy
from support.load import Load
from support.pod import Pod
from support.sandbox import Sandbox
from support.valkey import Valkey

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

CHAT = "15551230001"
TOKEN = "a-token-of-a-caller-that-is-long-and-random"
PASSWORD = "a-password-of-the-store"
CALLERS = f"""
[callers.crm]
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
instances = ["*"]
avatars = true
"""
# The calls a second of each load during rollouts.
RATE = 100


@pytest.fixture
def sandbox(started, tmp_path):
    return started(Sandbox(tmp_path / "sandbox"))


@pytest.fixture
def store(started, tmp_path):
    """A Valkey server with the user of ci/everything.yaml."""
    return started(Valkey(tmp_path / "valkey", "--user", "contacts", "on", f">{PASSWORD}", "~*", "&*", "+@all"))


def cluster(sandbox, authority=None):
    """The Secrets and ConfigMaps that deploy/chart/ci names, by name and key."""
    key, instance = (sandbox.settings[f"HYPERSENDER_WHATSAPP_{name}"] for name in ("API_KEY", "INSTANCE_ID"))
    authority = authority or trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    issued = authority.issue_cert("127.0.0.1")
    return {
        "hypersender": {"api-key": f"{key}\n"},
        "hypersender-instances": {
            "instances.toml": f'[instances."{instance}"]\ntoken_file = "shop.token"\n',
            "shop.token": key,
        },
        "contacts-callers": {"callers.toml": CALLERS},
        "contacts-hypersender-grpc-callers": {
            "callers.toml": '[callers.crm]\ncertificate = "crm.example.com"\ninstances = ["*"]\n'
        },
        "contacts-tls": {
            "tls.crt": "".join(part.bytes().decode() for part in issued.cert_chain_pems),
            "tls.key": issued.private_key_pem.bytes().decode(),
        },
        "contacts-client-ca": {"ca.crt": pem},
        "valkey": {"password": PASSWORD},
        "avatars": {"avatars-key": hashlib.sha256(b"avatars").hexdigest()},
        "collector": {"headers": "authorization=Bearer%20abc"},
        "authorities": {"ca.pem": pem},
    }


def upstream(sandbox):
    """The settings of values that lead to the sandbox."""
    instance = sandbox.settings["HYPERSENDER_WHATSAPP_INSTANCE_ID"]
    return [f"settings.base-url={json.dumps(sandbox.base_url)}", f"settings.instance={json.dumps(instance)}"]


def with_store(store):
    """The store of these tests speaks no TLS."""
    return [f"store.url={json.dumps(store.url)}", 'store.ca.existingSecret=""']


def test_the_defaults_serve(started, tmp_path, sandbox):
    pod = started(Pod(tmp_path / "pod", render("minimal", *upstream(sandbox)), cluster(sandbox)))
    pod.become_ready()
    assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT)[0].code is grpc.StatusCode.OK
    drains(pod)
    for probe in ("startup", "liveness", "readiness"):
        assert not pod.passes(probe)


def test_the_sandbox_needs_no_secret(started, tmp_path):
    pod = started(Pod(tmp_path / "pod", render("minimal", "settings.sandbox=true", 'apiKey.existingSecret=""'), {}))
    pod.become_ready()
    assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT)[0].code is grpc.StatusCode.OK


def drains(pod):
    """End the pod like the kubelet, which kills it at the end of the grace period."""
    begin = time.monotonic()
    pod.terminate()
    wait_until("the readiness probe fails", lambda: not pod.passes("readiness"))
    pod.wait()
    assert time.monotonic() - begin < pod.manifests.pod["terminationGracePeriodSeconds"] - 5


def test_with_tls_the_probes_pass_on_the_admin_port(started, tmp_path, sandbox):
    authority = trustme.CA()
    pod = started(Pod(tmp_path / "pod", render("tls", *upstream(sandbox)), cluster(sandbox, authority)))
    pod.become_ready()
    client = authority.issue_cert("crm.example.com")
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    )
    with grpc.secure_channel(pod.address, credentials) as channel:
        assert ContactServiceStub(channel).GetProfilePicture(GetProfilePictureRequest(chat_id=CHAT), timeout=10)
    # A client without a certificate gets no answer.
    assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT, deadline=2)[0].code is not grpc.StatusCode.OK
    drains(pod)


def test_a_file_store_is_found_again_after_a_restart(started, tmp_path, sandbox):
    pod = started(Pod(tmp_path / "pod", render("file-store", *upstream(sandbox)), cluster(sandbox)))
    for _ in range(2):
        pod.become_ready()
        assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT)[0].code is grpc.StatusCode.OK
        pod.drained()
        pod.start()
    assert sandbox.asked()[CHAT] == 1


def test_everything_serves_with_every_secret(started, tmp_path, sandbox, store):
    manifests = render("everything", *upstream(sandbox), *with_store(store))
    pod = started(Pod(tmp_path / "pod", manifests, cluster(sandbox)))
    pod.become_ready()
    assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT, token=TOKEN)[0].code is grpc.StatusCode.OK
    assert ask("grpcio", pod.address, tmp_path, chat_id=CHAT)[0].code is grpc.StatusCode.UNAUTHENTICATED
    wait_until("the answer is in the store", lambda: store("DBSIZE"))
    assert not pod.messages("ERROR")
    # A variable that looks like a misspelt setting would get one.
    assert not pod.messages("WARN")


def test_rollouts_lose_no_call(started, tmp_path, sandbox, store, figure, chart_rolls):
    """The rollout of a Deployment with two replicas and a surge of one: a new pod becomes ready, and then an
    old one gets SIGTERM. Envoy checks the pods as the readiness probe does."""
    sets = [
        'callers.existingSecret=""',
        'drain={"waitSeconds":5,"timeoutSeconds":20}',
        "autoscaling.enabled=false",
        "replicas=2",
    ]
    manifests = render("everything", *upstream(sandbox), *with_store(store), *sets)
    deployment = manifests.one("Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert f"--replicas={2 + 1}" in manifests.container["args"]
    pods = [started(Pod(tmp_path / name, manifests, cluster(sandbox))) for name in ("one", "two", "surge")]
    for pod in pods:
        pod.become_ready()
    probe = manifests.container["readinessProbe"]
    envoy = started(Envoy(tmp_path / "envoy", pods, health_check=as_health_check(probe)))
    loads = [
        started(Load([envoy.address], "15551230101", rate=RATE)),
        started(Load([envoy.address], "15551230102", rate=RATE)),
    ]
    *running, absent = pods
    drained = [absent.drained()]
    for _ in range(2 * chart_rolls):
        absent.start()
        absent.become_ready()
        wait_until("Envoy finds the new pod", lambda: envoy.healthy() == 3)
        running.append(absent)
        absent = running.pop(0)
        assert all(pod.passes("liveness") and pod.passes("readiness") for pod in running)
        drained.append(absent.drained())
    time.sleep(1)
    results = [load.stop() for load in loads]
    calls = sum(result.calls for result in results)
    failed = sum(sum(result.failures.values()) for result in results)
    grace = manifests.pod["terminationGracePeriodSeconds"]
    figure(f"{chart_rolls} rollouts of 2 pods, {len(drained)} drains of at most {max(drained):.1f} s of {grace} s")
    figure(f"{calls} calls, {failed} failed")
    for result in results:
        figure(str(result))
        result.check()
    assert max(drained) < grace - 5


def as_health_check(probe):
    """A readiness probe as a health check of Envoy."""
    return {
        "interval": f"{probe['periodSeconds']}s",
        "timeout": f"{probe['timeoutSeconds']}s",
        "unhealthy_threshold": probe["failureThreshold"],
        "healthy_threshold": 1,
        "no_traffic_interval": f"{probe['periodSeconds']}s",
        "grpc_health_check": {"service_name": probe["grpc"]["service"]},
    }
