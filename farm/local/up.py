"""`farm up`: start what is missing on this host and supervise it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

import psutil

from farm.domain.errors import BadInput, FarmError, RecordsLost, StageFailed, Unreachable
from farm.domain.queues import device_queue, qid_of
from farm.emulator import write_root
from farm.local import background
from farm.local.background import WORKER_STOP_S
from farm.local.ballast import Ballast, DiskWatch
from farm.local.home import Home
from farm.local.process import worker_argv
from farm.local.redis_server import configure
from farm.local.supervisor import Role, Supervisor
from farm.records import connect, open_records
from farm.sdk.resting import resting_cards
from farm.sdk.root import find_root, open_sdk
from farm.worker.places import Places

#: The embedded Redis of the records, and its folder.
RECORDS = "records"


@dataclass(frozen=True)
class UpOptions:
    """What `farm up` was asked for; None where the default decides. limits: settings of the CPU workers."""

    home: Path
    redis_url: str | None = None
    broker_url: str | None = None
    sdk_root: Path | None = None
    emulate: int | None = None
    timing: str = "measured"
    sdk_profile: str = "1.21"
    cpu_workers: int | None = None
    workers_per_device: int = 2
    limits: Mapping[str, str] = field(default_factory=dict)
    detach: bool = False


def default_cpu_workers() -> int:
    """Half of the CPUs, the other half feeds the cards; at least one. What memory allows is admitted."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def up(options: UpOptions, say: Callable[[str], None] | None = None) -> int:
    """Start what is missing and supervise it until TERM or INT; detached, return when it is ready.

    Raises BadInput without cards, Unreachable when a given Redis does not answer.
    """
    tell = say or (lambda line: print(f"farm: {line}", file=sys.stderr, flush=True))
    home = Home(options.home)
    running = home.read_state()
    if running is not None:
        tell(f"already up (pid {running['pid']}, {running['cards']} cards); `farm down` stops it")
        return 0
    node = os.environ.get("FARM_NODE") or None
    qid_of(device_queue(0, node))  # a name that no queue can have is refused here
    with _alone(home):
        root, qids = _cards(options, home)
        if not options.detach:
            return _supervise(options, home, root, [device_queue(qid, node) for qid in qids], tell)
    return background.start(home, *_command(options, home), tell)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One `farm up` a folder. The lock is not inherited by children: it ends with this process."""
    home.root.mkdir(parents=True, exist_ok=True)
    with home.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FarmError(
                f"another `farm up` is starting in {home.root}: wait for it, or set FARM_HOME"
            ) from error
        yield


def _cards(options: UpOptions, home: Home) -> tuple[Path, list[int]]:
    """The SDK root and the QIDs of its cards, made first when they are to be emulated. Raises BadInput.

    A card that is held is not asked: a worker of a farm that was here a moment ago may still measure on it.
    """
    if options.emulate:
        root = home.emulated_sdk
        wanted = {"sdk": options.sdk_profile, "timing": options.timing, "cards": options.emulate}
        if _marker(root) != wanted:
            root.parent.mkdir(parents=True, exist_ok=True)
            write_root(root, cards=options.emulate, timing=options.timing, sdk=options.sdk_profile)
    else:
        root = find_root(options.sdk_root)
    try:
        asked, held = resting_cards(open_sdk(root))
    except StageFailed as error:
        raise BadInput(f"{error}; see `farm doctor`, or emulate: `farm up --emulate`") from error
    qids = [card.qid for card in asked]
    for card in held:
        if card.qid is None:
            raise BadInput(
                f"card {card.pci_address} is held and its holder noted no QID: `farm doctor` tells who it is"
            )
        qids.append(card.qid)
    if not qids:
        raise BadInput(
            f"no card: the qaic-util of {root} lists none; see `farm doctor`, or emulate: `farm up --emulate`"
        )
    return root, sorted(qids)


def _marker(root: Path) -> Mapping[str, object] | None:
    try:
        marker = json.loads((root / "emulator.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return {"sdk": marker["sdk"], "timing": marker["timing"], "cards": len(marker["cards"])}


def _supervise(
    options: UpOptions, home: Home, root: Path, queues: Sequence[str], tell: Callable[[str], None]
) -> int:
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    home.logs.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor()
    watch: DiskWatch | None = None
    try:
        redis_url, broker_url = _redis(options, home, supervisor)
        if not options.redis_url:
            records = partial(open_records, redis_url, home=home.root, retries=0, timeout_s=2.0)
            watch = DiskWatch(Ballast(home.redis / RECORDS), records)
            watch.start()
        env = {
            **os.environ,
            "FARM_HOME": str(home.root),
            "FARM_SDK_ROOT": str(root),
            "FARM_REDIS_URL": redis_url,
            "FARM_BROKER_URL": broker_url,
            **options.limits,
        }
        me = psutil.Process()
        home.write_state(
            {
                "pid": me.pid,
                "created": me.create_time(),
                "redis_url": redis_url,
                "broker_url": broker_url,
                "sdk_root": str(root),
                "store": str(Places(home.root).store.absolute()),
                "cards": len(queues),
                "emulated": bool(options.emulate),
            }
        )
        cpu_workers = options.cpu_workers or default_cpu_workers()
        coordinator = [sys.executable, "-m", "farm", "coordinator"]
        supervisor.start([Role("coordinator", coordinator, env, home.logs / "coordinator.log", 5.0)])
        supervisor.start(
            [
                *(
                    Role(name, worker_argv("cpu", name=name), env, home.logs / f"{name}.log", WORKER_STOP_S)
                    for name in (f"cpu-{n}" for n in range(cpu_workers))
                ),
                *(
                    Role(
                        name,
                        worker_argv("device", [queue], name=name),
                        env,
                        home.logs / f"{name}.log",
                        WORKER_STOP_S,
                    )
                    for queue in queues
                    for name in (f"card-{qid_of(queue)}-{n}" for n in range(options.workers_per_device))
                ),
            ]
        )
        what = "emulated cards" if options.emulate else "cards"
        tell(
            f"up: {len(queues)} {what}, {options.workers_per_device} workers each,"
            f" {cpu_workers} CPU workers; logs in {home.logs}"
        )
        _say_if_lost(redis_url, home, tell)
        supervisor.run(stop)
        tell("stopping: running stages finish or are handed back")
    finally:
        if watch is not None:
            watch.stop()
        supervisor.stop()
        home.state.unlink(missing_ok=True)
    return 0


def _say_if_lost(redis_url: str, home: Home, tell: Callable[[str], None]) -> None:
    """The processes refuse records that are not those this host knows, each in its log."""
    try:
        open_records(redis_url, home=home.root).client.close()
    except RecordsLost as error:
        tell(f"no work is taken: {error}")


def _redis(options: UpOptions, home: Home, supervisor: Supervisor) -> tuple[str, str]:
    """The URLs of records and bells; the servers that no URL names are started."""
    if options.redis_url:
        connect(options.redis_url)
        return options.redis_url, options.broker_url or options.redis_url
    home.redis.mkdir(parents=True, exist_ok=True)
    records = configure(home.redis, RECORDS, durable=True)
    bells = configure(home.redis, "bells", durable=False)
    servers = [(RECORDS, records)] if options.broker_url else [(RECORDS, records), ("bells", bells)]
    supervisor.start(
        [
            Role(f"redis-{name}", server.argv, dict(os.environ), home.logs / f"redis-{name}.log", 10.0)
            for name, server in servers
        ]
    )
    for _, server in servers:
        _await_redis(server.url)
    return records.url, options.broker_url or bells.url


def _await_redis(url: str, limit_s: float = 30.0) -> None:
    """Wait until the server at `url` answers, also while it reads its append-only file."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            connect(url, retries=0).close()
            return
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _command(options: UpOptions, home: Home) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of the same `farm up` in the foreground."""
    argv = [sys.executable, "-m", "farm", "up"]
    if options.emulate:
        argv += ["--emulate", str(options.emulate), "--timing", options.timing, "--sdk", options.sdk_profile]
    if options.cpu_workers:
        argv += ["--cpu-workers", str(options.cpu_workers)]
    argv += ["--workers-per-device", str(options.workers_per_device)]
    env = {**os.environ, "FARM_HOME": str(home.root), **options.limits}
    if options.redis_url:
        env["FARM_REDIS_URL"] = options.redis_url
    return argv, env
