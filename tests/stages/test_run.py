"""The run stage on emulated cards: both SDK profiles, both routes, and cards that are not fit."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from farm.domain.errors import StageFailed
from farm.domain.job import CardConfiguration
from farm.sdk.child import Child, ChildSpec
from farm.sdk.devices import Device, query
from farm.sdk.launcher import DirectLauncher
from farm.sdk.lock import CardLock, lock_folder
from farm.sdk.root import Sdk
from farm.stages.measure import measure
from farm.stages.run import PreparedRun, execute_run, prepare_run
from tests.stages.conftest import CONFIG, MakeRoot, compiled, job
from tests.stages.small_model import FACTS, HIDDEN


def prepared_run(
    sdk: Sdk, onnx: Path, tmp_path: Path, name: str = "attempt", **changes: object
) -> PreparedRun:
    qpc = compiled(sdk, onnx, tmp_path / "store")
    return prepare_run(job(**changes), onnx, FACTS, qpc, tmp_path / name, sdk)


def card(sdk: Sdk, qid: int = 1) -> Device:
    return query(sdk, [qid])[0]


@pytest.mark.parametrize("profile", ["1.12", "1.21"])
@pytest.mark.parametrize("route", ["runner", "api"])
def test_a_run_is_measured(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, profile: str, route: str
) -> None:
    sdk = make_root(profile)
    prepared = prepared_run(sdk, onnx_file, tmp_path, route=route)
    before = card(sdk)
    raw = execute_run(prepared, before, DirectLauncher(), sdk)
    record = measure(prepared, raw)
    assert (record["platform"], record["timing"]) == ("emulated", "measured")
    assert record["throughput_inf_s"] == pytest.approx(
        record["inferences"] * CONFIG.batch_size * 1e6 / record["duration_us"], rel=0.2
    )
    assert 0.7e6 < record["duration_us"] < 3e6, "a second, on a busy machine more"
    assert 0 < record["latency_ms_p50"] <= record["latency_ms_p95"] <= record["latency_ms_p99"]
    assert record["latency_samples"] > 0
    assert {"partial", "foreign_tenant", "latency_by_place", "outputs_disagree"} & set(
        record["flags"]
    ) == set()
    assert record["card_s"] >= record["run_s"] >= 1
    assert (record["pci_address"], record["device_serial"]) == (before.pci_address, before.serial)
    assert record["nsp_total"] == 14
    assert record["temperature_c"] is not None
    assert record["workdir"] == str(tmp_path / "attempt")
    assert {path.stat().st_size for path in prepared.outputs.values()} == {
        2 * 16 * HIDDEN * 4,
        2 * HIDDEN * 4,
    }
    pooled = np.fromfile(prepared.outputs["pooled"], np.float32).reshape(2, HIDDEN)
    hidden = np.fromfile(prepared.outputs["last/hidden"], np.float32).reshape(2, 16, HIDDEN)
    np.testing.assert_allclose(hidden.mean(axis=1), pooled, atol=1e-2)
    assert card(sdk).nsp_free == 14


def test_every_written_inference_is_compared_with_the_first(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"rules": [{"tool": "qaic-runner", "fault": "output-wrong", "nth": 2}]}')
    sdk = make_root(scenario=scenario)
    for name, outputs in (("odd", {"-activation-0-inf-0", "-activation-0-inf-1"}), ("even", None)):
        prepared = prepared_run(sdk, onnx_file, tmp_path, name)
        raw = execute_run(prepared, card(sdk), DirectLauncher(), sdk)
        assert ("outputs_disagree" in measure(prepared, raw)["flags"]) == (outputs is not None)
        left = {path.stem.removeprefix("pooled") for path in prepared.tree.outputs.glob("pooled*.bin")}
        assert left == (outputs or {"-activation-0-inf-0"})


def test_the_trees_files(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    prepared = prepared_run(make_root(), onnx_file, tmp_path)
    folder = tmp_path / "attempt/org/small/feature-extraction"
    motif = "B2-S16-C2-A3-Z2-OLS1-balanced"
    assert (folder / "model/model.onnx").readlink() == onnx_file
    assert (folder / f"compiled-bin-fp16-{motif}/programqpc.bin").is_symlink()
    ids = np.fromfile(folder / "inputFiles/input_ids_2x16.raw", "<i8")
    assert ids.shape == (32,)
    [entries] = json.loads((folder / "inputFiles/aic_batch_io_2x16.json").read_text())["IO-files"]
    assert [entry["map-to"] for entry in entries] == ["input_ids", "attention_mask"]
    assert [entry["elem-size"] for entry in entries] == [8, 8]
    listed = (folder / "list_2x16.txt").read_text()
    assert listed.endswith("\n")
    assert [Path(path) for path in listed.strip().split(",")] == [file.path for file in prepared.inputs]
    assert prepared.outputs["last/hidden"] == (
        folder / f"outputFiles/fp16-{motif}/last_hidden-activation-0-inf-0.bin"
    )


def test_the_runners_files_of_another_run_are_never_mixed_in(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    sdk = make_root()
    prepared_run(sdk, onnx_file, tmp_path)
    with pytest.raises(FileExistsError):
        prepared_run(sdk, onnx_file, tmp_path)


def test_a_held_card_is_busy_and_names_the_holder(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.stages.run.LOCK_WAIT_S", 0.2)
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    device = card(sdk)
    lock = CardLock(lock_folder(sdk.root), device.pci_address or "", 14)
    assert lock.try_exclusive()
    with pytest.raises(StageFailed, match="held by another process") as caught:
        execute_run(prepared, device, DirectLauncher(), sdk)
    lock.release()
    assert caught.value.kind == "busy"


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ({"pci_address": "0000:ff:00.0"}, "QIDs shifted"),
        ({"qid": 9}, "Device 9 invalid"),
        ({"pci_address": None}, "unknown"),
    ],
)
def test_a_card_that_is_not_the_one_noted(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, device: dict[str, object], says: str
) -> None:
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    noted = dataclasses.replace(card(sdk), **device)  # type: ignore[arg-type]
    with pytest.raises(StageFailed, match=says) as caught:
        execute_run(prepared, noted, DirectLauncher(), sdk)
    assert caught.value.kind == "card"


def test_too_few_free_nsps_are_busy(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.stages.run.BASELINE_WAIT_S", 0.0)
    sdk = make_root()
    config = CardConfiguration(2, 16, cores=2, instances=8, set_size=1)
    prepared = prepared_run(sdk, onnx_file, tmp_path, config=config)
    with pytest.raises(StageFailed, match="14 of 14 NSPs free, 16 needed") as caught:
        execute_run(prepared, card(sdk), DirectLauncher(), sdk)
    assert caught.value.kind == "busy"


def test_another_tenant_is_told(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.stages.run.BASELINE_WAIT_S", 0.0)
    monkeypatch.setattr("farm.stages.run.AFTER_WAIT_S", 0.0)
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    crowd = prepared_run(
        sdk, onnx_file, tmp_path, "crowd", config=dataclasses.replace(CONFIG, instances=6), seconds=1
    )
    device = card(sdk)
    argv = [str(sdk.runner), "-t", str(prepared.tree.qpc), "-d", "1", "-a", "2", "-S", "1", "--time", "100"]
    tenant = Child(ChildSpec(argv, tmp_path, tmp_path / "tenant.log", 120))
    try:
        deadline = time.monotonic() + 60
        while card(sdk).nsp_free != 10:
            assert time.monotonic() < deadline, "the other tenant never took its cores"
        raw = execute_run(prepared, device, DirectLauncher(), sdk)
        assert "foreign_tenant" in measure(prepared, raw)["flags"]
        with pytest.raises(StageFailed, match="10 of 14 NSPs free, 12 needed") as caught:
            execute_run(crowd, device, DirectLauncher(), sdk)
        assert caught.value.kind == "busy"
    finally:
        tenant.stop()
        while tenant.wait() is None:
            pass


@pytest.mark.parametrize("resident", [1, 4])
def test_a_card_that_never_has_all_its_cores_free_is_neither_waited_for_nor_flagged(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: int
) -> None:
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"rules": [{"tool": "card", "fault": "tenant", "nsp": resident}]}))
    monkeypatch.setenv("AIC_EMULATOR_SCENARIO", str(scenario))
    noted = card(sdk)
    assert noted.nsp_free == 14 - resident
    record = measure(prepared, raw := execute_run(prepared, noted, DirectLauncher(), sdk))
    assert not raw.foreign_tenant
    assert record["card_s"] < record["run_s"] + 5


@pytest.mark.parametrize(
    ("looks", "foreign"),
    [
        ([(14, 0), (14, 0)], False),
        ([(13, 0), (14, 0)], True),  # gone when we came back
        ([(14, 0), (13, 0)], True),
        ([(14, 0), (14, 1)], True),
        ([(14, 1), (14, 1)], True),
    ],
)
def test_a_tenant_shows_in_cores_or_networks(
    make_root: MakeRoot,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: list[tuple[int, int]],
    foreign: bool,
) -> None:
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    noted = card(sdk)
    seen = iter([dataclasses.replace(noted, nsp_free=free, networks_active=active) for free, active in looks])
    monkeypatch.setattr("farm.stages.run.query", lambda *_: [next(seen)])
    monkeypatch.setattr("farm.stages.run.BASELINE_WAIT_S", 0.0)
    monkeypatch.setattr("farm.stages.run.AFTER_WAIT_S", 0.0)
    quick = scripted(sdk, tmp_path, "exit 0")
    assert execute_run(prepared, noted, DirectLauncher(), quick).foreign_tenant == foreign


def test_the_lock_notes_the_cards_number(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    plain = make_root()
    device = card(plain)
    path = lock_folder(plain.root) / f"{device.pci_address}.lock"
    sdk = scripted(plain, tmp_path, f"cat '{path}'; exit 1")
    with pytest.raises(StageFailed, match='"qid": 1, "nsp_total": 14'):
        execute_run(prepared_run(plain, onnx_file, tmp_path), device, DirectLauncher(), sdk)


@pytest.mark.parametrize("profile", ["1.12", "1.21"])
def test_a_runner_that_knows_not_an_option_is_the_inputs_fault(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, profile: str
) -> None:
    plain = make_root(profile)
    sdk = scripted(plain, tmp_path, 'exec "$real" "$@" --from-the-future')
    prepared = prepared_run(plain, onnx_file, tmp_path)
    with pytest.raises(StageFailed, match="unrecognized option '--from-the-future'") as caught:
        execute_run(prepared, card(sdk), DirectLauncher(), sdk)
    assert caught.value.kind == "input"


def scripted(sdk: Sdk, tmp_path: Path, script: str) -> Sdk:
    """The SDK with a runner that is a little shell program; the real one is "$real"."""
    tool = tmp_path / "scripted-runner"
    tool.write_text(f"#!/bin/sh\nreal='{sdk.runner}'\n{script}\n")
    tool.chmod(0o755)
    return dataclasses.replace(sdk, runner=tool)


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("exit 0", "host", "wrote no output"),
        ('"$real" "$@" | grep -v Inf/Sec', "card", "no Stats line"),
        ('"$real" "$@"; rm */*/*latency.txt', "host", "wrote no aic-profiling-program"),
        ('"$real" "$@"; for f in */*/*latency.txt; do : > "$f"; done', "host", "no header"),
        ('"$real" "$@"; touch -d 2001-01-01 */*/*latency.txt', "host", "older than the run"),
        ('"$real" "$@"; rm */*/pooled*', "host", "no output 'pooled'"),
        ('"$real" "$@" | sed "s,Inf/Sec .*,Inf/Sec 1.000,"', "host", "its own figures make"),
        ("echo 'Device:1 not in ready state'; exit 1", "card", "not in ready state"),
        ("echo 'activate failed: Memory resource exhausted'; exit 1", "busy", "exhausted"),
        ("exec sleep 60", "card", "did not end within"),
    ],
)
def test_success_is_never_inferred(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, script: str, kind: str, says: str
) -> None:
    plain = make_root()
    sdk = scripted(plain, tmp_path, script)
    prepared = prepared_run(plain, onnx_file, tmp_path)
    limit = 0.3 if "sleep" in script else None
    with pytest.raises(StageFailed, match=says) as caught:
        measure(prepared, execute_run(prepared, card(sdk), DirectLauncher(), sdk, limit_s=limit))
    assert caught.value.kind == kind


def test_fewer_latency_files_than_activations_are_flagged(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    plain = make_root()
    sdk = scripted(plain, tmp_path, '"$real" "$@"; rm */*/*-1-latency.txt')
    prepared = prepared_run(plain, onnx_file, tmp_path)
    record = measure(prepared, execute_run(prepared, card(sdk), DirectLauncher(), sdk))
    assert "partial" in record["flags"]


def test_two_jobs_share_a_card(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    sdk = make_root()
    prepared = prepared_run(sdk, onnx_file, tmp_path)
    device = card(sdk)
    other = CardLock(lock_folder(sdk.root), device.pci_address or "", 14)
    assert other.try_share(8) is not None
    raw = execute_run(prepared, device, DirectLauncher(), sdk, share=True)
    other.release()
    assert raw.result.ok
    assert not raw.foreign_tenant


def test_the_api_route_needs_the_sdks_python(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    sdk = dataclasses.replace(make_root(), python=None, python_reason="no qaicrt module")
    with pytest.raises(StageFailed, match="api route cannot run here: no qaicrt module"):
        prepared_run(sdk, onnx_file, tmp_path, route="api")
