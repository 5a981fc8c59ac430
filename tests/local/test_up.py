"""`farm up` and `farm down` on one emulated card: what is started, supervised, found again and stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm.records import Records, connect
from tests.emulator.emulated import encoder, save
from tests.integration.local_farm import LocalFarm
from tests.redis_server import RedisProcess

SMALL = ("-b", "2", "-s", "16", "-c", "2", "-i", "2", "--set-size", "2", "--time", "1")
ONE_CARD = ("--emulate", "1", "--cpu-workers", "1", "--workers-per-device", "1", "--detach")


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[LocalFarm]:
    made = LocalFarm(home=tmp_path / "home", cwd=tmp_path, env={"FARM_LEASE_S": "3"})
    yield made
    made.run("down", check=None)
    left = made.left_behind()
    for process in left:
        process.kill()
    assert left == [], "`farm down` leaves no process behind"


@pytest.fixture
def redis_process() -> Iterator[RedisProcess]:
    server = RedisProcess()
    server.start()
    yield server
    server.stop()


def until(farm: LocalFarm, there: Callable[[], Any], limit_s: float, what: str) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := there()):
        assert time.monotonic() < deadline, f"no {what} within {limit_s} s\n{farm.tails()}"
        time.sleep(0.05)
    return found


def children(farm: LocalFarm) -> list[psutil.Process]:
    """What the supervisor started itself."""
    return psutil.Process(farm.state()["pid"]).children()


def the(farm: LocalFarm, *words: str) -> psutil.Process | None:
    """The supervisor's child whose command line has these words."""
    for process in children(farm):
        try:
            line = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if all(any(word in part or socket(farm, word) in part for part in line) for word in words):
            return process
    return None


def socket(farm: LocalFarm, server: str) -> str:
    """What a Redis of this farm shows of its socket's path: long ones are in a folder elsewhere."""
    data = farm.home / "redis" / server
    pointer = data / "socket-folder"
    return pointer.read_text() if pointer.exists() else str(data)


def must(farm: LocalFarm, *words: str) -> psutil.Process:
    found = the(farm, *words)
    assert found is not None, f"no {words} among {[p.cmdline() for p in children(farm)]}"
    return found


def restarted(farm: LocalFarm, *words: str) -> None:
    """Kill the child; the supervisor starts another."""
    before = must(farm, *words)
    before.kill()

    def another() -> bool:
        now = the(farm, *words)
        return now is not None and now.pid != before.pid

    until(farm, another, 10, f"another {words}")


def submit(farm: LocalFarm, repeat: int, *options: str) -> str:
    model = save(encoder(width=256), farm.cwd / "model.onnx")
    done = farm.run(
        "submit", "-m", str(model), *SMALL, "--repeat", str(repeat), *options,
    )  # fmt: skip
    return done.stdout.split()[-1]


def slow_runs(farm: LocalFarm, seconds: int) -> None:
    """Each run takes that much longer from now on."""
    rule = {"tool": "qaic-runner", "fault": "slow", "seconds": seconds}
    (Path(farm.state()["sdk_root"]) / "scenario.json").write_text(json.dumps({"rules": [rule]}))


def records(farm: LocalFarm) -> Records:
    return Records(connect(farm.state()["redis_url"]))


def test_on_a_given_redis_a_farm_is_supervised_until_it_is_told_to_stop(
    farm: LocalFarm, redis_process: RedisProcess
) -> None:
    farm.run("up", *ONE_CARD, "--redis", redis_process.url)
    assert farm.state()["redis_url"] == farm.state()["broker_url"] == redis_process.url
    assert the(farm, "redis-server") is None
    again = farm.run("up", *ONE_CARD)
    assert f"already up (pid {farm.state()['pid']}, 1 cards)" in again.stderr
    restarted(farm, "coordinator")
    restarted(farm, "celery", "device.0")
    campaign = submit(farm, 1, "--wait")
    assert [r["state"] for r in farm.results(campaign)] == ["done"]
    farm.run("down")
    assert not (farm.home / "up.json").exists()
    assert farm.run("down").stderr == "farm: nothing is up\n"


def test_with_its_own_redis_nothing_is_lost_over_kills_and_down_and_up(farm: LocalFarm) -> None:
    farm.run("up", *ONE_CARD)
    assert (farm.home / "up.json").stat().st_mode & 0o777 == 0o600
    by_hand_finds_the_broker(farm)
    slow_runs(farm, 4)
    campaign = submit(farm, 3)
    found = records(farm)
    until(farm, lambda: found.status(campaign)["stages"]["run"]["running"], 60, "run")
    restarted(farm, "redis-server", "records")
    until(farm, lambda: farm.json("status", campaign)["stages"]["run"]["done"], 30, "result")
    until(farm, lambda: found.status(campaign)["stages"]["run"]["running"], 30, "second run")
    found.client.close()
    farm.run("down")
    assert farm.left_behind() == []
    farm.run("up", *ONE_CARD)
    farm.run("wait", campaign)
    results = farm.results(campaign)
    assert [r["state"] for r in results] == ["done"] * 3
    attempts = [len(history(farm, r["job"])) for r in results]
    assert attempts == [1, 1, 1], "what ran when the farm went down was finished"


