"""What people do to a farm at work: restart workers one by one, drain a card, ask for failed jobs again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from farm.domain.plan import plan
from tests.faults.bench import CONFIG, Bench


def test_workers_restarted_one_after_the_other_lose_nothing(bench: Bench) -> None:
    bench.coordinator()
    workers = {n: bench.worker(f"device.{n}", f"first-{n}") for n in range(2)}
    for n in workers:
        bench.good(n)
    bench.slow_runs(1)
    jobs = [bench.made.job(repeat=n, devices=(str(n % 2),)) for n in range(6)]
    campaigns = []
    for n, worker in workers.items():
        campaigns.append(bench.submit(*jobs[n::2]))
        bench.until(lambda n=n: bench.card(n)["state"] == "running", 20, f"run on card {n}")  # type: ignore[misc]
        worker.terminate()
        assert worker.wait(30) == 0
        bench.worker(f"device.{n}", f"second-{n}")
    bench.until(lambda: sum(bench.runs(each)["done"] for each in campaigns) == 6, 60, "all results")
    attempts = [attempt for each in campaigns for nth in range(3) for attempt in bench.history(each, nth)]
    print(f"rolling restart: 0 lost, {len(attempts) - 6} extra runs")
    assert [a["outcome"] for a in attempts] == ["done"] * 6
    assert len({a["worker"] for a in attempts}) == 4, "those that were started later worked too"


def test_a_drained_card_ends_its_run_and_takes_no_other_until_it_is_resumed(bench: Bench) -> None:
    bench.coordinator()
    for n in range(2):
        bench.worker(f"device.{n}", f"card-{n}")
        bench.good(n)
    bench.slow_runs(4, qid=0)
    campaign = bench.submit(*(bench.made.job(repeat=n) for n in range(4)))
    bench.until(lambda: bench.card(0)["state"] == "running", 20, "run on card 0")
    bench.records.drain("0")
    bench.until(lambda: bench.runs(campaign)["done"] == 4, 40, "all results")
    devices = [[a["device"] for a in bench.history(campaign, nth)] for nth in range(4)]
    assert sorted(devices) == [["device.0"], *[["device.1"]] * 3], "what ran there ended there"
    assert bench.card(0)["state"] == "drained"
    bench.records.resume("0")
    bench.records.drain("1")
    again = bench.submit(bench.made.job(repeat=4))
    bench.until(lambda: bench.runs(again)["done"], 20, "result of the resumed card")
    assert [a["device"] for a in bench.history(again)] == ["device.0"]


def test_failed_jobs_are_asked_for_again_and_only_they(bench: Bench) -> None:
    bench.coordinator()
    bench.worker("device.0", "card")
    bench.good()
    bench.scenario({"tool": "compiler", "fault": "unsupported-operator", "operator": "Nope"})
    made, broken = bench.made.job(), bench.made.job(config=replace(CONFIG, mos=2))
    campaign = bench.records.submit(plan([made, broken]), label=None, priority=0, command=["test"])
    bench.do_cpu_stages(("export",))
    bench.worker("compile", "cpu")
    finish(bench, campaign, compiled=1)
    assert jobs(bench, campaign) == [("done", 1, 0), ("failed", 0, 0)]
    bench.scenario()
    done = subprocess.run(
        [sys.executable, "-m", "farm", "retry", campaign, "--failed"],
        env=bench.env, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"1 jobs of {campaign} are open again\n"
    bench.do_cpu_stages(("export",))
    finish(bench, campaign, compiled=2)
    assert jobs(bench, campaign) == [("done", 1, 0), ("done", 1, 1)]


def finish(bench: Bench, campaign: str, compiled: int) -> None:
    """Until as many jobs are compiled and run, the rest of them settled."""

    def counts(kind: str) -> dict[str, int]:
        found: dict[str, int] = bench.records.status(campaign)["stages"][kind]
        return found

    bench.until(
        lambda: counts("compile")["done"] == compiled and not counts("compile")["ready"], 20, "compiles"
    )
    bench.until(lambda: not counts("compile")["running"], 20, "end of all compiles")
    bench.do_cpu_stages(("reference",))
    bench.until(lambda: counts("run")["done"] == compiled, 20, "runs")
    bench.do_cpu_stages(("compare",))


def jobs(bench: Bench, campaign: str) -> list[tuple[str, int, int]]:
    """Of each job its state, the attempts at its run, and how many results were archived."""
    found = [bench.records.job(job["job"]) for job in bench.records.jobs(campaign)]
    return [(job["state"], job["attempts"], job["archived"]) for job in found]
