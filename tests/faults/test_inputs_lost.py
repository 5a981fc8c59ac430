"""Artifacts spoilt between the stage that makes them and the stage that reads them: found out, made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from farm.artifacts import Store
from farm.domain.job import StageKind
from farm.records.claims import MOST_REPAIRS
from tests.faults.bench import Bench, Made
from tests.faults.conftest import MakeBench


@pytest.fixture
def bench(make_bench: MakeBench, tmp_path: Path) -> Bench:
    """A coordinator and one CPU worker over a store of their own; a card's worker comes later."""
    found = make_bench(FARM_STORE=str(tmp_path / "store"), FARM_STORE_LIMIT="100G")
    found.coordinator()
    found.worker("export,compile,reference,compare", "cpu")
    return found


def done(bench: Bench, campaign: str, *kinds: StageKind) -> None:
    for kind in kinds:
        bench.until(lambda k=kind: bench.stage(campaign, k)["state"] == "done", 20, kind)  # type: ignore[misc]


def artifact(bench: Bench, kind: StageKind) -> Path:
    """The folder of the only artifact of a kind."""
    [found] = (Path(bench.env["FARM_STORE"]) / "objects").glob(f"{kind}-*")
    return found


def flip(file: Path) -> None:
    """One bit of the file's middle is another."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 1]))


def cut(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)


def finished(bench: Bench, campaign: str) -> dict[str, Any]:
    bench.until(lambda: bench.records.jobs(campaign)[0]["state"] == "done", 30, "result")
    [result] = bench.records.results(campaign)
    assert (result["accuracy"], result["state"]) == ("pass", "done")
    store = Store(Path(bench.env["FARM_STORE"]))
    for folder in (store.root / "objects").iterdir():
        assert store.open(folder.name) is not None
    return result


@pytest.mark.parametrize("spoil", [flip, cut])
def test_an_export_and_its_program_spoilt_before_the_run_are_made_again(
    bench: Bench, made: Made, spoil: Any
) -> None:
    campaign = bench.campaign(made.job())
    done(bench, campaign, "export", "compile", "reference")
    spoil(artifact(bench, "export") / "model.onnx")
    spoil(artifact(bench, "compile") / "qpc" / "programqpc.bin")
    bench.worker("device.0", "card")
    result = finished(bench, campaign)
    assert bench.ends(campaign, stage="export") == ["done", "done"]
    assert bench.ends(campaign, stage="compile") == ["done", "done"]
    assert bench.ends(campaign, stage="run") == ["input lost", "input lost", "done"]
    assert bench.ends(campaign, stage="reference") == ["done"], "it is whole and stays"
    assert result["attempts"] == 3
    assert bench.card()["done"] == 1, "one run on the card"
    lost = bench.history(campaign)[0]
    assert "model.onnx" in lost["error"]
    assert lost["error_kind"] is None, "nobody is to blame"


def test_two_runs_that_find_the_same_export_spoilt_share_its_repair(bench: Bench, made: Made) -> None:
    for qid, name in enumerate(("zero", "one")):
        bench.worker(f"device.{qid}", name)
        bench.good(qid)
        bench.records.drain(str(qid))
    campaign = bench.campaign(*(made.job(repeat=n) for n in range(2)))
    done(bench, campaign, "export", "compile", "reference")
    flip(artifact(bench, "export") / "model.onnx")
    for qid in range(2):
        bench.records.resume(str(qid))
    bench.until(lambda: bench.records.status(campaign)["jobs"]["done"] == 2, 30, "results")
    assert bench.ends(campaign, stage="export") == ["done", "done"], "made again once"
    ends = [bench.ends(campaign, nth) for nth in range(2)]
    assert {tuple(each) for each in ends} <= {("done",), ("input lost", "done")}
    assert ["input lost", "done"] in ends
    assert sum(bench.card(qid)["done"] for qid in range(2)) == 2, "0 lost, no run on a card in vain"


def test_a_reference_spoilt_before_the_comparison_is_made_again(bench: Bench, made: Made) -> None:
    campaign = bench.campaign(made.job())
    done(bench, campaign, "export", "compile", "reference")
    flip(next(artifact(bench, "reference").glob("*.npy")))
    bench.worker("device.0", "card")
    finished(bench, campaign)
    assert bench.ends(campaign, stage="compare") == ["input lost", "done"]
    assert bench.ends(campaign, stage="reference") == ["done", "done"]
    assert bench.ends(campaign, stage="run") == ["done"], "the card's time is not spent again"


def test_a_program_spoilt_again_and_again_fails_its_job_and_a_retry_makes_it(
    bench: Bench, made: Made
) -> None:
    bench.worker("device.0", "card")
    bench.good()
    bench.records.drain("0")
    campaign = bench.campaign(made.job())
    # Time to drain the card before the program that was made again is there.
    bench.scenario({"tool": "compiler", "fault": "slow", "seconds": 2})
    for lost in range(MOST_REPAIRS + 1):
        bench.until(lambda: bench.runs(campaign)["ready"], 20, "program")
        cut(artifact(bench, "compile") / "qpc" / "programqpc.bin")
        bench.records.resume("0")
        bench.until(lambda n=lost: len(bench.ends(campaign)) > n, 20, "try")  # type: ignore[misc]
        if lost < MOST_REPAIRS:
            bench.records.drain("0")
    for failure in range(3):
        bench.until(lambda n=failure: len(bench.ends(campaign)) > MOST_REPAIRS + n, 10, "end")  # type: ignore[misc]
        bench.end_pauses()
    assert bench.ends(campaign, stage="run") == ["input lost"] * MOST_REPAIRS + ["failed"] * 3
    assert bench.ends(campaign, stage="compile") == ["done"] * (1 + MOST_REPAIRS)
    [job] = bench.records.jobs(campaign)
    assert (job["state"], job["error_kind"]) == ("failed", "host")
    assert "again and again" in job["error"]
    assert bench.card()["health"] == "good"
    bench.records.retry([campaign], failed_only=True)
    finished(bench, campaign)
    assert bench.card()["done"] == 1


def test_a_run_only_job_whose_program_is_lost_after_all_fails_and_says_so(bench: Bench, made: Made) -> None:
    words = ["-m", str(made.model), "-b", "2", "-s", "16", "-c", "2", "-i", "2", "--time", "1"]
    first = bench.farm("submit", *words).stdout.strip()
    done(bench, first, "export", "compile", "reference")
    campaign = bench.farm("submit", "--run-only", *words).stdout.strip()
    assert [bench.stage(campaign, kind)["state"] for kind in ("export", "compile", "run")] == [
        "done", "done", "ready",
    ]  # fmt: skip
    bench.records.cancel([first])
    shutil.rmtree(artifact(bench, "compile"))
    bench.worker("device.0", "card")
    bench.until(lambda: bench.records.jobs(campaign)[0]["state"] == "failed", 30, "the end")
    [job] = bench.records.jobs(campaign)
    assert job["error_kind"] == "input"
    assert job["error"].startswith("compile: --run-only, but artifact compile-")
    assert (bench.ends(campaign, stage="compile"), bench.ends(campaign)) == (["failed"], ["input lost"])
