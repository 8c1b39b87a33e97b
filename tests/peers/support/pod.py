"""The container of the chart as a process of this machine, and the probes of the kubelet."""

import re
import urllib.request

import grpc

from . import wait_until
from .server import ANY_PORT, Server

# An address that each pod has for itself in a cluster, and shares with the others here.
EVERY_ADDRESS = re.compile(r"^(--(?:admin-|avatars-)?listen)=0\.0\.0\.0:\d+$")
# HealthCheckResponse with the status SERVING.
SERVING = b"\x08\x01"


class Pod(Server):
    """The process that the container of the manifests would be.

    `objects` has the texts of the Secrets and ConfigMaps that the pod names, by name and key.
    """

    def __init__(self, directory, manifests, objects):
        directory.mkdir()
        self.manifests = manifests
        self.mounts = {}
        volumes = {volume["name"]: volume for volume in manifests.pod.get("volumes", [])}
        for mount in manifests.container.get("volumeMounts", []):
            folder = directory / mount["name"]
            folder.mkdir()
            self.mounts[mount["mountPath"]] = str(folder)
            for path, text in files(volumes[mount["name"]], objects):
                (folder / path).write_text(text)
        self.objects = objects
        super().__init__(directory / "process", environment=self.variables())

    def command(self):
        flags = [self.own(argument) for argument in self.manifests.container["args"]]
        addresses = {"--listen": self.address, "--admin-listen": self.admin, "--avatars-listen": ANY_PORT}
        return [EVERY_ADDRESS.sub(lambda match: f"{match[1]}={addresses[match[1]]}", flag) for flag in flags]

    def variables(self):
        known = {"metadata.name": "pod-1", "metadata.namespace": "default", "status.hostIP": "127.0.0.1"}
        found = {}
        for variable in self.manifests.container.get("env", []):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                text = known[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                text = self.objects[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
            else:
                text = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], variable["value"])
            found[variable["name"]] = self.own(text)
        return found

    def own(self, text):
        """The text with the paths of this machine in place of those in the container."""
        for mounted, folder in self.mounts.items():
            text = text.replace(mounted, folder)
        return text

    def passes(self, probe):
        """Whether the probe of this name passes, as the kubelet asks it."""
        probe = self.manifests.container[f"{probe}Probe"]
        if "grpc" in probe:
            return self._serves(probe["grpc"]["service"], probe["timeoutSeconds"])
        url = f"http://{self.admin}{probe['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]):
                return True
        except OSError:
            return False

    def _serves(self, service, timeout):
        with grpc.insecure_channel(self.address) as channel:
            # Without a serializer, a call takes and gives the bytes of the message.
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return check(b"\x0a" + bytes([len(service)]) + service.encode(), timeout=timeout) == SERVING
            except grpc.RpcError:
                return False

    def become_ready(self):
        """Wait until the startup probe passes, and then the two others."""
        for probe in ("startup", "liveness", "readiness"):
            wait_until(f"the {probe} probe passes", lambda probe=probe: self.passes(probe))


def files(volume, objects):
    """The paths and texts of a volume."""
    if "secret" in volume:
        name, items = volume["secret"]["secretName"], volume["secret"].get("items")
    elif "configMap" in volume:
        name, items = volume["configMap"]["name"], volume["configMap"].get("items")
    else:
        return []
    keys = {item["key"]: item["path"] for item in items} if items else {key: key for key in objects[name]}
    return [(path, objects[name][key]) for key, path in keys.items()]
