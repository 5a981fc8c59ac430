"""The run and compile stages under the emulated SDK's faults and open choices."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import StageFailed
from farm.domain.job import CardConfiguration
from farm.sdk.devices import query
from farm.sdk.launcher import DirectLauncher
from farm.sdk.root import Sdk
from farm.stages.compile import build_compile, dim_names
from farm.stages.measure import measure
from farm.stages.run import execute_run
from tests.stages.conftest import CONFIG, MakeRoot, ask
from tests.stages.small_model import FACTS
from tests.stages.test_run import card, prepared_run

Scenario = Callable[..., None]


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """Puts a scenario in force: scenario({"tool": ..., "fault": ...}, ..., options)."""

    def put(*rules: dict[str, object], **options: object) -> None:
        path = tmp_path / "scenario.json"
        path.write_text(json.dumps({"rules": rules, "options": options}))
        monkeypatch.setenv("AIC_EMULATOR_SCENARIO", str(path))

    return put


@pytest.fixture
def sdk(make_root: MakeRoot) -> Sdk:
    return make_root()


@pytest.fixture
def run_once(sdk: Sdk, onnx_file: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Prepares before the scenario is in force, then runs and measures under it."""
    device = card(sdk)

    def run(route: str = "runner", config: CardConfiguration = CONFIG, **options: float) -> dict[str, Any]:
        prepared = prepared_run(sdk, onnx_file, tmp_path, route=route, config=config)
        return measure(prepared, execute_run(prepared, device, DirectLauncher(), sdk, **options))  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize(
    ("tool", "fault", "kind"),
    [
        ("qaic-runner", "no-stats", "card"),
        ("qaic-runner", "rate-inconsistent", "host"),
        ("qaic-runner", "not-ready", "card"),
        ("qaic-runner", "vanish", "card"),
        ("qaic-runner", "timeout", "card"),
        ("qaic-runner", "latency-missing", "host"),
        ("qaic-runner", "latency-empty", "host"),
        ("qaic-runner", "latency-stale", "host"),
        ("qaic-runner", "output-missing", "host"),
        ("qaic-runner", "killed", "host"),
        ("qaic-runner", "fail", "host"),
        ("card", "activate-nsp", "busy"),
        ("card", "activate-memory", "busy"),
        ("card", "activate-vc", "busy"),
        ("card", "status", "card"),
        ("qaic-util", "permission", "card"),
    ],
)
def test_each_fault_has_its_kind(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]], tool: str, fault: str, kind: str
) -> None:
    scenario({"tool": tool, "fault": fault})
    with pytest.raises(StageFailed) as caught:
        run_once()
    assert caught.value.kind == kind, caught.value
    assert "\n" not in str(caught.value)


def test_a_hang_that_ignores_term_is_ended_and_the_cards(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.sdk.child.GRACE_S", 0.3)
    scenario({"tool": "qaic-runner", "fault": "hang"}, {"tool": "qaic-runner", "fault": "ignore-sigterm"})
    with pytest.raises(StageFailed, match="did not end within") as caught:
        run_once(limit_s=2.0)
    assert caught.value.kind == "card"


@pytest.mark.parametrize(
    ("rule", "options", "flag"),
    [
        ({"tool": "qaic-runner", "fault": "latency-fewer", "files": 2}, {}, "partial"),
        (None, {"latency_numbering": "all-into-zero"}, "partial"),
        (None, {"latency_numbering": "zero"}, None),
        ({"tool": "qaic-runner", "fault": "latency-five-headers"}, {}, None),
        ({"tool": "card", "fault": "nsp-lag", "seconds": 1}, {}, None),
        (
            None,
            {"extra_fields": True, "dram_unit": "KB", "frequency_decimals": True, "telemetry": False},
            None,
        ),
    ],
)
def test_what_a_run_survives(
    scenario: Scenario,
    run_once: Callable[..., dict[str, Any]],
    rule: dict[str, object] | None,
    options: dict[str, object],
    flag: str | None,
) -> None:
    scenario(*([rule] if rule else []), **options)
    record = run_once()
    assert record["throughput_inf_s"] > 0
    told = {"partial", "foreign_tenant", "latency_by_place"} & set(record["flags"])
    assert told == ({flag} if flag else set())
    assert (record["temperature_c"] is None) == (options.get("telemetry") is False)


def test_another_tenants_cores_are_flagged(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.stages.run.BASELINE_WAIT_S", 0.0)
    monkeypatch.setattr("farm.stages.run.AFTER_WAIT_S", 0.0)
    scenario({"tool": "card", "fault": "tenant", "nsp": 4})
    assert "foreign_tenant" in run_once()["flags"]


@pytest.mark.parametrize("convention", ["executions", "samples"])
@pytest.mark.parametrize("unit", ["seconds", "microseconds"])
def test_the_api_route_reads_every_convention(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]], convention: str, unit: str
) -> None:
    scenario(rate_convention=convention, time_unit=unit)
    record = run_once("api")
    seconds = record["duration_us"] / 1e6
    assert 0.7 < seconds < 20, "a second, on a busy machine more: not a million times that"
    assert record["throughput_inf_s"] == pytest.approx(record["inferences"] * 2 / seconds, rel=0.4)


