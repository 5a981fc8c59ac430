"""Processes of a farm are killed while a run is on: nothing is lost, done twice, or held by nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from farm.artifacts import Store
from farm.domain.job import StageKind
from farm.domain.plan import plan
from tests.faults.bench import BUSY_S, CPU, Bench, Made, ended
from tests.faults.conftest import MakeBench

#: Longer than any test takes: a run of this length ends only by being ended.
LONG_S = 90


def celery_of(bench: Bench) -> psutil.Process:
    """The main process of the worker, which would start another pool process."""
    parent = bench.pool_process().parent()
    assert parent is not None
    return parent


def started_run(bench: Bench, **which: int | list[int]) -> tuple[str, psutil.Process]:
    """A campaign of one job whose runner is at work, and will be; `which` of its runs, if not all."""
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(LONG_S, **which)
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    if which:
        bench.files(bench.acted, 20, "slow run")
    return campaign, runner


def test_a_killed_worker_hands_its_run_back_at_once(bench: Bench) -> None:
    campaign, runner = started_run(bench)
    before = bench.pool_process().pid
    psutil.Process(before).kill()
    took = bench.until(lambda: bench.history(campaign)[0].get("outcome"), 10, "hand-over")
    assert bench.history(campaign)[0]["outcome"] == "worker lost"
    print(f"run: worker killed -> claimable again: {took:.2f} s")
    assert took < 2 + BUSY_S
    assert ended(runner)
    bench.runner(but=runner.pid)
    assert len(bench.history(campaign)) == 2
    assert bench.pool_process().pid != before


@pytest.mark.parametrize("who", ["keeper", "keeper and worker", "host"])
def test_without_its_keeper_a_run_is_claimed_again_after_its_lease(bench: Bench, who: str) -> None:
    campaign, runner = started_run(bench)
    keeper, pool, celery = bench.keeper(), bench.pool_process(), celery_of(bench)
    began = time.monotonic()
    doomed = {
        "keeper": [keeper],
        "keeper and worker": [keeper, pool],
        "host": [celery, runner, keeper, pool],
    }[who]
    for process in doomed:
        process.suspend()
    for process in doomed:
        process.kill()
    bench.until(lambda: bench.history(campaign)[0].get("outcome"), 10, "lapse")
    print(f"run: {who} killed -> claimable again: {time.monotonic() - began:.2f} s (lease 3 s)")
    assert time.monotonic() - began < 3 + 2 + BUSY_S
    if who == "host":
        assert bench.history(campaign)[0]["outcome"] == "lease lapsed"
        bench.worker(name="next")
    # Else Celery starts another pool process on the node, which may see it before the lease lapses.
    bench.runner(but=runner.pid)
    assert time.monotonic() - began < 3 + 2 + 3 * BUSY_S, "lease, detection, and the way to the card"
    assert ended(runner), "an orphan is ended: two runs never share the card"
    bench.until(lambda: len(bench.history(campaign)) == 2, 5, "second attempt")


def test_a_worker_that_died_with_its_keeper_is_handed_back_by_the_next_on_its_node(
    make_bench: MakeBench,
) -> None:
    """Long before the lease lapses: the next pool process sees that the keeper is gone."""
    bench = make_bench(FARM_LEASE_S="120")
    campaign, runner = started_run(bench)
    doomed = [runner, bench.keeper(), bench.pool_process()]
    for process in doomed:
        process.suspend()
    for process in doomed:
        process.kill()
    took = bench.until(lambda: bench.history(campaign)[0].get("outcome"), 20, "hand-over")
    print(f"run: worker, keeper and child killed -> claimable again: {took:.2f} s (lease 120 s)")
    assert bench.history(campaign)[0]["outcome"] == "worker lost"
    bench.runner(but=runner.pid)
    assert len(bench.history(campaign)) == 2


def test_a_killed_idle_keeper_is_replaced_and_its_worker_takes_work_again(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    before = bench.keeper()
    before.kill()
    bench.until(lambda: any(p.pid != before.pid for p in bench.processes("farm.worker.keeper")), 10, "keeper")
    campaign = bench.submit(bench.made.job())
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")


def test_a_job_that_kills_its_worker_each_time_fails_after_three_attempts(bench: Bench) -> None:
    campaign, runner = started_run(bench, nth=[1, 2, 4])  # the third is a golden run
    for attempt in range(3):
        bench.files(lambda n=attempt: bench.acted() > n, 20, "slow run")  # type: ignore[misc]
        bench.pool_process().kill()
        bench.until(lambda n=attempt: bench.history(campaign)[n].get("outcome"), 10, "hand-over")  # type: ignore[misc]
        if attempt < 2:
            runner = bench.runner(but=runner.pid)
    [job] = bench.records.jobs(campaign)
    assert (job["state"], job["error_kind"], job["attempts"]) == ("failed", "host", 3)
    last = bench.history(campaign)[-1]
    assert (last["outcome"], Path(last["log"]).is_file()) == ("worker lost", True)
    assert bench.farm("logs", job["job"]).stdout.startswith("Number of Files"), "its last log"
    bench.good()  # it was asked, and is not to blame


def test_a_card_that_kills_its_workers_is_found_out_and_the_job_done_on_another(bench: Bench) -> None:
    campaign, runner = started_run(bench)
    bench.pool_process().kill()
    again = bench.runner(but=runner.pid)
    bench.scenario({"tool": "card", "fault": "status", "status": "Error", "qid": 0})
    bench.pool_process().kill()
    bench.until(lambda: bench.card()["health"] in ("suspect", "quarantined"), 20, "suspicion")
    assert ended(again)
    bench.worker("device.1", "other")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    assert bench.ends(campaign) == ["worker lost", "worker lost", "done"]
    assert [a["device"] for a in bench.history(campaign)] == ["device.0", "device.0", "device.1"]
    bench.until(lambda: bench.card()["health"] == "quarantined", 30, "quarantine")
    assert "status Error" in bench.card()["reason"]


def test_the_coordinator_is_killed_and_another_goes_on(bench: Bench) -> None:
    first = bench.coordinator()
    bench.worker()
    bench.good()
    first.kill()
    first.wait(10)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(3)))
    assert bench.runs(campaign)["done"] == 0
    bench.coordinator("second")
    assert bench.until(lambda: bench.runs(campaign)["done"], 20, "first result") < 8 + BUSY_S
    bench.until(lambda: bench.runs(campaign)["done"] == 3, 20, "three results")
    assert [len(bench.history(campaign, nth)) for nth in range(3)] == [1, 1, 1]


def test_two_coordinators_do_no_harm(bench: Bench) -> None:
    bench.coordinator("one")
    bench.coordinator("two")
    bench.worker()
    bench.good()
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(4)))
    bench.until(lambda: bench.runs(campaign)["done"] == 4, 30, "four results")
    assert [len(bench.history(campaign, nth)) for nth in range(4)] == [1] * 4
    assert bench.card()["done"] == 4


def cpu_stage(bench: Bench, kind: StageKind) -> tuple[str, list[psutil.Process]]:
    """A campaign whose stage of this kind is at work, and will be; the stage's child, where it has one."""
    store = bench.folder / "store"
    shutil.copytree(bench.made.store, store)
    if kind != "compare":
        Store(store).remove(bench.made.outcomes[kind]["key"])  # to be made again
    bench.env["FARM_STORE"] = str(store)
    bench.scenario({"tool": "compiler", "fault": "slow", "seconds": LONG_S})
    bench.coordinator()
    campaign = bench.records.submit(plan([bench.made.job()]), label=None, priority=0, command=["test"])
    if kind == "compare":
        bench.do_cpu_stages(CPU)
        bench.worker("device.0", "card")
        bench.until(lambda: bench.runs(campaign)["done"], 20, "run")
        return campaign, stuck_compare(bench, store)
    bench.do_cpu_stages(("export",))
    bench.start("cpu", bench.worker_argv(kind, "cpu"))
    children: list[psutil.Process] = []
    program = {"reference": ["reference_child"], "compile": ["qaic-compile", "model.onnx"]}[kind]

    def there() -> bool:
        children[:] = bench.processes(*program)
        return bool(children)

    bench.files(there, 20, "child")
    for child in children:
        child.suspend()  # a reference of this size takes no time; nothing stopped hears TERM
    return campaign, children


