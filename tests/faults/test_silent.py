"""A worker that lives but does nothing (SIGSTOP): it is ended, its attempt handed back, its card free."""

from __future__ import annotations

import time

import psutil
import pytest

from farm.local.supervisor import Role
from farm.sdk.lock import held_cards, lock_folder
from tests.faults.bench import BUSY_S, Bench, ended
from tests.faults.conftest import MakeBench
from tests.faults.test_deaths import started_run
from tests.redis_server import RedisProcess


def supervised(bench: Bench) -> Role:
    """A card's worker as `farm up` starts it; `role.look` starts it again. Once its card is good."""
    log = bench.folder / "worker.log"
    role = Role("worker", bench.worker_argv("device.0", "worker"), bench.env, log, 30)
    role.start()
    assert role.process is not None
    bench.started.append(role.process)
    bench.good()
    return role


def again(bench: Bench, role: Role) -> bool:
    """The supervisor looks after its worker; whether it has started it again."""
    role.look(time.monotonic())
    if role.restarts and role.process is not None:
        bench.started.append(role.process)
    return bool(role.restarts)


def said(bench: Bench) -> str:
    return (bench.home / "logs" / "keepers.log").read_text()


@pytest.mark.parametrize("who", ["Celery", "pool process"])
def test_a_free_worker_that_answers_no_bell_is_ended_and_its_supervisor_starts_another(
    make_bench: MakeBench, who: str
) -> None:
    bench = make_bench(FARM_SILENT_S="5")
    bench.coordinator()
    role = supervised(bench)
    pool = bench.pool_process()
    celery = pool.parent()
    assert celery is not None
    (celery if who == "Celery" else pool).suspend()
    campaign = bench.submit(bench.made.job())
    began = time.monotonic()
    bench.until(lambda: ended(celery) and ended(pool), 20, "end of the silent worker")
    print(f"bell unanswered -> worker ended: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 5 + 2 + 2 * BUSY_S, "the limit, a beat, and a busy machine"
    bench.until(lambda: again(bench, role), 10, "restart")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result")
    assert [a["outcome"] for a in bench.history(campaign)] == ["done"], "0 lost, 0 extra runs"
    assert f"was free, but left bells unanswered for 5 s: killed {celery.pid} and {pool.pid};" in said(bench)


def test_a_worker_stopped_in_a_run_loses_it_and_the_card_is_free(make_bench: MakeBench) -> None:
    bench = make_bench(FARM_STALL_S="2", FARM_RUN_LIMIT_S="5")
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.scenario({"tool": "qaic-runner", "fault": "hang", "times": 1})
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    pool = bench.pool_process()
    pool.suspend()
    began = time.monotonic()
    bench.until(lambda: bench.history(campaign)[0].get("outcome"), 20, "hand-over")
    took = time.monotonic() - began
    print(f"worker stopped in a run that hangs -> handed back: {took:.1f} s (limits 5 s and 2 s)")
    assert took < 5 + 2 + 2 * BUSY_S, "the run's limit, the stall, and a busy machine"
    first = bench.history(campaign)[0]
    assert first["outcome"] == "worker lost"
    assert first["error"] == "the worker was at an attempt, but did nothing for 2 s"
    assert ended(runner)
    assert ended(pool)
    assert held_cards(lock_folder(bench.made.root)) == []
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result, by the pool process that Celery started")
    assert [a["outcome"] for a in bench.history(campaign)] == ["worker lost", "done"]


def test_a_stopped_keeper_is_ended_and_its_run_is_done_by_the_next(bench: Bench) -> None:
    campaign, runner = started_run(bench, times=1)
    keeper = bench.keeper()
    keeper.suspend()
    bench.until(lambda: bench.runs(campaign)["done"], 40, "result")
    assert ended(keeper)
    assert ended(runner)
    first, *between, last = bench.history(campaign)
    told = f"{bench.history(campaign)}\n{bench.tails()}"
    assert first["outcome"] in ("lease lapsed", "worker lost"), told
    assert all(attempt["error_kind"] == "busy" for attempt in between), told
    assert last["outcome"] == "done", told


def test_a_stopped_worker_that_is_told_to_end_is_ended_when_its_grace_is_over(make_bench: MakeBench) -> None:
    bench = make_bench(FARM_GRACE_S="0.5")
    bench.coordinator()
    worker = bench.worker()
    bench.good()
    keeper, pool = bench.keeper(), bench.pool_process()
    pool.suspend()
    worker.terminate()
    began = time.monotonic()
    bench.files(lambda: ended(pool) and ended(keeper), 20, "end of the stopped worker")
    assert time.monotonic() - began < 0.5 + 10 + BUSY_S, "grace, the time to leave, and a busy machine"
    assert worker.wait(10) is not None
    assert bench.records.fleet.workers() == []


def test_while_the_broker_is_away_no_worker_is_blamed(make_bench: MakeBench) -> None:
    broker = RedisProcess()
    broker.start()
    try:
        bench = make_bench(FARM_SILENT_S="5", FARM_BROKER_URL=broker.url)
        bench.coordinator()
        bench.worker()
        bench.good()
        pool = bench.pool_process()
        broker.kill()
        campaign = bench.submit(bench.made.job())
        away = time.monotonic()
        bench.files(lambda: time.monotonic() - away > 9, 12, "absence longer than the limit and a beat")
        broker.start()
        bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
        assert psutil.pid_exists(pool.pid)
        assert bench.pool_process() == pool
        assert [a["outcome"] for a in bench.history(campaign)] == ["done"]
    finally:
        broker.stop()
