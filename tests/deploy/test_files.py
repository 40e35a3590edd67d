"""What the files under deploy/ and docker-compose.yml name must exist in our commands, metrics and links."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from channel_emulator.__main__ import build_parser as emulator_parser
from channel_emulator.__main__ import read_config
from channel_emulator.emulator import Emulator
from channel_emulator.metrics import LinkCollector
from channel_emulator.settings import parse_link
from device_client.__main__ import parser as device_parser
from edge_server.exposure import check_exposure
from edge_server.keys_command import device_list, init
from edge_server.metrics import Metrics
from edge_server.settings import Settings, load_settings
from edge_server.settings import build_parser as edge_parser
from tests.conftest import ROOT
from tests.edge_server.conftest import make_bundle, running
from tests.edge_server.test_tls import Authority

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {"edge": edge_parser, "emulator": emulator_parser, "device": device_parser}
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/weaklink.json").read_text())
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus brings it)"
)
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def service_arguments(name: str) -> list[str]:
    """The service's command, variables at their defaults."""
    return shlex.split(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", SERVICES[name]["command"]))


def exposed_series() -> set[str]:
    """Every series name that edge and emulator show on /metrics."""
    registry = CollectorRegistry()
    Metrics(registry)
    families = [*registry.collect(), *LinkCollector(Emulator()).collect()]
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_with_flags_that_exist(name):
    verb, *arguments = service_arguments(name)
    assert verb == {"edge": "serve", "emulator": "emulate", "device": "send"}[name]
    OURS[name]().parse_args(arguments)


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_hardened_and_checked(name):
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["healthcheck"]["test"][0] == "CMD"


def mounts(name: str) -> dict[str, tuple[str, bool]]:
    """Folder -> the named volume that is mounted there, and whether it can be written to."""
    split = [volume.split(":") for volume in SERVICES[name]["volumes"] if not volume.startswith(".")]
    return {folder: (volume, not options) for volume, folder, *options in split}


def test_the_edge_asks_who_calls():
    _, *arguments = service_arguments("edge")
    settings = load_settings(arguments)
    assert settings.host == "0.0.0.0" and not settings.insecure
    check_exposure(settings)
    assert mounts("edge")[str(settings.replay_path.parent)] == ("edge-state", True)


def test_everybody_is_given_the_secrets_of_their_own(tmp_path: Path):
    """Each in a volume, all of them made by one service, which the others wait for."""
    command = service_arguments("keys")
    assert command[:2] == ["keys", "init"] and command[3] == "--devices"
    root = Path(command[2])
    init(tmp_path, device_list(command[4]))
    made = mounts("keys")
    assert {folder: writable for folder, (_, writable) in made.items()} == {
        str(root / each.name): True for each in tmp_path.iterdir()
    }
    wanted = {
        "edge": [argument for argument in service_arguments("edge") if argument.endswith(".toml")],
        "device": [word for word in [*service_arguments("device"), *SERVICES["device"]["healthcheck"]["test"]] if "/devices/" in word],
    }
    for name, files in wanted.items():
        (folder,) = {Path(file).parent for file in files}
        assert len(files) >= 2 and mounts(name)[str(folder)][0] == made[str(folder)][0]
        assert all((tmp_path / Path(file).relative_to(root)).exists() for file in files)
    scraping = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    token = Path(scraping["authorization"]["credentials_file"])
    assert mounts("prometheus")[str(token.parent)] == (made[str(root / "metrics")][0], False)
    assert (tmp_path / "metrics" / token.name).exists()
    secrets = {volume for volume, _ in made.values()}
    held = {name: {volume for volume, _ in mounts(name).values()} & secrets for name in ("edge", "device", "prometheus")}
    assert all(len(own) == 1 for own in held.values()) and len(set.union(*held.values())) == 3
    for name in ("edge", "prometheus"):
        assert SERVICES[name]["depends_on"]["keys"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", SERVICES)
def test_logs_do_not_fill_the_disk(name):
    assert SERVICES[name]["logging"]["driver"] == "json-file"
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}


def test_the_edge_is_killed_after_the_last_wait_of_the_shutdown_only():
    """As on Kubernetes (test_kubernetes.py)."""
    waits = 4 * load_settings(service_arguments("edge")[1:]).drain_s
    assert int(SERVICES["edge"]["stop_grace_period"].removesuffix("s")) > waits
    assert int(*unit("TimeoutStopSec")) > 4 * Settings.model_fields["drain_s"].default


def test_volumes_that_are_written_to_belong_to_the_images_user():
    """A new volume takes owner and mode of the image's folder."""
    made = re.search(r"cd /var/lib && install --directory --owner 10001 --mode 700 (.*)", (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", ""))
    folders = {f"/var/lib/{folder}" for folder in made[1].split()}
    for name in ("keys", *OURS):
        if "volumes" in SERVICES[name]:
            assert set(mounts(name)) <= folders
            assert {volume for volume, _ in mounts(name).values()} <= set(COMPOSE["volumes"])


def test_our_images_run_as_an_unprivileged_user():
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith(("127.0.0.1:", "${WEAKLINK_PUBLISH:-127.0.0.1}:"))


def test_the_emulators_links_are_valid_and_lead_to_the_edge():
    links = {link.name: link for link in map(parse_link, read_config(ROOT / "deploy/emulator/links.json"))}
    assert links["radio"].upstream.host == links["gateway"].upstream.host == "edge"
    assert links["radio"].upstream.port == Settings.model_fields["udp_port"].default
    assert links["gateway"].upstream.port == Settings.model_fields["grpc_port"].default
    device = device_parser().parse_args(service_arguments("device"))
    assert device.to == f"emulator:{links['radio'].listen.port}"
    assert device.feedback == str(links["gateway"].upstream)


def test_prometheus_scrapes_the_services_own_ports():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = [target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]]
    assert targets == ["edge:8080", "emulator:8474"]
    for target in targets:
        name, port = target.split(":")
        assert any(published.endswith(f":{port}") for published in SERVICES[name]["ports"])


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_asks_for_series_that_exist(query):
    named = set(re.findall(r"weaklink_[a-z_]+", query))
    assert named and named <= exposed_series()


def test_the_guides_query_asks_for_series_that_exist():
    query = re.search(r"```promql\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.DOTALL)[1]
    assert set(re.findall(r"weaklink_[a-z_]+", query)) <= exposed_series()


def test_the_dashboard_uses_the_provisioned_data_source():
    folder = ROOT / "deploy/grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((folder / "dashboards/weaklink.yml").read_text())["providers"][0]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in SERVICES["grafana"]["volumes"])


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken
        taken |= cells


def unit(name: str) -> list[str]:
    """The systemd unit's lines of this name."""
    text = (ROOT / "deploy/systemd/weaklink-edge.service").read_text().replace("\\\n", "")
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def unit_environment() -> dict[str, str]:
    text = " ".join(unit("Environment")).replace("%d", "/run/credentials/weaklink-edge.service").replace("%S", "/var/lib")
    return dict(word.split("=", 1) for word in shlex.split(text))


def test_the_systemd_unit_starts_the_edge_with_settings_that_exist(monkeypatch: pytest.MonkeyPatch):
    (start,) = unit("ExecStart")
    command, verb, *arguments = shlex.split(start)
    assert command.endswith("/weaklink") and verb == "serve"
    for name, value in unit_environment().items():
        assert name == "NUMBA_CACHE_DIR" or name.removeprefix("WEAKLINK_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = load_settings(arguments)
    check_exposure(settings)
    assert settings.host == "0.0.0.0" and not settings.insecure
    loaded = {f"/run/credentials/weaklink-edge.service/{each.split(':')[0]}" for each in unit("LoadCredential")}
    assert loaded == {str(settings.keys), str(settings.tokens)}
    assert settings.replay_path.parent == Path("/var/lib", *unit("StateDirectory"))
    assert int(*unit("LimitNOFILE")) >= 65536, "a connection each"


def test_the_systemd_units_own_settings_can_be_changed(monkeypatch: pytest.MonkeyPatch):
    """In edge.env, whose lines come before those of Environment=, but behind flags."""
    assert unit("EnvironmentFile") == ["-/etc/weaklink/edge.env"]
    _, _, *arguments = shlex.split(*unit("ExecStart"))
    for name in unit_environment():
        monkeypatch.setenv(name, "10.0.0.5")
    settings = load_settings(arguments)
    assert {settings.host, *map(str, (settings.keys, settings.tokens, settings.replay_file))} == {"10.0.0.5"}


def uncommented(name: str) -> str:
    """A file of ours with its lines for TLS."""
    return re.sub(r"^( *)#(?: (?= *\w+:)|(?=\w))(?!.*[.;]$)", r"\1", (ROOT / name).read_text(), flags=re.MULTILINE)


def test_the_systemd_units_lines_for_tls_name_each_others_files():
    lines = [line for line in uncommented("deploy/systemd/weaklink-edge.service").splitlines() if "tls." in line and "=" in line]
    loaded = {f"%d/{line.split('=')[1].split(':')[0]}" for line in lines if line.startswith("LoadCredential=")}
    (environment,) = (line for line in lines if line.startswith("Environment="))
    given = dict(word.split("=", 1) for word in environment.removeprefix("Environment=").split())
    assert set(given.values()) == loaded
    assert {name.removeprefix("WEAKLINK_").lower() for name in given} == {"tls_certificate", "tls_key"}


@needs_promtool
def test_prometheus_understands_its_lines_for_tls(tmp_path: Path):
    (file := tmp_path / "prometheus.yml").write_text(text := uncommented("deploy/prometheus/prometheus.yml"))
    assert yaml.safe_load(text)["scrape_configs"][0]["scheme"] == "https"
    shutil.copy(ROOT / "deploy/prometheus/alerts.yml", tmp_path)
    ended = subprocess.run(["promtool", "check", "config", "--syntax-only", file], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr


async def test_composes_check_for_tls_reaches_an_edge_that_has_it(tmp_path: Path):
    text = (ROOT / "docker-compose.yml").read_text()
    lines = re.findall(r"^ *#   (.*)$", text.partition("With --tls-certificate")[2].partition("healthcheck:")[0], re.MULTILINE)
    make_bundle(tmp_path)
    async with running(tmp_path, **Authority(tmp_path, "edge").settings()) as (_, at):
        for check, status in (("\n".join(lines), 0), (SERVICES["edge"]["healthcheck"]["test"][-1], 1)):
            here = check.replace("127.0.0.1:8080", at["http"])
            asking = await asyncio.create_subprocess_exec(sys.executable, "-c", here, stderr=subprocess.DEVNULL)
            assert await asking.wait() == status


def test_the_guide_says_that_the_systemd_units_copies_need_a_restart():
    assert unit("LoadCredential")
    checklist = (ROOT / "docs/operating.md").read_text().partition("## Security checklist")[2].partition("\n## ")[0]
    struck = next(item for item in checklist.split("- [ ]") if "A lost device is struck" in item)
    assert "`systemctl restart weaklink-edge`" in struck