def stuck_compare(bench: Bench, store: Path) -> list[psutil.Process]:
    """The compare stage waits for a manifest that nobody writes."""
    manifest = Store(store).path(bench.made.outcomes["export"]["key"]) / "manifest.json"
    manifest.parent.chmod(0o700)
    manifest.rename(manifest.with_name("aside.json"))
    os.mkfifo(manifest)
    for process in [p for p in bench.started if "card" in str(p.args)]:
        process.terminate()
        process.wait(20)
    bench.start("cpu", bench.worker_argv("compare", "cpu"))

    def read() -> bool:
        try:
            writer = os.open(manifest, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False  # nobody reads yet
        bench.at_end.callback(os.close, writer)
        return True

    bench.files(read, 20, "reader of the manifest")
    return []


def unstick(bench: Bench) -> None:
    bench.scenario()
    for aside in (bench.folder / "store").rglob("aside.json"):
        aside.rename(aside.with_name("manifest.json"))


@pytest.mark.parametrize("kind", ["reference", "compile", "compare"])
def test_a_killed_worker_hands_its_cpu_stage_back_at_once(bench: Bench, kind: StageKind) -> None:
    campaign, children = cpu_stage(bench, kind)
    unstick(bench)
    began = time.monotonic()
    bench.pool_process().kill()
    bench.until(lambda: bench.history(campaign, stage=kind)[0].get("outcome"), 10, "hand-over")
    took = time.monotonic() - began
    print(f"{kind}: worker killed -> claimable again: {took:.2f} s")
    assert took < 2 + BUSY_S
    assert all(ended(child) for child in children)
    bench.until(lambda: bench.records.status(campaign)["stages"][kind]["done"], 30, "second attempt's end")
    assert [a["outcome"] for a in bench.history(campaign, stage=kind)] == ["worker lost", "done"]


def test_a_compile_whose_host_is_lost_is_made_again_after_its_lease(bench: Bench) -> None:
    campaign, children = cpu_stage(bench, "compile")
    unstick(bench)
    doomed = [celery_of(bench), *children, bench.keeper(), bench.pool_process()]
    for process in doomed:
        process.suspend()
    began = time.monotonic()
    for process in doomed:
        process.kill()
    bench.until(lambda: bench.history(campaign, stage="compile")[0].get("outcome"), 10, "lapse")
    took = time.monotonic() - began
    print(f"compile: worker, keeper and child killed -> claimable again: {took:.2f} s (lease 3 s)")
    assert took < 3 + 2 + BUSY_S
    bench.worker(",".join(CPU), name="next")
    bench.until(
        lambda: bench.records.status(campaign)["stages"]["compile"]["done"], 30, "second attempt's end"
    )
    assert [a["outcome"] for a in bench.history(campaign, stage="compile")] == ["lease lapsed", "done"]


#: A worker of exports whose own look-out for its keeper has not had its turn yet; it answers two bells.
UNWATCHED = """
import os
from farm.bells import Bells, broker_url, make_app
from farm.worker.client import KeeperGone
from farm.worker.process import WorkerProcess

class Unwatched(WorkerProcess):
    def _watch_keeper(self):
        pass

worker = Unwatched(["export"], Bells(make_app(broker_url())), None, os.getpid())
worker.start()
worker._ready.wait()
print(worker.guard.pid, flush=True)
input()
for _ in range(2):
    try:
        worker.answer("export")
    except KeeperGone:
        print("goes on", flush=True)
"""


def test_a_worker_that_finds_its_keeper_gone_ends_before_the_next_bell(bench: Bench, made: Made) -> None:
    bench.campaign(made.job())
    worker = subprocess.Popen(
        [sys.executable, "-c", UNWATCHED],
        env=bench.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    bench.at_end.callback(worker.kill)
    assert worker.stdin is not None
    assert worker.stdout is not None
    keeper = psutil.Process(int(worker.stdout.readline()))
    keeper.kill()
    bench.files(lambda: ended(keeper), 10, "end of the keeper")
    said, _ = worker.communicate("\n", timeout=30)
    assert (worker.returncode, said) == (1, "")