def test_an_api_for_another_python_is_the_hosts(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]]
) -> None:
    scenario({"tool": "api", "fault": "import-error"})
    with pytest.raises(StageFailed, match="cannot be imported by Python") as caught:
        run_once("api")
    assert caught.value.kind == "host"


def test_the_api_route_outlasts_its_own_lagging_cores(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]]
) -> None:
    scenario({"tool": "card", "fault": "nsp-lag", "seconds": 1.5})
    record = run_once("api", config=dataclasses.replace(CONFIG, instances=5))  # twice 10 are more than 14
    assert record["latency_samples"] > 0
    assert "foreign_tenant" not in record["flags"]


def test_the_api_route_polls_where_the_sdk_does_not_wait(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]]
) -> None:
    scenario(completed_waits=False)
    record = run_once("api")
    assert record["latency_samples"] > 0
    assert "outputs_disagree" not in record["flags"]


@pytest.mark.parametrize("fault", ["activate-nsp", "activate-memory"])
def test_an_api_run_that_never_got_its_cores_is_busy(
    scenario: Scenario, run_once: Callable[..., dict[str, Any]], fault: str
) -> None:
    scenario({"tool": "card", "fault": fault})
    with pytest.raises(StageFailed, match="api_child: RuntimeError") as caught:
        run_once("api")
    assert caught.value.kind == "busy"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("tool", "fault"), [("qaic-runner", "killed"), ("card", "activate-nsp")])
def test_the_commands_of_a_failed_run_are_there(
    scenario: Scenario, sdk: Sdk, onnx_file: Path, tmp_path: Path, tool: str, fault: str
) -> None:
    device = card(sdk)
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    scenario({"tool": tool, "fault": fault})
    with pytest.raises(StageFailed):
        execute_run(prepared, device, DirectLauncher(), sdk)
    lines = prepared.tree.commands.read_text().splitlines()
    assert [line.split()[0] for line in lines[:1]] == ["mkdir"]
    assert {str(sdk.compiler), str(sdk.runner)} <= {line.split()[0] for line in lines}


def test_a_query_that_hangs_is_given_up(scenario: Scenario, sdk: Sdk) -> None:
    scenario({"tool": "qaic-util", "fault": "hang"})
    with pytest.raises(StageFailed, match="no answer within") as caught:
        query(sdk, timeout_s=0.5)
    assert caught.value.kind == "card"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("silent", "host"),
        ("truncated", "host"),
        ("killed", "host"),
        ("disk-full", "host"),
        ("unsupported-operator", "input"),
    ],
)
def test_each_fault_of_a_compiler_has_its_kind(
    scenario: Scenario, sdk: Sdk, onnx_file: Path, tmp_path: Path, fault: str, kind: str
) -> None:
    scenario({"tool": "compiler", "fault": fault})
    with pytest.raises(StageFailed) as caught:
        build_compile(
            ask(), onnx_file, dim_names(FACTS), tmp_path / "out", DirectLauncher(), sdk, tmp_path / "log"
        )
    assert caught.value.kind == kind, caught.value
