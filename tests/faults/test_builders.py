"""Compilers that crash, hang or want too much memory, builders that die, a store that is too small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from farm.domain.job import Job, StageKind
from farm.records import keys
from tests.emulator.emulated import encoder, save
from tests.faults.bench import CONFIG, Bench, Made, ended
from tests.faults.conftest import MakeBench

CPU_QUEUES = "export,compile,reference,compare"


def job(made: Made, cores: int) -> Job:
    """A job with a program of its own."""
    return dataclasses.replace(made.job(), config=dataclasses.replace(CONFIG, cores=cores))


def own_store(make_bench: MakeBench, tmp_path: Path, **settings: str) -> Bench:
    bench = make_bench(FARM_STORE=str(tmp_path / "store"), **{"FARM_STORE_LIMIT": "100G", **settings})
    bench.coordinator()
    return bench


def building(bench: Bench) -> list[str]:
    return [path.name for path in (Path(bench.env["FARM_STORE"]) / "building").iterdir()]


def test_an_endless_compiler_and_a_greedy_one_fail_their_jobs_and_one_that_crashes_is_tried_again(
    make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    bench = own_store(make_bench, tmp_path, FARM_COMPILE_LIMIT_S="8", FARM_COMPILE_MEMORY="500M")
    bench.scenario(
        {"tool": "compiler", "fault": "hang", "times": 1},
        {"tool": "compiler", "fault": "memory", "mb": 700, "times": 1},
        {"tool": "compiler", "fault": "killed", "signal": 11, "times": 1},
    )
    bench.worker(CPU_QUEUES, "cpu")
    campaign = bench.campaign(*(job(made, cores) for cores in (1, 2, 3, 4)))

    def over() -> bool:
        stages = bench.records.status(campaign)["stages"]
        return bool(stages["compile"]["failed"] == 2 and stages["compile"]["done"] == 2)

    bench.until(over, 40, "end of the compiles")
    failed = [row for row in bench.records.jobs(campaign) if row["state"] == "failed"]
    assert [row["error_kind"] for row in failed] == ["input"] * 2
    errors = sorted(row["error"] for row in failed)
    assert "did not end within" in errors[0]
    assert "beyond its cap" in errors[1]
    crashed = 0
    for nth, row in enumerate(bench.records.jobs(campaign)):
        attempt, *again = bench.history(campaign, nth, "compile")
        if again:
            crashed += 1
            assert (attempt["error_kind"], "signal 11" in attempt["error"]) == ("host", True)
            assert [each["outcome"] for each in again] == ["done"]
        if row in failed:
            assert "Compile started" in Path(attempt["log"]).read_text()
            assert bench.stage(campaign, "run", nth)["state"] == "blocked"
    assert crashed == 1
    assert not bench.processes("-aic-binary-dir")
    assert [name for name in building(bench) if name.startswith("compile-")] == []


def test_a_compiler_that_the_kernel_killed_for_memory_is_tried_again_alone(
    make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    bench = own_store(make_bench, tmp_path, FARM_MEMORY_LIMIT="8G")
    bench.scenario(
        {"tool": "compiler", "fault": "killed", "nth": 1},
        {"tool": "compiler", "fault": "slow", "seconds": 15, "nth": 2},
    )
    for name in ("one", "two"):
        bench.worker("export,compile", name)
    campaign = bench.campaign(job(made, 1), job(made, 2))
    bench.until(lambda: bench.records.status(campaign)["waits"], 20, "wait for memory")
    assert "1 compile wait for memory" in bench.farm("status", campaign).stdout
    bench.until(lambda: bench.records.status(campaign)["stages"]["compile"]["done"] == 2, 40, "programs")
    beside, killed = sorted((bench.history(campaign, nth, "compile") for nth in range(2)), key=len)
    assert [attempt["outcome"] for attempt in beside] == ["done"]
    assert [attempt["outcome"] for attempt in killed] == ["failed", "done"]
    assert (killed[0]["error_kind"], "out of memory?" in killed[0]["error"]) == ("host", True)
    assert killed[0]["ended"] < beside[0]["ended"] <= killed[1]["started"], "alone"


def test_a_reference_that_the_kernel_killed_is_tried_again_with_all_the_memory(
    make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    bench = own_store(make_bench, tmp_path, FARM_MEMORY_LIMIT="8G")
    bench.worker("export,reference", "cpu")
    kill_for_memory(bench, bench.campaign(made.job()), "reference")


def test_an_export_that_the_kernel_killed_is_tried_again_with_all_the_memory(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = own_store(make_bench, tmp_path, FARM_MEMORY_LIMIT="8G")
    bench.worker("export", "cpu")
    small = Job("prajjwal1/bert-tiny", "fill-mask", "balanced", CONFIG, weights="random", seconds=1)
    kill_for_memory(bench, bench.campaign(small), "export")


def kill_for_memory(bench: Bench, campaign: str, kind: StageKind) -> None:
    """Kill the stage's child as the kernel does: the next attempt has all the memory, and is the last."""
    bench.child(f"farm.stages.{kind}_child").kill()
    bench.until(lambda: bench.stage(campaign, kind)["state"] == "done", 60, kind)
    killed, again = bench.history(campaign, stage=kind)
    assert (killed["error_kind"], "signal 9" in killed["error"]) == ("host", True)
    assert again["outcome"] == "done"
    room = bench.records.client.hget(keys.stage(bench.stage(campaign, kind)["id"]), "room")
    assert room is not None
    assert room.split()[0] == str(8 * 1024), "MiB: the budget of its node"
    assert building(bench) == []


