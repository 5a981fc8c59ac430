"""The measured record, from files as a run leaves them (whole runs are in test_run.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from farm.domain.errors import StageFailed
from farm.sdk.child import ChildResult
from farm.sdk.devices import Device
from farm.sdk.root import Sdk
from farm.stages.measure import measure
from farm.stages.run import PreparedRun, RawRun
from tests.stages.conftest import CONFIG, MakeRoot
from tests.stages.test_run import prepared_run

ANSWER = {"inferences": 500, "duration_us": 1_000_000, "throughput_inf_s": 1000.0, "outputs_agree": True}


def raw_run(sdk: Sdk, log: Path, **changes: object) -> RawRun:
    before = Device(1, "Ready", "0000:23:00.0", serial="S1", sku="PCIe", nsp_total=14, temperature_c=40.0)
    after = Device(1, "Ready", "0000:23:00.0", nsp_total=14, temperature_c=55.0, power_w=60.0)
    result = ChildResult(0, None, "exit", 1.5, 2**20, log)
    values: dict[str, object] = {"foreign_tenant": False, **changes}
    return RawRun(
        result,
        before,
        after,
        card_s=2.0,
        host_busy=0.5,
        started="a",
        finished="b",
        sdk=sdk,
        **values,  # type: ignore[arg-type]
    )


def left_by_api(prepared: PreparedRun, answer: object = ANSWER, activations: int = CONFIG.instances) -> None:
    """The files of an api run whose latencies satisfy Little's law: 12 samples in flight at 1000 a second."""
    folder = prepared.tree.outputs
    for path in prepared.outputs.values():
        path.write_bytes(b"1234")
    (folder / "answer.json").write_text(json.dumps(answer))
    for number in range(activations):
        np.save(folder / f"latency-activation-{number}.npy", np.full(400, 12.0))


@pytest.fixture
def sdk(make_root: MakeRoot) -> Sdk:
    return make_root()


@pytest.fixture
def prepared(sdk: Sdk, onnx_file: Path, tmp_path: Path) -> PreparedRun:
    return prepared_run(sdk, onnx_file, tmp_path, route="api")


def test_the_figures_of_an_api_run(sdk: Sdk, prepared: PreparedRun, tmp_path: Path) -> None:
    left_by_api(prepared)
    record = measure(prepared, raw_run(sdk, tmp_path / "log"))
    assert (record["throughput_inf_s"], record["inferences"]) == (1000.0, 500)
    assert record["latency_ms_p50"] == record["latency_ms_p95_raw"] == 12.0
    assert record["flags"] == []
    assert (record["temperature_c"], record["power_w"]) == (55.0, 60.0)
    assert record["telemetry"]["before"]["temperature_c"] == 40.0
    assert (record["device_serial"], record["sku"], record["firmware"]) == ("S1", "PCIe", None)
    assert (record["run_s"], record["card_s"], record["host_busy"]) == (1.5, 2.0, 0.5)


def test_what_makes_a_number_doubtful_is_flagged(sdk: Sdk, prepared: PreparedRun, tmp_path: Path) -> None:
    left_by_api(prepared, {**ANSWER, "throughput_inf_s": 2000.0, "outputs_agree": False})
    flags = measure(prepared, raw_run(sdk, tmp_path / "log", foreign_tenant=True))["flags"]
    assert {"little_law", "outputs_disagree", "foreign_tenant"} <= set(flags)


@pytest.mark.parametrize(
    "answer", [[], {}, "x", {**ANSWER, "inferences": "many"}, {**ANSWER, "duration_us": None}]
)
def test_half_an_answer_is_a_failure(sdk: Sdk, prepared: PreparedRun, tmp_path: Path, answer: object) -> None:
    left_by_api(prepared, answer)
    with pytest.raises(StageFailed, match="no whole answer") as caught:
        measure(prepared, raw_run(sdk, tmp_path / "log"))
    assert caught.value.kind == "host"


def test_missing_latencies_and_outputs_are_failures(sdk: Sdk, prepared: PreparedRun, tmp_path: Path) -> None:
    left_by_api(prepared, activations=CONFIG.instances - 1)
    with pytest.raises(StageFailed, match="no whole answer"):
        measure(prepared, raw_run(sdk, tmp_path / "log"))
    prepared.outputs["pooled"].write_bytes(b"")
    with pytest.raises(StageFailed, match="no output 'pooled'"):
        measure(prepared, raw_run(sdk, tmp_path / "log"))
