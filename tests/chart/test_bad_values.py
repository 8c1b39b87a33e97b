"""Values that cannot work stop Helm with a message that names the value."""

import json

import pytest
from support.chart import CHART, template

# The values in addition to those of ci/minimal.yaml, and parts of the message.
FAULTS = [
    # Names that do not exist, and types and ranges: found by the schema.
    ({"replicaCount": 2}, "additional properties 'replicaCount' not allowed"),
    ({"settings": {"cashe-ttl": "2h"}}, "at '/settings': additional properties 'cashe-ttl' not allowed"),
    ({"store": {"passwrd": {}}}, "at '/store': additional properties 'passwrd' not allowed"),
    ({"apiKey": {"value": "1|secret"}}, "at '/apiKey': additional properties 'value' not allowed"),
    ({"replicas": "two"}, "at '/replicas': got string, want integer"),
    ({"settings": {"in-flight": 0}}, "at '/settings/in-flight'"),
    ({"settings": {"rate": 1001}}, "at '/settings/rate'"),
    ({"settings": {"cache-ttl": "1 hour"}}, "at '/settings/cache-ttl'"),
    ({"settings": {"cache-bytes": "1Gx"}}, "at '/settings/cache-bytes'"),
    ({"settings": {"log-format": "xml"}}, "at '/settings/log-format'"),
    ({"drain": None}, "missing property 'drain'"),
    ({"drain": {"waitSeconds": 1}}, "at '/drain/waitSeconds': minimum: got 1, want 5"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "at '/podDisruptionBudget/maxUnavailable'"),
    ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "at '/podDisruptionBudget/maxUnavailable'"),
    ({"podDisruptionBudget": {"minAvailable": 1}}, "additional properties 'minAvailable' not allowed"),
    ({"image": {"digest": "sha256:12"}}, "at '/image/digest'"),
    ({"store": {"url": "http://valkey"}}, "at '/store/url'"),
    ({"avatars": {"enabled": True, "url": "http://avatars.example.com"}}, "at '/avatars/url'"),
    ({"ports": {"grpc": 70000}}, "at '/ports/grpc'"),
    ({"listenAddress": "localhost"}, "at '/listenAddress'"),
    ({"nodeSelector": {"ssd": True}}, "at '/nodeSelector/ssd': got boolean, want string"),
    # Values that do not fit together: found by the templates.
    ({"image": {"repository": ""}}, "image.repository: name the repository"),
    ({"apiKey": {"existingSecret": ""}}, "apiKey.existingSecret: the service needs a token"),
    ({"settings": {"credentials": "passthrough"}}, "settings.credentials: with passthrough each call brings its token"),
    (
        {"settings": {"listen": "0.0.0.0:1"}},
        "settings.listen: the chart sets this flag; use listenAddress and ports.grpc",
    ),
    ({"settings": {"tls-cert": "/a"}}, "settings.tls-cert: the chart sets this flag; use tls"),
    ({"settings": {"replicas": 7}}, "settings.replicas: the chart sets this flag; use replicas, autoscaling"),
    ({"settings": {"upstream-proxy": "http://me:pw@proxy:1"}}, "settings.upstream-proxy: holds a user or a password"),
    ({"upstreamProxyAuth": {"existingSecret": "a"}}, "upstreamProxyAuth.existingSecret: has no effect without"),
    ({"callers": {"toml": "a", "existingSecret": "b"}}, "callers.toml: given twice"),
    ({"tls": {"clientCa": {"existingSecret": "a"}}}, "tls.clientCa.existingSecret: needs tls.existingSecret"),
    ({"tls": {"existingSecret": "a"}, "admin": {"enabled": False}}, "admin.enabled: must be true with tls"),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}}, "admin": {"enabled": False}},
        "metrics.serviceMonitor.enabled:",
    ),
    ({"avatars": {"enabled": True}}, "avatars.url: nothing to serve without it"),
    ({"avatars": {"enabled": True, "url": "https://a"}}, "avatars.key.existingSecret: avatars.url needs it"),
    ({"avatars": {"url": "https://a", "key": {"existingSecret": "a"}}}, "avatars.enabled: must be true"),
    ({"avatars": {"key": {"existingSecret": "a"}}}, "avatars.key.existingSecret: has no effect without avatars.url"),
    (
        {"avatars": {"enabled": True}, "settings": {"sandbox": True}},
        "avatars.enabled: cannot be used with settings.sandbox",
    ),
    (
        {"avatars": {"enabled": True}, "apiKey": {"existingSecret": ""}, "settings": {"credentials": "passthrough"}},
        "avatars.enabled: cannot be used with settings.credentials passthrough",
    ),
    (
        {"avatars": {"enabled": True}, "callers": {"toml": "a"}, "settings": {"upstream-proxy": "http://proxy:1"}},
        "settings.avatars-mode: must be redirect",
    ),
    (
        {"otlp": {"headers": {"existingSecret": "a"}}},
        "otlp.headers.existingSecret: has no effect without otlp.endpoint",
    ),
    ({"replicas": 3}, "replicas: 3 replicas without store.url ask WhatsApp 3 times as fast"),
    ({"autoscaling": {"enabled": True}}, "autoscaling.enabled: 6 replicas without store.url"),
    ({"replicas": 2, "store": {"file": {"enabled": True}}}, "replicas: 2 replicas cannot use one file"),
    ({"store": {"url": "redis://a", "file": {"enabled": True}}}, "store.url: given twice"),
    ({"store": {"url": "redis://:pw@a"}}, "store.url: holds a user or a password"),
    ({"store": {"password": {"existingSecret": "a"}}}, "store.url: must be set with store.username"),
    ({"store": {"url": "redis://a", "username": "me"}}, "store.password.existingSecret: must be set"),
    ({"store": {"url": "redis://a", "ca": {"existingSecret": "a"}}}, "store.ca.existingSecret: needs TLS"),
    (
        {"store": {"file": {"enabled": True, "size": "1Gi"}}},
        "store.file.size: 1Gi must be more than settings.store-bytes",
    ),
    (
        {"store": {"file": {"enabled": True}}, "settings": {"store-bytes": "4GiB"}},
        "store.file.size: 2Gi must be more than settings.store-bytes (4GiB)",
    ),
    (
        {"store": {"url": "redis://a"}, "autoscaling": {"enabled": True, "minReplicas": 9}},
        "autoscaling.minReplicas: is greater than autoscaling.maxReplicas",
    ),
    (
        {"store": {"url": "redis://a"}, "autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        "resources.requests.cpu: the autoscaler needs it",
    ),
    ({"rollingUpdate": {"maxSurge": 0}}, "rollingUpdate.maxSurge: cannot be 0"),
    ({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "rollingUpdate.maxSurge: cannot be 0"),
    ({"terminationGracePeriodSeconds": 34}, "terminationGracePeriodSeconds: 34 is less than the 35 that a drain needs"),
    (
        {"terminationGracePeriodSeconds": 60, "drain": {"timeoutSeconds": 60}},
        "terminationGracePeriodSeconds: 60 is less than the 75 that a drain needs",
    ),
    ({"settings": {"cache-bytes": "1GiB"}}, "resources.limits.memory: 1Gi is less than the 1280 MiB"),
    ({"settings": {"cache-bytes": 2000000000}}, "resources.limits.memory: 1Gi is less than the 2163 MiB"),
    ({"ports": {"admin": 50051}}, "ports: two of them are the same"),
    ({"fullnameOverride": "1st"}, "fullnameOverride: the name 1st of the Services must begin with a letter"),
]


@pytest.mark.parametrize(("values", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_the_message_names_the_value(tmp_path, values, message):
    done = with_values(tmp_path, values)
    assert done.returncode != 0 and message in done.stderr, done.stderr


def test_all_faults_come_at_once(tmp_path):
    done = with_values(tmp_path, {"replicas": 2, "image": {"repository": ""}, "settings": {"store": "none"}})
    assert "3 value(s) at fault" in done.stderr
    for name in ("replicas:", "image.repository:", "settings.store:"):
        assert f"\n  {name}" in done.stderr


def with_values(directory, values):
    # JSON is YAML.
    (directory / "values.yaml").write_text(json.dumps(values))
    files = (CHART / "ci" / "minimal.yaml", directory / "values.yaml")
    return template(*(part for file in files for part in ("--values", file)), release="x")
