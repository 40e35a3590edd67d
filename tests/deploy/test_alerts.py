"""The alert rules, played by promtool, and that everybody who should know them does."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from prometheus_client import CollectorRegistry

from edge_server.metrics import Metrics
from tests.conftest import ROOT
from tests.deploy.test_files import SERVICES, exposed_series, needs_promtool

FOLDER = ROOT / "deploy/prometheus"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
PLAYED = ROOT / "tests/deploy/alerts_test.yml"


@needs_promtool
@pytest.mark.parametrize(
    "command",
    # Syntax only: the token is made at the first start.
    [("check", "config", "--syntax-only", FOLDER / "prometheus.yml"), ("check", "rules", FOLDER / "alerts.yml"), ("test", "rules", PLAYED)],
    ids=lambda command: " ".join(map(str, command[:2])),
)
def test_promtool_is_content(command):
    ended = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_that_exist(rule):
    recorded = {each["record"] for each in RULES if "record" in each}
    assert set(re.findall(r"weaklink_[a-z_]+", rule["expr"])) <= exposed_series()
    assert set(re.findall(r"weaklink:[a-z0-9_:]+", rule["expr"])) <= recorded


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule and "for" not in rule], ids=lambda rule: rule["alert"])
def test_what_one_count_sets_off_is_counted_from_0(rule):
    """Else the first count is no increase: the series would begin with it."""
    shown = [sample for family in Metrics(CollectorRegistry()).registry.collect() for sample in family.samples]
    for name, outcome in re.findall(r'(weaklink_[a-z_]+){outcome="(\w+)"}', rule["expr"]):
        assert {sample.value for sample in shown if (sample.name, sample.labels.get("outcome")) == (name, outcome)} == {0}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_played_and_explained(alert):
    expected = [test for each in yaml.safe_load(PLAYED.read_text())["tests"] for test in each["alert_rule_test"]]
    assert any(test["alertname"] == alert and test["exp_alerts"] for test in expected)
    guide = (ROOT / "docs/operating.md").read_text()
    assert f"| `{alert}` |" in guide


def test_compose_gives_prometheus_its_rules():
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    named = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    assert [mounted[f"./deploy/prometheus/{name}"] for name in named] == [f"/etc/prometheus/{name}" for name in named]
