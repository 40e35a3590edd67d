"""The manifests under deploy/kubernetes against Kubernetes' own schemas, our settings, and each other."""

from __future__ import annotations

import re
import tomllib

import kubernetes_validate
import pytest
import yaml

from edge_server.exposure import check_exposure
from edge_server.settings import Settings, load_settings
from tests.conftest import ROOT

FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = {
    f"{file.stem}-{number}": manifest
    for file in sorted(FOLDER.glob("*.yaml")) if file.name != "kustomization.yaml"
    for number, manifest in enumerate(yaml.safe_load_all(file.read_text()))
}  # fmt: skip
OLDEST = "1.32"  # apps.kubernetes.io/pod-index, and sleep in preStop
SET = MANIFESTS["edge-0"]
POD = SET["spec"]["template"]["spec"]
EDGE = POD["containers"][0]
SERVICES = {each["metadata"]["name"]: each["spec"] for each in MANIFESTS.values() if each["kind"] == "Service"}
LABELS = SET["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_schema_and_have_no_unknown_fields(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_the_schema_check_finds_a_misspelt_field():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(SET | {"spec": SET["spec"] | {"replica": 2}}, OLDEST, strict=True)


def test_the_kustomization_names_files_that_exist():
    named = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configMapGenerator"][0]["files"]}
    assert named | {"kustomization.yaml", "open-frames.yaml"} == {file.name for file in FOLDER.iterdir()}


def test_its_image_and_config_map_are_the_ones_that_the_pod_names():
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [EDGE["image"]]
    config = next(volume["configMap"]["name"] for volume in POD["volumes"] if volume["name"] == "config")
    assert [generated["name"] for generated in KUSTOMIZATION["configMapGenerator"]] == [config]


def settings() -> Settings:
    """What the edge makes of the pod's arguments and configuration file."""
    arguments = [each.replace("/etc/weaklink/edge.toml", str(FOLDER / "edge.toml")) for each in EDGE["args"]]
    assert arguments.pop(0) == "serve"
    return load_settings(arguments)


def mounted(path: str) -> dict:
    """The volume, or the claim's template, that holds a path of the container."""
    mounts = [mount for mount in EDGE["volumeMounts"] if f"{path}/".startswith(f"{mount['mountPath']}/")]
    name = max(mounts, key=lambda mount: len(mount["mountPath"]))["name"]
    claims = {each["metadata"]["name"]: each["spec"] for each in SET["spec"]["volumeClaimTemplates"]}
    return claims.get(name) or next(volume for volume in POD["volumes"] if volume["name"] == name)


def test_the_edge_starts_with_these_settings():
    used = settings()
    ports = {port["name"]: (port["containerPort"], port.get("protocol", "TCP")) for port in EDGE["ports"]}
    assert ports == {"grpc": (used.grpc_port, "TCP"), "frames": (used.udp_port, "UDP"), "http": (used.http_port, "TCP")}
    assert used.host == "0.0.0.0" and not used.insecure
    check_exposure(used)
    assert used.threads < int(EDGE["resources"]["limits"]["cpu"])


def test_the_pod_ends_after_the_last_wait_of_the_shutdown():
    waits = 4 * settings().drain_s + EDGE["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > waits


def test_keys_come_from_a_secret_and_the_replay_window_outlives_the_pod():
    used = settings()
    assert str(used.keys) == "/etc/weaklink/keys/$(POD_NAME).toml"
    assert {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in EDGE["env"]
    secret = mounted(str(used.keys))["secret"]
    assert secret["defaultMode"] & 0o027 == 0, "the edge refuses keys that others may read"
    assert mounted(str(used.replay_path))["accessModes"] == ["ReadWriteOncePod"]


def test_tokens_come_from_a_secret_that_all_pods_share():
    secret = mounted(str(settings().tokens))["secret"]
    assert secret["secretName"] == "weaklink-tokens"
    assert secret["defaultMode"] & 0o027 == 0, "the edge refuses tokens that others may read"
    guide = (ROOT / "docs/operating.md").read_text()
    for volume in POD["volumes"]:
        if "secret" in volume:
            assert f"create secret generic {volume['secret']['secretName']} " in guide


def test_every_probe_asks_for_a_path_that_exists():
    source = (ROOT / "edge_server/http_api.py").read_text()
    paths = {EDGE[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert all(f'"{path}"' in source for path in paths)


@pytest.mark.parametrize("name", SERVICES)
def test_services_lead_to_the_pods(name):
    selector = dict(SERVICES[name]["selector"])
    index = selector.pop("apps.kubernetes.io/pod-index", "0")
    assert selector == LABELS and int(index) < SET["spec"]["replicas"]
    declared = {port["name"]: port for port in EDGE["ports"]}
    for port in SERVICES[name]["ports"]:
        target = declared[port["targetPort"]]
        assert (port["port"], port.get("protocol", "TCP")) == (target["containerPort"], target.get("protocol", "TCP"))


def test_every_pod_has_an_address_for_its_keyed_devices():
    indices = {SERVICES[name]["selector"]["apps.kubernetes.io/pod-index"] for name in SERVICES if "frames-" in name}
    assert indices == set(map(str, range(SET["spec"]["replicas"])))


@pytest.mark.parametrize("name", ["weaklink-grpc", "weaklink-frames"])
def test_a_device_stays_with_its_pod_where_an_address_leads_to_several(name):
    assert SERVICES[name]["sessionAffinity"] == "ClientIP"
    assert SERVICES[name]["externalTrafficPolicy"] == "Local", "else the affinity is the node's, not the device's"


def test_budget_policy_and_spread_select_the_pods():
    budget, policy = MANIFESTS["disruption-budget-0"]["spec"], MANIFESTS["network-policy-0"]["spec"]
    assert budget["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"] == LABELS
    assert SET["spec"]["selector"]["matchLabels"] == LABELS
    assert budget["maxUnavailable"] < SET["spec"]["replicas"]
    assert SET["spec"]["serviceName"] in SERVICES


def test_the_pod_is_hardened_as_the_container_image_allows():
    user = re.search(r"^USER (\d+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)[1]
    assert POD["securityContext"]["runAsUser"] == int(user) and POD["securityContext"]["runAsNonRoot"]
    assert EDGE["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_configuration_file_names_settings_only():
    assert set(tomllib.loads((FOLDER / "edge.toml").read_text())) <= set(Settings.model_fields)