@pytest.mark.parametrize("who", ["worker", "worker, keeper and compiler"])
def test_what_a_killed_builder_left_is_swept_by_the_next(
    make_bench: MakeBench, made: Made, tmp_path: Path, who: str
) -> None:
    bench = own_store(make_bench, tmp_path)
    bench.scenario({"tool": "compiler", "fault": "slow", "seconds": 90})
    bench.worker("export,compile", "cpu")
    campaign = bench.campaign(made.job())
    log = bench.home / "logs" / "stages" / f"{bench.stage(campaign, 'compile')['id']}-1.log"
    bench.files(lambda: log.exists() and "Compile started" in log.read_text(), 20, "compiler at work")
    bench.scenario()
    compilers = bench.processes("-aic-binary-dir")
    [folder] = [name for name in building(bench) if not name.endswith(".lock")]
    keeper, pool = bench.keeper(), bench.pool_process()
    doomed = [pool] if who == "worker" else [*compilers, keeper, pool]
    for process in doomed:
        process.suspend()
    for process in doomed:
        process.kill()
    bench.until(lambda: bench.stage(campaign, "compile")["state"] == "done", 30, "program")
    # Of a keeper that died too, the next process on the node tells, or the lease.
    first, last = bench.ends(campaign, stage="compile")
    assert first == "worker lost" or (who != "worker" and first == "lease lapsed")
    assert last == "done"
    assert all(ended(process) for process in compilers)
    assert building(bench) == []
    assert f"removed {folder}, left by a builder that died" in (bench.folder / "cpu.log").read_text()


def test_in_a_store_too_small_for_two_models_one_waits_and_takes_the_room_of_the_other(
    make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    bench = own_store(make_bench, tmp_path, FARM_STORE_LIMIT="100M")
    bench.worker(CPU_QUEUES, "cpu")
    other = dataclasses.replace(made.job(), model=str(save(encoder(width=64), tmp_path / "other.onnx")))
    campaign = bench.campaign(made.job(), other)
    bench.until(lambda: bench.runs(campaign)["ready"], 20, "program")
    bench.until(lambda: bench.stage(campaign, "reference")["state"] == "done", 20, "reference")
    bench.until(lambda: bench.records.status(campaign)["waits"], 10, "wait for disk")
    assert bench.stage(campaign, "export", 1)["state"] == "ready"
    [wait] = bench.records.status(campaign)["waits"]
    assert (wait["stage"], wait["for"], wait["stages"]) == ("export", "disk", 1)
    assert "1 export wait for disk" in bench.farm("status", campaign).stdout
    bench.worker("device.0", "card")
    bench.until(lambda: bench.records.status(campaign)["state"] == "done", 40, "both results")
    assert [len(bench.history(campaign, nth, "export")) for nth in range(2)] == [1, 1]
    first, second = bench.records.results(campaign)
    kept = {path.name for path in (Path(bench.env["FARM_STORE"]) / "objects").iterdir()}
    assert not kept & {first["onnx_key"], first["qpc_key"]}
    assert {second["onnx_key"], second["qpc_key"]} < kept
    assert bench.history(campaign, 1, "export")[0]["started"] > bench.history(campaign)[0]["ended"]
