"""Jobs are cancelled while a stage of them is at work, or as it ends."""

from __future__ import annotations

import time
from typing import Any

from farm.domain.job import Job
from farm.domain.plan import plan
from tests.faults.bench import BUSY_S, CONFIG, Bench, ended
from tests.faults.test_deaths import cpu_stage, unstick
from tests.records.scene import check_counters


def test_a_cancelled_compile_ends_and_who_shares_its_artifact_makes_it(bench: Bench) -> None:
    campaign, children = cpu_stage(bench, "compile")
    other = bench.records.submit(plan([bench.made.job()]), label=None, priority=0, command=["test"])
    unstick(bench)
    began = time.monotonic()
    assert bench.records.cancel([campaign]) == 1
    bench.files(lambda: all(ended(child) for child in children), 20, "end of the child")
    print(f"compile: cancelled -> child ended: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 7 + BUSY_S
    bench.do_cpu_stages(("export",))
    bench.until(lambda: bench.records.status(other)["stages"]["compile"]["done"], 30, "the other's artifact")
    assert [a["outcome"] for a in bench.history(campaign, stage="compile")] == ["cancelled"]
    assert bench.records.status(campaign)["state"] == "cancelled"
    check_counters(bench.records, [campaign, other])


def test_a_cancelled_export_ends_its_exporter_and_its_worker_goes_on(bench: Bench) -> None:
    bench.env["FARM_STORE"] = str(bench.folder / "store")
    bench.coordinator()
    bench.worker("export", "cpu")

    def submit(model: str) -> str:
        job = Job(model, "fill-mask", "balanced", CONFIG, weights="random", seconds=1)
        return bench.records.submit(plan([job]), label=None, priority=0, command=["test"])

    campaign = submit("prajjwal1/bert-tiny")
    exporter = bench.child("farm.stages.export_child")
    exporter.suspend()
    began = time.monotonic()
    assert bench.records.cancel([campaign]) == 1
    bench.files(lambda: ended(exporter), 20, "end of the exporter")
    print(f"export: cancelled -> exporter ended: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 7 + BUSY_S
    after = submit("prajjwal1/bert-mini")
    bench.until(lambda: bench.records.status(after)["stages"]["export"]["done"], 60, "the next export")
    assert bench.records.status(campaign)["state"] == "cancelled"


def test_cancel_and_finish_race_and_the_first_wins(bench: Bench) -> None:
    """Cancelled around the end of its run, each job has one outcome, and the counters agree with it."""
    bench.coordinator()
    bench.worker()
    bench.good()
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(4)))
    jobs = [job["job"] for job in bench.records.jobs(campaign)]

    def run_of(job: str) -> dict[str, Any]:
        found: dict[str, Any] = bench.records.job(job)["stages"]["run"]
        return found

    def state(job: str) -> str:
        return str(run_of(job)["state"])

    def wait_for_runner(job: str) -> None:
        """Until the job's runner has come and gone."""
        runner = ("qaic-runner", str(bench.home / "work" / run_of(job)["id"]))
        bench.files(lambda: bench.processes(*runner) or state(job) != "claimed", 20, "runner")
        bench.files(lambda: not bench.processes(*runner), 20, "end of the runner")

    left = list(jobs)
    for delay in (0.0, 0.05, 0.1, 0.2):
        bench.until(lambda: set(map(state, left)) != {"ready"}, 20, "run")
        running = next(job for job in left if state(job) != "ready")
        left.remove(running)
        wait_for_runner(running)
        time.sleep(delay)
        bench.records.cancel([running])
    bench.until(
        lambda: all(bench.records.job(j)["state"] == "cancelled" for j in jobs), 20, "four cancelled jobs"
    )
    bench.until(lambda: bench.records.fleet.workers()[0]["state"] == "idle", 10, "the worker to be free")
    outcomes = []
    for nth, job in enumerate(jobs):
        [attempt] = bench.history(campaign, nth)
        assert bench.records.job(job)["stages"]["run"]["state"] == attempt["outcome"]
        outcomes.append(attempt["outcome"])
    print(f"cancel against finish: {outcomes}")
    assert set(outcomes) <= {"done", "cancelled"}
    bench.files(lambda: not list((bench.home / "outbox").glob("*.json")), 10, "empty outbox")
    check_counters(bench.records, [campaign])
