"""Kills and stops at random moments, drawn from a seed."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

import psutil

from bench.chaos.members import Group, members

#: How often each role is drawn, against the others.
WEIGHTS = {
    "worker": 2.0, "pool process": 3.0, "keeper": 2.0, "SDK child": 3.0, "exporter": 1.0, "host": 1.5,
    "coordinator": 1.0, "records' Redis": 1.0, "bells' Redis": 0.5,
}  # fmt: skip
#: Of the events, the share that stop a process for a while instead of killing it.
STOPS = 0.15
#: Seconds of a stop: short ones, and now and then one longer than a lease of 15 s.
SHORT_S, LONG_S, LONG_SHARE = (0.2, 3.0), (16.0, 20.0), 0.15


class Victims(Protocol):
    """Whatever does the killing; `kill` answers what was hit, None when nothing was there."""

    def kill(self, draw: random.Random) -> str | None:
        """Kill something."""

    def stop(self, draw: random.Random) -> str | None:
        """Stop something for a while."""

    def resume(self, *, all_of_them: bool = False) -> None:
        """Let what has been stopped for long enough go on."""


class OfAFarm:
    """Any process below a `farm up`, which starts what has ended again, Redis included."""

    def __init__(self, supervisor: psutil.Process) -> None:
        self.supervisor = supervisor
        self.stopped: list[tuple[float, psutil.Process]] = []

    def _choose(self, draw: random.Random) -> tuple[str, Group] | None:
        found: Mapping[str, list[Group]] = members(self.supervisor)
        roles = sorted(found)
        if not roles:
            return None
        role = draw.choices(roles, [WEIGHTS[role] for role in roles])[0]
        return role, draw.choice(found[role])

    def kill(self, draw: random.Random) -> str | None:
        """SIGKILL; of a group every process is stopped first, so that none sees another go."""
        chosen = self._choose(draw)
        if chosen is None:
            return None
        role, group = chosen
        hit = False
        for signal in (psutil.Process.suspend, psutil.Process.kill):
            for process in group:
                with contextlib.suppress(psutil.NoSuchProcess):
                    signal(process)
                    hit = True
        return role if hit else None

    def stop(self, draw: random.Random) -> str | None:
        """SIGSTOP, and SIGCONT later."""
        chosen = self._choose(draw)
        if chosen is None:
            return None
        role, group = chosen
        seconds = draw.uniform(*(LONG_S if draw.random() < LONG_SHARE else SHORT_S))
        for process in group:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                self.stopped.append((time.monotonic() + seconds, process))
        return role

    def resume(self, *, all_of_them: bool = False) -> None:
        """SIGCONT to those whose time is over."""
        now = time.monotonic()
        due = [entry for entry in self.stopped if all_of_them or entry[0] <= now]
        self.stopped = [entry for entry in self.stopped if entry not in due]
        for _, process in due:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


class Killer:
    """A thread that kills up to `kills` times, the pauses exponential with the mean `mean_s`."""

    def __init__(
        self, victims: Victims, *, seed: int, kills: int, mean_s: float, stops: float = STOPS
    ) -> None:
        self.victims = victims
        self.kills = kills
        self.mean_s = mean_s
        self.stops = stops
        self.killed: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._draw = random.Random(seed)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="killer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Kill nothing more; what is stopped goes on. Raises what went wrong in the thread."""
        self._end.set()
        self._thread.join()
        if self.failed is not None:
            raise self.failed

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failed = error
        finally:
            self.victims.resume(all_of_them=True)

    def _run(self) -> None:
        while sum(self.killed.values()) < self.kills:
            due = time.monotonic() + self._draw.expovariate(1 / self.mean_s)
            while (left := due - time.monotonic()) > 0:
                if self._end.wait(min(left, 0.1)):
                    return
                self.victims.resume()
            do, tally = self._deed()
            role = do(self._draw)
            if role is not None:
                tally[role] += 1
        while not self._end.wait(0.1):
            self.victims.resume()

    def _deed(self) -> tuple[Callable[[random.Random], str | None], Counter[str]]:
        if self._draw.random() < self.stops:
            return self.victims.stop, self.stopped
        return self.victims.kill, self.killed
