"""`farm doctor` after a fault: it names each, says the way out, changes nothing, and never raises."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.artifacts.store import Store
from farm.cli.checks import all_checks
from farm.cli.context import Farm
from farm.cli.main import cli
from farm.domain.errors import Unreachable
from farm.domain.states import after_failure
from farm.emulator import write_root
from farm.local.redis_server import find_server
from farm.records import Records, connect, keys
from farm.sdk.lock import CardLock, lock_folder
from farm.sdk.tree import MARK
from farm.worker.orphans import keeper_mark
from farm.worker.outbox import Finished, Outbox
from tests.records import scene
from tests.redis_server import RedisProcess
from tests.small_disk import small_disk

NODE = os.uname().nodename
Seen = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def durable() -> Iterator[RedisProcess]:
    """A Redis as `farm up` starts it for the records."""
    server = RedisProcess(durable=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulated SDK of one card."""
    folder = tmp_path_factory.mktemp("sdk") / "root"
    write_root(folder, cards=1)
    return folder


@pytest.fixture
def home(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A farm's folder with a store, on a host with that SDK."""
    monkeypatch.setenv("FARM_SDK_ROOT", str(root))
    monkeypatch.setenv("FARM_HOME", str(tmp_path / "home"))
    Store(tmp_path / "home" / "store")
    return tmp_path / "home"


@pytest.fixture
def records(home: Path, durable: RedisProcess) -> Iterator[Records]:
    """A farm at work: a coordinator, a CPU worker and a card's, both of them this process."""
    client = connect(durable.url)
    client.flushall()
    records = Records(client)
    records.fleet.tick("test")
    records.fleet.register("cpu", scene.CPU, node=NODE, pid=os.getpid())
    records.fleet.register("card", ["device.0"], node=NODE, pid=os.getpid(), card="device.0")
    records.fleet.report_card("device.0", {"nsp_total": 14, "pci_address": "0000:21:00.0", "node": NODE})
    records.fleet.set_health("device.0", "good")
    yield records
    client.close()


def doctor(url: str, exit_code: int) -> Seen:
    """What `farm doctor` sees, by what it looked at."""
    result = CliRunner().invoke(cli, ["--redis", url, "doctor", "--json"], obj=Farm())
    assert result.exit_code == exit_code, result.stdout
    found = {check["check"]: (check["state"], check["detail"]) for check in json.loads(result.stdout)}
    assert all("\n" not in detail for _, detail in found.values())
    return found


def test_a_farm_at_work_is_well(records: Records, durable: RedisProcess) -> None:
    seen = doctor(durable.url, 0)
    assert {what for what, (state, _) in seen.items() if state == "ok"} >= {
        *(
            "SDK",
            "card 0",
            "card locks",
            "Redis",
            "Redis on disk",
            "Redis memory",
            "Redis disk",
            "coordinator",
        ),
        *("CPU workers", "card device.0", "failures", "outbox", "orphans", "store", "clock", "model hub"),
    }
    assert seen["Redis on disk"][1] == "append-only file, appendfsync always"
    assert seen["Redis access"] == ("ok", "a password is asked for")


def test_a_redis_that_may_lose_or_drop_what_it_is_told(records: Records, durable: RedisProcess) -> None:
    settings = {"appendfsync": "everysec", "maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}
    before = {name: records.client.config_get(name)[name] for name in settings}
    try:
        for name, value in settings.items():
            records.client.config_set(name, value)
        seen = doctor(durable.url, 1)
    finally:
        for name, value in before.items():
            records.client.config_set(name, value)
    assert seen["Redis on disk"] == (
        "note", "appendfsync everysec: a crash of its host loses the last second or more",
    )  # fmt: skip
    assert seen["Redis memory"][0] == "bad"
    assert "allkeys-lru: it would drop" in seen["Redis memory"][1]


@contextmanager
def open_redis(folder: Path, bind: str) -> Iterator[str]:
    """A Redis without a password on a TCP port; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [find_server(), "--port", str(port), "--bind", bind, "--protected-mode", "no"]
    words += ["--dir", str(folder), "--save", "", "--logfile", str(folder / "log")]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    connect(f"redis://127.0.0.1:{port}", retries=0).close()
                    break
                except Unreachable:
                    with pytest.raises(subprocess.TimeoutExpired):
                        process.wait(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.parametrize(("bind", "state"), [("0.0.0.0", "bad"), ("127.0.0.1", "note")])
def test_a_redis_without_a_password(home: Path, tmp_path: Path, bind: str, state: str) -> None:
    with open_redis(tmp_path, bind) as url:
        seen = doctor(url, 1)
    assert seen["Redis access"][0] == state
    assert seen["Redis access"][1].startswith("no password, ")
    assert seen["Redis on disk"][0] == "bad"
    assert seen["coordinator"][0] == seen["CPU workers"][0] == "bad"


def test_a_redis_that_goes_away_while_it_is_looked_at(home: Path) -> None:
    server = RedisProcess()
    server.start()
    try:
        checks = all_checks(Farm(redis_url=server.url))
        assert any(check.what == "Redis" for check in checks)
        server.kill()
        rest = list(checks)
    finally:
        server.stop()
    assert rest[-1].state == "bad"
    assert "looking at it failed: ConnectionError" in rest[-1].detail


def test_workers_that_are_stopped_gone_or_missing(records: Records, durable: RedisProcess) -> None:
    with subprocess.Popen(["sleep", "60"]) as stopped, subprocess.Popen(["true"]) as gone:
        gone.wait()
        stopped.send_signal(signal.SIGSTOP)
        os.waitpid(stopped.pid, os.WUNTRACED)
        records.fleet.register("stopped", scene.CPU, node=NODE, pid=stopped.pid)
        records.fleet.register("gone", scene.CPU, node=NODE, pid=gone.pid)
        records.fleet.register("far", scene.CPU, node="elsewhere", pid=gone.pid)
        seen = doctor(durable.url, 1)
        stopped.kill()
    assert seen["worker stopped"][0] == "bad"
    assert f"kill -CONT {stopped.pid}" in seen["worker stopped"][1]
    assert "is not there any more" in seen["worker gone"][1]
    assert not {"worker far", "worker cpu"} & set(seen)
    for name in ("cpu", "stopped", "gone", "far"):
        records.fleet.leave(name)
    records.fleet.register("half", ["compile"], node=NODE, pid=os.getpid())
    seen = doctor(durable.url, 1)
    assert seen["CPU workers"] == (
        "bad", "nobody serves export, reference, compare: farm worker cpu, or farm up",
    )  # fmt: skip


def test_cards_out_of_work_say_why_and_since_when(records: Records, durable: RedisProcess) -> None:
    for qid in range(1, 5):
        scene.card(records, qid)
    records.fleet.set_health("device.1", "quarantined", "golden run: no answer", strikes=3)
    records.fleet.set_health("device.2", "suspect", "held by process 7")
    records.fleet.set_health("device.2", "suspect", "held by process 8")
    records.drain("3")
    records.fleet.leave("card-4")
    today = time.strftime("%Y-%m-%dT", time.gmtime())
    seen = doctor(durable.url, 1)
    state, detail = seen["card device.1"]
    assert state == "bad"
    assert detail.startswith(f"quarantined since {today}")
    assert detail.endswith(": golden run: no answer; it is tried again each minute")
    assert seen["card device.2"][0] == seen["card device.3"][0] == "note"
    assert "held by process 8" in seen["card device.2"][1]
    assert seen["card device.3"][1].startswith(f"drained since {today}")
    assert "farm devices resume 3" in seen["card device.3"][1]
    assert seen["card device.4"][0] == "bad"
    assert "no worker serves it" in seen["card device.4"][1]


def test_counters_that_had_drifted(records: Records, durable: RedisProcess) -> None:
    assert "counters" not in doctor(durable.url, 0)
    records.client.hset(keys.META, "drift", 2)
    assert doctor(durable.url, 0)["counters"][1].startswith("2 had drifted and were repaired")


def test_failures_are_told_by_cause(records: Records, durable: RedisProcess) -> None:
    models = ["bert-base-cased", "albert-base-v2", "roberta-base"]
    campaign = scene.submit(records, *map(scene.job, models))
    for kind in ("input", "input", "host"):
        failed = scene.must_claim(records, "cpu", "export")
        verdict = replace(after_failure("input", {}, []), kind=kind)
        records.claims.ended(failed.stage, failed.token, verdict, error=f"said of {kind}")
    seen = doctor(durable.url, 1)
    # Two causes of one kind of stage: the last line of that name is the rarer one.
    assert seen["failed export"] == (
        "bad", f"1 of campaign {campaign} (host): said of host; farm jobs {campaign}.3",
    )  # fmt: skip
    result = CliRunner().invoke(cli, ["--redis", durable.url, "doctor"])
    assert f"note  failed export: 2 of campaign {campaign} (input): said of input;" in result.stdout
    assert sum(failure["stages"] for failure in records.troubles.failures(3)) == 3


def test_outcomes_that_are_not_reported(home: Path, records: Records, durable: RedisProcess) -> None:
    outbox = Outbox(home / "outbox")
    outbox.write(Finished("c/run-1", "t", {}))
    state, detail = doctor(durable.url, 1)["outbox"]
    assert state == "bad"
    assert detail.startswith(f"1 outcomes in {home}/outbox are not reported")
    assert outbox.read("t") is not None


def test_orphans_are_named_and_left_alone(home: Path, records: Records, durable: RedisProcess) -> None:
    with subprocess.Popen(["sleep", "60"]) as keeper:
        mark = keeper_mark(home, keeper.pid)
        with subprocess.Popen(["sleep", "61"], env={**os.environ, MARK: mark}) as orphan:
            assert doctor(durable.url, 0)["orphans"][0] == "ok"
            keeper.kill()
            keeper.wait()
            state, detail = doctor(durable.url, 1)["orphans"]
            alive = orphan.poll() is None
            orphan.kill()
    assert (state, alive) == ("bad", True)
    assert f"process {orphan.pid} (sleep)" in detail


def test_a_card_held_by_a_stranger(records: Records, durable: RedisProcess, root: Path) -> None:
    lock = CardLock(lock_folder(root), "0000:21:00.0", 14)
    try:
        assert lock.try_exclusive()
        state, detail = doctor(durable.url, 0)["lock of device.0"]
        assert state == "note"
        assert detail.startswith(f"held by process {os.getpid()}, of no run of this farm")
        scene.submit(records, scene.job())
        for kind in ("export", "compile"):
            scene.do(records, "cpu", kind)
        run = scene.must_claim(records, "card", "run", "device.0")
        assert records.claims.running(run.stage, run.token)
        assert "lock of device.0" not in doctor(durable.url, 0)
    finally:
        lock.release()


def test_what_dead_builders_left(home: Path, records: Records, durable: RedisProcess) -> None:
    store = Store(home / "store")
    living = store.begin("export-1", "t")
    assert "unfinished builds" not in doctor(durable.url, 0)
    (home / "store" / "building" / "export-2.u").mkdir()
    state, detail = doctor(durable.url, 0)["unfinished builds"]
    assert (state, detail[:5]) == ("note", "1 in ")
    assert living.is_dir()
    assert (home / "store" / "building" / "export-2.u").is_dir()


def test_a_disk_that_is_nearly_full(
    home: Path, records: Records, durable: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "small", 4 * 2**20) as small:
        monkeypatch.setenv("FARM_STORE", str(small.path))
        Store(small.path)
        assert doctor(durable.url, 1)["store"][0] == "bad"
    monkeypatch.setenv("FARM_STORE", str(home / "store"))
    monkeypatch.setenv("FARM_STORE_LIMIT", "900T")
    assert "the disk is full before the limit" in doctor(durable.url, 0)["store"][1]
    monkeypatch.setenv("FARM_STORE_LIMIT", "much")
    assert doctor(durable.url, 1)["store"] == (
        "bad", "FARM_STORE_LIMIT 'much': not a size of 1M or more; write it as 30G, 512M or 1.5T",
    )  # fmt: skip


def test_a_work_folder_that_is_full_or_may_only_be_read(
    home: Path, records: Records, durable: RedisProcess
) -> None:
    with small_disk(home / "work", 2**20) as work:
        result = CliRunner().invoke(cli, ["--redis", durable.url, "doctor"], obj=Farm())
        assert f"BAD   disk of the work: 1 MiB free at {work.path}" in result.stdout
        assert result.exit_code == 1
        work.resize(2**28)
        work.writable(False)
        assert doctor(durable.url, 1)["folders"][1].startswith(f"{work.path} cannot be written")


def test_a_clock_that_is_wrong(
    records: Records, durable: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() - 100)
    assert doctor(durable.url, 0)["clock"] == ("note", "this host is 100.0 s behind Redis")


def test_the_hubs_settings_without_its_token(
    records: Records, durable: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "no token" in doctor(durable.url, 0)["model hub"][1]
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@mirror.example")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "token").write_text("hf_secret")
    state, detail = doctor(durable.url, 0)["model hub"]
    assert (state, detail) == (
        "note", "https://me:***@mirror.example, a token, offline: only what the cache has",
    )  # fmt: skip
