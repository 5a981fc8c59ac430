"""A disk that is full, or may only be read: one clear error, nothing half-written, and on with it later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from farm.artifacts import Store
from farm.domain.job import StageKind
from tests.faults.bench import CPU, Bench, Made
from tests.faults.conftest import MakeBench
from tests.faults.test_cards import probe_soon
from tests.small_disk import SmallDisk, small_disk

MB = 2**20
ENOUGH = 64 * MB
FULL = "No space left on device"

MakeDisk = Callable[[Path, int], SmallDisk]


@pytest.fixture
def make_disk() -> Iterator[MakeDisk]:
    """Mounts small disks: make_disk(path, bytes). They outlast the bench: name this fixture first."""
    with ExitStack() as disks:
        yield lambda path, size: disks.enter_context(small_disk(path, size))


def failed(bench: Bench, campaign: str, kind: StageKind) -> dict[str, Any]:
    """The stage's first attempt, once it has failed."""
    bench.until(lambda: bench.history(campaign, stage=kind)[:1], 20, f"attempt at {kind}")
    bench.until(lambda: bench.history(campaign, stage=kind)[0].get("outcome"), 20, f"end of {kind}")
    first = bench.history(campaign, stage=kind)[0]
    assert first["outcome"] == "failed", first
    return first


def test_a_full_store_fails_each_of_its_stages_once_and_they_go_on_with_room(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "store", MB)
    bench = make_bench(FARM_STORE=str(disk.path), FARM_STORE_LIMIT="100G")
    bench.coordinator()
    bench.worker("export,compile,reference,compare", "cpu")
    campaign = bench.campaign(made.job())

    def check(kind: StageKind) -> None:
        first = failed(bench, campaign, kind)
        assert (first["error_kind"], FULL in first["error"]) == ("host", True), first
        assert "\n" not in first["error"]
        assert Path(first["log"]).is_file()
        bench.files(lambda: not list((disk.path / "building").glob(f"{kind}-*")), 10, "nothing half-written")

    check("export")
    # Room for the export, and for little beside it.
    disk.resize(Store(made.store).size(made.outcomes["export"]["key"]) + 24 * 1024)
    bench.until(lambda: bench.stage(campaign, "export")["state"] == "done", 20, "export")
    check("compile")
    check("reference")
    disk.resize(ENOUGH)
    bench.worker("device.0", "card")
    bench.until(lambda: bench.records.jobs(campaign)[0]["state"] == "done", 30, "result")
    for kind in ("export", "compile", "reference"):
        assert bench.ends(campaign, stage=kind) == ["failed", "done"]
    [result] = bench.records.results(campaign)
    assert (result["accuracy"], result["attempts"]) == ("pass", 1)


def test_a_full_work_folder_fails_one_run_and_takes_its_cards_out_until_there_is_room(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made
) -> None:
    bench = make_bench()
    disk = make_disk(bench.home / "work", 40 * 1024)
    bench.coordinator()
    bench.worker()
    bench.good()
    campaign = bench.submit(*(made.job(repeat=n) for n in range(3)))

    def ends() -> list[str]:
        return [end for nth in range(3) for end in bench.ends(campaign, nth)]

    bench.until(ends, 20, "failure")
    bench.until(lambda: bench.card()["health"] == "quarantined", 10, "quarantine")
    assert bench.card()["reason"] == f"{disk.path} is full: free some space"
    # Longer than the pause after a first failure of a host.
    since = bench.clock()
    bench.until(lambda: bench.clock() > since + 2500, 10, "time on the farm clock")
    assert ends() == ["failed"], "it fails no other job"
    [first] = [a for nth in range(3) for a in bench.history(campaign, nth)]
    assert (first["error_kind"], first["error"].endswith("is full: free some space)")) == ("host", True)
    disk.resize(ENOUGH)
    probe_soon(bench, 0)
    bench.until(lambda: bench.runs(campaign)["done"] == 3, 30, "results")
    assert sorted(ends()) == ["done", "done", "done", "failed"]
    assert bench.card()["health"] == "good"


