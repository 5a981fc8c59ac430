"""Redis hangs, a host is cut off from it, bells are lost: nothing runs in vain, late words are refused."""

from __future__ import annotations

import signal
import sys
import time
from collections import defaultdict

from farm.bells import Bells, make_app
from farm.records import connect
from tests.faults.bench import BUSY_S, Bench, ended
from tests.faults.conftest import MakeBench
from tests.redis_server import RedisProcess


def test_while_redis_hangs_no_lease_lapses_and_a_result_waits(bench: Bench) -> None:
    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(3)
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    server = bench.redis.process
    assert server is not None
    server.send_signal(signal.SIGSTOP)
    hung = time.monotonic()
    bench.files(lambda: ended(runner) and time.monotonic() - hung > 8, 20, "a run's end, twice a lease long")
    server.send_signal(signal.SIGCONT)
    took = bench.until(lambda: bench.runs(campaign)["done"], 20, "recorded result")
    print(f"Redis hung for {time.monotonic() - hung - took:.0f} s: recorded {took:.1f} s after, 0 extra runs")
    assert took < 5 + BUSY_S
    assert bench.ends(campaign) == ["done"]


def states(bench: Bench) -> dict[str, str]:
    """What the workers do, by their card."""
    return defaultdict(str, {w["card"]: w["state"] for w in bench.records.fleet.workers()})


def test_a_host_cut_off_from_redis_loses_its_run_and_its_late_result_changes_nothing(bench: Bench) -> None:
    wire = bench.folder / "wire.sock"
    server = bench.redis.data / "redis.sock"
    proxy = bench.start("wire", [sys.executable, "-m", "tests.records.proxy", str(server), str(wire)])
    bench.files(wire.exists, 20, "wire")
    there = bench.redis.url.replace(str(server), str(wire))
    assert there != bench.redis.url
    bench.coordinator()
    bench.worker("device.0", "far", FARM_REDIS_URL=there)
    bench.worker("device.1", "near")
    bench.good(0)
    bench.good(1)
    bench.records.drain("1")
    bench.slow_runs(6, qid=0)
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    proxy.send_signal(signal.SIGSTOP)
    cut = time.monotonic()
    bench.records.resume("1")
    bench.until(lambda: bench.ends(campaign), 20, "lapse")
    print(f"host cut off -> claimable again: {time.monotonic() - cut:.1f} s (lease 3 s)")
    bench.until(lambda: bench.runs(campaign)["done"], 30, "result of the other host")
    bench.do_cpu_stages(("compare",))
    [before] = bench.records.results(campaign)
    bench.files(lambda: ended(runner), 20, "end of the run on the host that is cut off")
    proxy.send_signal(signal.SIGCONT)
    bench.until(lambda: states(bench)["device.0"] == "idle", 30, "the host to be back")
    first, second = bench.history(campaign)
    assert (first["device"], first["outcome"]) == ("device.0", "lease lapsed")
    assert (second["device"], second["outcome"]) == ("device.1", "done")
    # Its keeper may hear first that the stage is another's: then it reports nothing.
    assert first.get("late") in (None, "done")
    assert bench.records.results(campaign) == [before], "what it reports changes nothing"
    bench.files(lambda: not list((bench.home / "outbox").glob("*.json")), 20, "empty outbox")
    bench.scenario()
    after = bench.submit(bench.made.job(repeat=1, devices=("0",)))
    bench.until(lambda: bench.runs(after)["done"], 20, "result of the host that is back")


def test_bells_that_are_lost_or_doubled_make_one_attempt(make_bench: MakeBench) -> None:
    broker = RedisProcess()
    broker.start()
    bench = make_bench(FARM_BROKER_URL=broker.url)
    bench.at_end.callback(broker.stop)
    bells = connect(broker.url)
    bench.at_end.callback(bells.close)
    bench.coordinator()
    bench.worker()
    bench.good()
    celery = bench.pool_process().parent()
    assert celery is not None
    celery.suspend()
    # Redis hands the next bell to a worker that waits for one already.
    bench.files(lambda: not any("b" in c["flags"] for c in bells.client_list()), 20, "end of its last wait")
    campaign = bench.submit(bench.made.job())
    bench.files(lambda: bells.llen("device.0"), 20, "bell")
    assert bells.llen("device.0") == 1
    bells.delete("device.0")
    celery.resume()
    took = bench.until(lambda: bench.history(campaign), 20, "claim")
    print(f"bell lost -> claimed: {took:.1f} s")
    assert took < 5 + 1 + BUSY_S
    Bells(make_app(broker.url)).ring(["device.0"] * 5)
    bench.until(lambda: bench.runs(campaign)["done"], 20, "result")
    bench.files(lambda: not bells.llen("device.0"), 20, "end of the bells")
    assert bench.ends(campaign) == ["done"]
    assert bench.card()["done"] == 1