def history(farm: LocalFarm, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = farm.json("jobs", job)["history"]
    return [entry for entry in found if entry["stage"] == "run"]


def by_hand_finds_the_broker(farm: LocalFarm) -> None:
    """A worker started beside the farm listens where the farm rings."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "farm", "worker", "cpu", "--name", "by-hand"],
        env=farm.environment(),
        cwd=farm.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process = psutil.Process(worker.pid)
        until(farm, lambda: "celery" in process.cmdline(), 20, "worker")
        environment = process.environ()
        assert environment["FARM_REDIS_URL"] == farm.state()["redis_url"]
        assert environment["FARM_BROKER_URL"] == farm.state()["broker_url"] != farm.state()["redis_url"]
    finally:
        worker.terminate()
        worker.wait(60)


def test_two_ups_at_once_make_one_farm(farm: LocalFarm) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-m", "farm", "up", *ONE_CARD[:-1]],
            env=farm.environment(),
            cwd=farm.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        until(farm, lambda: [p for p in starting if p.poll() is not None], 60, "end of the second one")
        [second] = [p for p in starting if p.poll() is not None]
        said = second.communicate(timeout=10)[1]
        assert second.returncode == 1, said
        assert "another `farm up` is starting" in said
    finally:
        for process in starting:
            process.terminate()
        for process in starting:
            process.communicate(timeout=60)


def test_a_killed_supervisor_is_followed_by_another_and_nothing_is_lost(farm: LocalFarm) -> None:
    farm.run("up", *ONE_CARD)
    slow_runs(farm, 4)
    campaign = submit(farm, 2)
    found = records(farm)
    until(farm, lambda: found.status(campaign)["stages"]["run"]["running"], 60, "run")
    found.client.close()
    before = farm.processes()
    psutil.Process(farm.state()["pid"]).kill()
    began = time.monotonic()
    farm.run("up", *ONE_CARD)
    print(f"supervisor killed -> another farm ready: {time.monotonic() - began:.1f} s")
    farm.run("wait", campaign)
    results = farm.results(campaign)
    assert [r["state"] for r in results] == ["done"] * 2
    attempts = [a["outcome"] for r in results for a in history(farm, r["job"])]
    print(f"0 lost, {len(attempts) - 2} extra runs")
    assert attempts == ["done"] * 2, "what ran when its supervisor died was finished"
    until(farm, lambda: not any(p.is_running() for p in before), 20, "end of all that the first one started")


def test_commands_look_where_the_farm_that_is_up_looks(farm: LocalFarm, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere"
    LocalFarm(farm.home, farm.cwd, {**farm.env, "FARM_STORE": str(store)}).run("up", *ONE_CARD)
    submit(farm, 1, "--wait")
    [result] = farm.results(submit(farm, 1, "--run-only", "--wait"))
    assert (result["state"], {"cached:export", "cached:compile"} - set(result["flags"])) == ("done", set())
    alone = farm.json("run", "-m", str(farm.cwd / "model.onnx"), *SMALL)
    assert (alone["platform"], alone["qpc_key"]) == ("emulated", result["qpc_key"])
    found = farm.json("prune")
    assert (found["store"], found["unknown"]["artifacts"]) == (str(store), 0)
    seen = {check["check"]: check for check in farm.json("doctor", check=None)}
    assert (seen["SDK"]["state"], seen["SDK"]["detail"].partition(",")[0]) == ("ok", farm.state()["sdk_root"])
    assert str(store) in seen["store"]["detail"]
    assert not (farm.home / "store").exists()


def test_on_a_named_host_queues_and_cards_carry_its_name(farm: LocalFarm) -> None:
    named = LocalFarm(farm.home, farm.cwd, {**farm.env, "FARM_NODE": "two words"})
    refused = named.run("up", *ONE_CARD, check=2)
    assert "device.two words.0" in refused.stderr
    named = LocalFarm(farm.home, farm.cwd, {**farm.env, "FARM_NODE": "n1"})
    named.run("up", *ONE_CARD)
    [card] = named.json("devices")
    assert (card["device"], card["node"]) == ("n1.0", "n1")
    [result] = named.results(submit(named, 1, "--devices", "n1.0", "--wait"))
    assert (result["device"], result["node"], result["state"]) == ("n1.0", "n1", "done")