def test_a_work_folder_that_may_only_be_read_fails_the_job_and_a_retry_does_it(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made
) -> None:
    bench = make_bench()
    disk = make_disk(bench.home / "work", ENOUGH)
    disk.writable(False)
    bench.coordinator()
    bench.worker()
    bench.good()
    campaign = bench.submit(made.job())
    for attempt in range(3):
        bench.until(lambda n=attempt: len(bench.history(campaign)) > n, 10, "attempt")  # type: ignore[misc]
        bench.until(lambda n=attempt: bench.history(campaign)[n].get("outcome"), 10, "its end")  # type: ignore[misc]
        bench.end_pauses()
    [job] = bench.records.jobs(campaign)
    assert (job["state"], job["error_kind"], job["attempts"]) == ("failed", "host", 3)
    assert "Read-only file system" in job["error"]
    assert bench.card()["health"] == "good"
    disk.writable(True)
    assert bench.records.retry([campaign], failed_only=True) == 1
    bench.do_cpu_stages(CPU)
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")


@pytest.mark.parametrize("full", [True, False], ids=["full", "read-only"])
def test_an_outbox_that_takes_nothing_costs_no_result(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made, full: bool
) -> None:
    bench = make_bench()
    disk = make_disk(bench.home / "outbox", 4096)
    (disk.path / "ballast").write_bytes(bytes(4096))
    disk.writable(full)
    bench.coordinator()
    bench.worker()
    bench.good()
    campaign = bench.submit(made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    assert bench.ends(campaign) == ["done"]
    assert [path.name for path in disk.path.iterdir()] == ["ballast"], "nothing half-written"
    assert "Traceback" not in (bench.folder / "worker.log").read_text()


def test_a_golden_run_that_cannot_be_written_leaves_its_card_out_until_it_can(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made
) -> None:
    bench = make_bench()
    disk = make_disk(bench.home / "golden", ENOUGH)
    disk.writable(False)
    bench.coordinator()
    bench.worker()
    bench.until(lambda: bench.card()["health"] == "quarantined", 20, "quarantine")
    assert "Read-only file system" in bench.card()["reason"]
    disk.writable(True)
    probe_soon(bench, 0)
    bench.good()


def test_a_view_that_cannot_be_made_costs_nothing_else(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made
) -> None:
    bench = make_bench()
    make_disk(bench.home / "models", ENOUGH).writable(False)
    bench.coordinator()
    bench.worker()
    bench.good()
    campaign = bench.submit(made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    log = bench.folder / "worker.log"
    bench.files(lambda: "no view of" in log.read_text(), 20, "word of the view")
    assert "Traceback" not in log.read_text()


def test_logs_that_cannot_be_written_fail_the_attempt_at_once(
    make_disk: MakeDisk, make_bench: MakeBench, made: Made
) -> None:
    bench = make_bench(FARM_STORE_LIMIT="100G")
    logs = make_disk(bench.home / "logs" / "stages", ENOUGH)
    logs.writable(False)
    bench.coordinator()
    bench.worker("export", "cpu")
    campaign = bench.campaign(made.job())
    first = failed(bench, campaign, "export")
    assert (first["error_kind"], "Read-only file system" in first["error"]) == ("host", True)
    logs.writable(True)
    bench.until(lambda: bench.stage(campaign, "export")["state"] == "done", 20, "export")


def test_a_store_that_takes_no_more_files_keeps_nothing_of_a_build(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "store", ENOUGH)
    store = Store(disk.path)
    disk.files(5)  # the disk's folder, objects, building, the store's lock, a build's lock: no folder for it
    with pytest.raises(OSError, match=FULL):
        store.begin("export-a", "token")
    assert not list((disk.path / "building").iterdir())
    disk.files(100)
    store.publish("export-a", store.begin("export-a", "token"), {})
    assert store.open("export-a") is not None
