"""One campaign on a real `farm up` of eight emulated cards, while its processes are killed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from redis.exceptions import RedisError

from bench.chaos import checks, models
from bench.chaos.cards import CardWatch
from bench.chaos.killing import Killer, OfAFarm, Victims
from farm.domain.errors import Unreachable
from farm.records import Records, connect
from tests.integration.local_farm import LocalFarm
from tests.redis_server import RedisProcess

CARDS = 8
#: Seconds after which a campaign is given up, and within which an ended one comes to rest.
LIMIT_S, REST_S = 1500.0, 60.0
AWAY = (RedisError, Unreachable)


@dataclass
class Campaign:
    """What came of one campaign. ends: of attempts; reasons: of failed jobs; faults: what did not hold."""

    jobs: int
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    extra: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    runs_on_cards: int = 0
    reasons: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fire:
    """What disturbs a campaign: kills, `mean_s` seconds apart on average; redis: of its Redis alone."""

    seed: int
    kills: int
    mean_s: float
    redis: bool = False


class OfARedis:
    """A Redis of the benchmark's own: killed, and started again after a moment, at times after a while."""

    def __init__(self, server: RedisProcess) -> None:
        self.server = server

    def kill(self, draw: random.Random) -> str | None:
        """SIGKILL, up to a second without, now and then 5, and a start on the same files."""
        self.server.kill()
        time.sleep(5.0 if draw.random() < 0.1 else draw.uniform(0, 1))
        self.server.start()
        return "Redis"

    def stop(self, draw: random.Random) -> str | None:
        """It is only killed."""
        return None

    def resume(self, *, all_of_them: bool = False) -> None:
        """Nothing is stopped."""


def run(
    folder: Path, made: Sequence[Path], jobs: int, fire: Fire | None, say: Callable[[str], None]
) -> Campaign:
    """Start a farm in `folder`, submit, disturb, wait, check; stop the farm, check what is left."""
    server = RedisProcess(durable=True) if fire is not None and fire.redis else None
    env = {"HF_HUB_OFFLINE": "1"}
    if server is not None:
        server.start()
        env["FARM_REDIS_URL"] = server.url
    farm = LocalFarm(home=folder / "home", cwd=folder, env=env)
    asked = models.words(list(made), jobs)
    try:
        farm.run(
            "up", "--emulate", str(CARDS), "--timing", "modelled", "--cpu-workers", "2",
            "--workers-per-device", "2", "--detach",
        )  # fmt: skip
        try:
            found = _under_way(farm, asked, fire, server, say)
        finally:
            farm.run("down")
        found.faults += [f"left behind: {p.pid} {' '.join(p.cmdline())}" for p in farm.left_behind()]
        found.faults += checks.locks(farm.home / "emulated-sdk", CARDS)
        found.faults += checks.leftovers(farm.home)
        return found
    finally:
        for process in farm.processes():
            process.kill()
        if server is not None:
            server.stop()


def _under_way(
    farm: LocalFarm,
    asked: Sequence[str],
    fire: Fire | None,
    server: RedisProcess | None,
    say: Callable[[str], None],
) -> Campaign:
    state = farm.state()
    watch = CardWatch(Path(state["sdk_root"]), CARDS)
    try:
        submitted = farm.json("submit", *asked)
        found, campaign = Campaign(submitted["jobs"]), submitted["campaign"]
        started = time.monotonic()
        victims: Victims = OfARedis(server) if server is not None else OfAFarm(psutil.Process(state["pid"]))
        killer = Killer(
            victims,
            seed=fire.seed if fire else 0,
            kills=fire.kills if fire else 0,
            mean_s=fire.mean_s if fire else 1.0,
            stops=0.0 if fire is None or fire.redis else 0.15,
        )
        if fire is not None:
            killer.start()
        try:
            found.faults += _wait(state["redis_url"], campaign, found.jobs, say)
        finally:
            if fire is not None:
                killer.end()
        found.seconds = time.monotonic() - started
        found.killed, found.stopped = killer.killed, killer.stopped
        records = Records(connect(state["redis_url"]))
        _check(found, records, campaign, Path(farm.home))
        records.client.close()
    finally:
        watch.close()
    found.faults += watch.overlaps()
    found.runs_on_cards = len(watch.spans)
    return found


def _wait(url: str, campaign: str, jobs: int, say: Callable[[str], None]) -> list[str]:
    """Until every job has ended. Answers the jobs that were done and did not stay so."""
    deadline, done = time.monotonic() + LIMIT_S, set[str]()
    faults, said = [], time.monotonic()
    while time.monotonic() < deadline:
        try:
            records = Records(connect(url, retries=0))
            states = {job["job"]: job["state"] for job in records.jobs(campaign)}
            records.client.close()
        except AWAY:
            time.sleep(0.1)
            continue
        faults += [f"{job} was done and is {states.get(job)}" for job in done if states.get(job) != "done"]
        done = {job for job, state in states.items() if state == "done"}
        if sum(state in ("done", "failed", "cancelled") for state in states.values()) == jobs:
            return faults
        if time.monotonic() - said > 30:
            said = time.monotonic()
            say(f"  {len(done)} of {jobs} done")
        time.sleep(0.5)
    return [*faults, f"not ended within {LIMIT_S:.0f} s: {dict(Counter(states.values()))}"]


def _reason(records: Records, name: str) -> str:
    """Why the job failed, with how each of its attempts ended."""
    job = records.job(name)
    ends = ", ".join(f"{a['stage']} {a['outcome']}" for a in job["history"])
    return f"{name} ({job['error_kind']}): {job['error']} [{ends}]"


def _check(found: Campaign, records: Records, campaign: str, home: Path) -> None:
    jobs = records.jobs(campaign)
    found.states = Counter(job["state"] for job in jobs)
    found.reasons = [_reason(records, job["job"]) for job in jobs if job["state"] == "failed"]
    deadline = time.monotonic() + REST_S
    while True:
        stages = checks.Stages(records, campaign)
        faults = [*checks.attempts(stages), *checks.counters(records, campaign, stages)]
        if not faults or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    found.extra, found.ends = stages.extra(), stages.ends()
    found.faults += [
        *checks.jobs_ended(records, campaign, found.jobs),
        *faults,
        *checks.artifacts(home / "store"),
    ]
