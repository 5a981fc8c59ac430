"""The disk of the embedded Redis fills up: what runs is recorded, nothing new starts, then it goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farm.domain.sizes import MIB
from farm.local.ballast import Ballast
from farm.records.connection import AWAY
from tests.integration.local_farm import LocalFarm
from tests.local.test_up import ONE_CARD, history, must, records, submit, until
from tests.local.test_up import farm as farm  # The fixture.
from tests.small_disk import small_disk

DISK = 16 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 16 MiB."""
    with small_disk(tmp_path / "home" / "redis", DISK) as found:
        yield found.path


def fill(disk: Path, leave: int = 0) -> Path:
    """Use up what is free, but for `leave` bytes."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as stream:
        try:
            while free(disk) > leave:
                stream.write(b"\0" * min(65536, free(disk) - leave))
        except OSError:
            pass
    return filler


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_the_ballast_is_given_up_before_the_disk_is_full_and_taken_on_again(disk: Path) -> None:
    ballast = Ballast(disk)
    assert ballast.look() is None
    assert ballast.file.stat().st_size == 2 * MIB
    dead = subprocess.Popen(["true"])
    dead.wait()
    abandoned, live = (disk / f"temp-rewriteaof-bg-{pid}.aof" for pid in (dead.pid, os.getpid()))
    abandoned.write_text("half a file")
    live.write_text("half a file")
    filler = fill(disk, leave=MIB // 2)
    why = ballast.look()
    assert why == f"the disk of Redis at {disk} is nearly full: work goes on when 4 MiB of it are free"
    assert not ballast.file.exists()
    assert (abandoned.exists(), live.exists()) == (False, True)
    assert free(disk) > 2 * MIB
    assert ballast.look() == Ballast(disk).look() == why, "also for the next supervisor"
    filler.unlink()
    assert ballast.look() is None
    assert ballast.file.stat().st_blocks * 512 == 2 * MIB, "it holds the room, not the length alone"


def test_a_full_disk_stops_new_work_and_loses_none(disk: Path, farm: LocalFarm) -> None:
    farm.run("up", *ONE_CARD)
    scenario = Path(farm.state()["sdk_root"]) / "scenario.json"
    scenario.write_text('{"rules": [{"tool": "qaic-runner", "fault": "slow", "seconds": 2}]}')
    campaign = submit(farm, 2)
    found = records(farm)
    until(farm, lambda: found.status(campaign)["stages"]["run"]["running"], 60, "run")

    def answers() -> bool:
        try:
            return bool(found.client.ping())
        except AWAY:
            return False

    server = must(farm, "redis-server", "records")
    supervisor = psutil.Process(farm.state()["pid"])
    supervisor.suspend()  # it would give the ballast up before Redis meets the full disk
    filler = fill(disk)
    until(farm, lambda: not server.is_running() or server.status() == "zombie", 20, "end of Redis")
    supervisor.resume()
    until(farm, answers, 30, "Redis")
    until(farm, lambda: found.fleet.halted(), 30, "halt")
    until(farm, lambda: found.status(campaign)["stages"]["run"]["done"], 30, "result of what ran")
    assert "nothing new is started: the disk of Redis at" in farm.run("status").stdout
    runs = found.status(campaign)["stages"]["run"]
    assert (runs["done"], runs["ready"], runs["running"]) == (1, 1, 0)
    filler.unlink()
    farm.run("wait", campaign)
    results = farm.results(campaign)
    assert [result["state"] for result in results] == ["done"] * 2
    assert [len(history(farm, result["job"])) for result in results] == [1, 1], "0 lost, 0 run again"
    assert farm.json("status", campaign)["halted"] is None
    found.client.close()
