"""A farm in parts: real Redis, real workers and coordinators, one emulated SDK, artifacts ready to run.

Each part is a process of its own, so that a test can kill, stop or restart it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from farm.artifacts import Store
from farm.domain.job import CardConfiguration, Job, StageKind
from farm.domain.plan import plan
from farm.local.process import worker_argv
from farm.records import Records, connect, keys
from farm.sdk.launcher import DirectLauncher
from farm.stages.exporter import Exporter
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer
from tests.emulator.emulated import encoder, save
from tests.redis_server import RedisProcess

ROOT = Path(__file__).parents[2]
CONFIG = CardConfiguration(batch_size=2, seq_length=16, cores=2, instances=2, set_size=2)
CPU: tuple[StageKind, ...] = ("export", "compile", "reference")
#: Seconds that a busy machine may add to what is promised of a quiet one.
BUSY_S = 8


def ended(process: psutil.Process) -> bool:
    """Whether the process is gone, or waits to be reaped by an init that may never do so."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Made:
    """An emulated SDK root and a store in which a small model is exported, compiled and referenced."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.store = folder / "store"
        self.model = save(encoder(width=256), folder / "model.onnx")
        self.outcomes: dict[str, Mapping[str, Any]] = {}
        stages = {stage.kind: stage.ask for stage in plan([self.job()]).stages}
        with Exporter() as exporter:
            performer = Performer(Store(self.store), DirectLauncher(), exporter, root)
            builder, log = StoreBuilder(performer.store), folder / "made.log"
            export = performer.export(stages["export"], builder, log)
            self.outcomes["export"] = export
            self.outcomes["compile"] = performer.compile(stages["compile"], export, builder, log)
            self.outcomes["reference"] = performer.reference(stages["reference"], export, builder, log)

    def job(self, **changes: Any) -> Job:
        """A one-second job of the small model."""
        job = Job(str(self.model), "default", "balanced", CONFIG, weights="local", seconds=1)
        return replace(job, **changes)


class Bench:
    """The parts, over one folder. Whatever was started is ended by `close`."""

    def __init__(self, folder: Path, made: Made, **settings: str) -> None:
        self.folder = folder
        self.made = made
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.started: list[subprocess.Popen[bytes]] = []
        self.at_end = contextlib.ExitStack()
        self.redis = RedisProcess(durable=True)
        self.redis.start()
        self.records = Records(connect(self.redis.url))
        self.scenario()
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FARM_HOME": str(self.home),
            "FARM_STORE": str(made.store),
            "FARM_REDIS_URL": self.redis.url,
            "FARM_SDK_ROOT": str(made.root),
            "FARM_LEASE_S": "3",
            "AIC_EMULATOR_SCENARIO": str(folder / "scenario.json"),
            **settings,
        }

    def scenario(self, *rules: dict[str, Any]) -> None:
        """What is to go wrong from now on; nothing, when no rule is given."""
        aside = self.folder / "scenario.new"
        aside.write_text(json.dumps({"rules": rules}))
        aside.rename(self.folder / "scenario.json")

    def slow_runs(self, seconds: float, **which: int | list[int]) -> None:
        """Each run (of `which` times, or qid) takes that much longer from now on, and idles meanwhile."""
        self.scenario({"tool": "qaic-runner", "fault": "slow", "seconds": seconds, **which})

    def acted(self) -> int:
        """How often the scenario's counted rules (nth, after, times) have made something go wrong."""
        counts = self.made.root / "state" / "scenario-counts.json"
        known = json.loads(counts.read_text()) if counts.exists() else {}
        ours = str((self.folder / "scenario.json").resolve())
        return sum(acted for key, (_, acted) in known.items() if key.startswith(f"{ours}#"))

    def start(self, name: str, argv: list[str], **env: str) -> subprocess.Popen[bytes]:
        """A process in a session of its own, its output in `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**self.env, **env},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def coordinator(self, name: str = "coordinator") -> subprocess.Popen[bytes]:
        return self.start(name, [sys.executable, "-m", "farm", "coordinator"])

    def worker(self, queue: str = "device.0", name: str = "worker", **env: str) -> subprocess.Popen[bytes]:
        """A worker, once the records know it (a card's: once the card is proved good)."""
        before = {w["worker"] for w in self.records.fleet.workers()}
        process = self.start(name, self.worker_argv(queue, name), **env)
        self.until(lambda: {w["worker"] for w in self.records.fleet.workers()} - before, 30, "a worker")
        return process

    @staticmethod
    def worker_argv(queue: str, name: str) -> list[str]:
        return worker_argv("device" if queue.startswith("device.") else "cpu", queue.split(","), name=name)

    def clock(self) -> int:
        """The farm clock, ms."""
        return int(self.records.client.hget(keys.META, "clock") or 0)

    def end_pauses(self) -> None:
        """As if the time had passed that stages wait before they are tried again."""
        for stage in self.records.client.zrange("farm:later", 0, -1):
            self.records.client.zadd("farm:later", {stage: 0}, xx=True)

    def probes(self) -> int:
        """How many golden runs did not get their card."""
        log = (self.folder / "worker.log").read_text()
        return sum("suspect: card" in line for line in log.splitlines())

    def good(self, device: int = 0) -> None:
        """Wait until the card is proved good."""
        self.until(lambda: self.card(device)["health"] == "good", 30, f"card {device} to be good")

    def card(self, device: int = 0) -> dict[str, Any]:
        return next((c for c in self.records.cards() if c["device"] == str(device)), {"health": None})

    def submit(self, *jobs: Job) -> str:
        """A campaign whose runs are ready at once; answers its id."""
        campaign = self.campaign(*jobs)
        self.do_cpu_stages(CPU)
        return campaign

    def campaign(self, *jobs: Job) -> str:
        """A campaign of which nothing is done yet; answers its id."""
        return self.records.submit(plan(jobs), label=None, priority=0, command=["test"])

    def do_cpu_stages(self, kinds: tuple[StageKind, ...]) -> None:
        """Settle the ready stages of these kinds with what was made before."""
        fleet, claims = self.records.fleet, self.records.claims
        fleet.register("stand-in", kinds, node="test", pid=os.getpid())
        for kind in kinds:
            while claim := claims.claim("stand-in", kind, kind, os.urandom(8).hex()):
                outcome = self.made.outcomes.get(kind, {"cosine_min": 1.0, "accuracy": "pass"})
                claims.done(claim.stage, claim.token, outcome)  # type: ignore[union-attr]
        fleet.leave("stand-in")

    def runs(self, campaign: str) -> dict[str, int]:
        """How many run stages are in each state."""
        found: dict[str, int] = self.records.status(campaign)["stages"]["run"]
        return found

    def stage(self, campaign: str, kind: StageKind, nth: int = 0) -> dict[str, Any]:
        """A stage of the campaign's nth job: id, state, attempts, error, log."""
        found: dict[str, Any] = self.records.job(self.records.jobs(campaign)[nth]["job"])["stages"][kind]
        return found

    def history(self, campaign: str, nth: int = 0, stage: str = "run") -> list[dict[str, Any]]:
        """The attempts of a stage of the campaign's nth job, oldest first."""
        job = self.records.jobs(campaign)[nth]["job"]
        return [entry for entry in self.records.job(job)["history"] if entry["stage"] == stage]

    def ends(self, campaign: str, nth: int = 0, stage: str = "run") -> list[str]:
        """How the attempts of a stage that are over ended, oldest first."""
        return [a["outcome"] for a in self.history(campaign, nth, stage) if a.get("outcome")]

    def until(self, there: Callable[[], Any], limit_s: float, what: str) -> float:
        """Wait for something to be so, woken by the records' news; the seconds it took."""
        started = time.monotonic()
        while not there():
            if time.monotonic() - started > limit_s:
                raise AssertionError(f"no {what} within {limit_s} s\n{self.tails()}")
            self.news()
        return time.monotonic() - started

    def files(self, there: Callable[[], Any], limit_s: float, what: str) -> None:
        """Wait for something to be so that the records do not tell."""
        deadline = time.monotonic() + limit_s
        while not there():
            assert time.monotonic() < deadline, f"no {what} within {limit_s} s\n{self.tails()}"
            time.sleep(0.02)

    def news(self) -> None:
        """Until something changed in the records, at most 50 ms."""
        with self.records.client.pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe("farm:changed")
            listener.get_message(timeout=0.01)
            listener.get_message(timeout=0.04)

    def farm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the farm's, as a user of this host types it."""
        return subprocess.run(
            [sys.executable, "-m", "farm", *words],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def processes(self, *texts: str) -> list[psutil.Process]:
        """Processes of this bench whose command line holds all of `texts`."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("FARM_HOME") == str(self.home)
                line = " ".join(process.cmdline())
                if ours and process.status() != psutil.STATUS_ZOMBIE and all(text in line for text in texts):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def runner(self, *, limit_s: float = 20, but: int | None = None) -> psutil.Process:
        """The SDK's runner at work on a job (not on the golden program); `but`: not the one of that pid."""
        return self.child("qaic-runner", str(self.home / "work"), limit_s=limit_s, but=but)

    def child(self, *texts: str, limit_s: float = 20, but: int | None = None) -> psutil.Process:
        """A process whose command line holds all of `texts`, once there is one; `but`: not that pid."""
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = [process for process in self.processes(*texts) if process.pid != but]
            return bool(found)

        self.files(there, limit_s, " ".join(texts))
        return found[0]

    def keeper(self) -> psutil.Process:
        [found] = self.processes("farm.worker.keeper")
        return found

    def pool_process(self) -> psutil.Process:
        """The worker's process that does the stages: the keeper's parent."""
        found = self.keeper().parent()
        assert found is not None
        return found

    def tails(self, lines: int = 25) -> str:
        logs = [*self.folder.glob("*.log"), *(self.home / "logs").glob("*.log")]
        ends = {log.name: log.read_text(errors="replace").splitlines()[-lines:] for log in logs}
        return "\n".join(line for name, end in ends.items() for line in (f"--- {name}", *end))

    def close(self) -> None:
        """KILL whatever is left, and the Redis."""
        for _ in range(200):
            left = self.processes()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if not left:
                break
            time.sleep(0.02)
        for started in self.started:
            started.wait(10)
        self.at_end.close()
        self.records.client.close()
        self.redis.kill()
        self.redis.stop()
