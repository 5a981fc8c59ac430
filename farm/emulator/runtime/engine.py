"""Runs a program on its instances: `set_size` inferences in flight on each, one computing, the others queued.

Measured: every instance is a thread; it computes one inference at a time and takes the next from its own
queue, and an inference that completes is replaced at once, as the runner does. All times are taken from the
clock around the real work. Modelled: the same schedule, with the time between two completions taken from
timing.py and slept.

The run ends as the real one does: after the last second (or inference) nothing is submitted any more and
what is in flight is waited for, so a run of T seconds lasts T and about one latency. Source: docs/sdk.md,
recorded runner logs.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import timing
from .program import Array, Program

#: What happens to one inference, in order; a row of EngineResult.rows has these, in ns of one clock, then the
#: number of inferences in its instance's queue before and after it was submitted.
STAMPS = ("called", "prepared", "queued", "submitted", "completed", "returned")
COUNTS = ("depth", "in_queue")
_WIDTH = len(STAMPS) + len(COUNTS)
# What the host's share of a modelled inference takes, in µs after the call: the later stamps up to the
# submission and, before the return, the last. Source: docs/sdk.md, one activation of bert-base (pre-
# processing 5, enqueue 2, submit 1.5, post 2).
_HOST_STAMPS_US = (5.0, 7.0, 8.5)
_POST_US = 2.0
_HEAVY_TAIL = 0.17  # log-normal sigma of p95/mean = 1.3


@dataclass(frozen=True)
class Until:
    """When to stop submitting: after `seconds`, or after `count` inferences, in total or of each instance."""

    seconds: float | None = None
    count: int | None = None
    per_instance: bool = False

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.count is None):
            raise ValueError(f"{self}: give seconds or count")

    def counts(self, instances: int) -> list[int]:
        """How many inferences each instance gets; 0 where the time decides."""
        count = self.count or 0
        if self.per_instance:
            return [count] * instances
        return [count // instances + (number < count % instances) for number in range(instances)]


@dataclass(frozen=True)
class Window:
    """Which inferences of an instance to keep: `number` of them from number `start` (both counted from 0)."""

    start: int = 0
    number: int = 0

    @property
    def end(self) -> int:
        """The number after the last one."""
        return self.start + self.number


NOTHING = Window()


@dataclass
class EngineResult:
    """What a run gave.

    counts has the batched executions of each instance, inferences their sum; duration_us runs from the
    start to the last return. rows has one int64 array (inferences x columns of STAMPS + COUNTS) for
    each instance; outputs are those of the inferences that were kept, by (instance, number).
    """

    counts: list[int]
    duration_us: int
    rows: list[NDArray[np.int64]]
    outputs: dict[tuple[int, int], dict[str, Array]] = field(default_factory=dict)

    @property
    def inferences(self) -> int:
        """Batched executions over all instances: the runner's InferenceCnt."""
        return sum(self.counts)


class _Limit:
    """Says until when one instance may submit."""

    def __init__(self, seconds: float | None, count: int) -> None:
        self._seconds = seconds
        self._count = count
        self._deadline = 0

    def start(self, now_ns: int) -> None:
        """The clock starts, for all instances at once."""
        self._deadline = now_ns + round((self._seconds or 0) * 1e9)

    def allows(self, now_ns: int, index: int) -> bool:
        """Whether inference number `index` may be submitted now; every instance gets one in any time."""
        if self._seconds is None:
            return index < self._count
        return now_ns < self._deadline or index == 0


class _Instance:
    """One activation of the program: its queue, and the thread that computes."""

    def __init__(
        self,
        program: Program,
        elements: Sequence[Mapping[str, Array]],
        limit: _Limit,
        profile: Window,
        keep: Window,
        slowness: float,
    ) -> None:
        self._program = program
        self._elements = [dict(element) for element in elements]
        self.limit = limit
        self._profile = profile
        self._keep = keep
        self._slower = slowness - 1
        self._queue: deque[tuple[int, int, int, int, int, dict[str, Array]]] = deque()
        self._submitted = 0
        self.completed = 0
        self.last_return = 0
        self.stamps = array("q")
        self.kept: dict[int, dict[str, Array]] = {}

    def _submit(self, called: int) -> bool:
        """Queue the next inference; the application, which loops without rest, called at `called`."""
        now = time.perf_counter_ns
        index = self._submitted
        if not self.limit.allows(called, index):
            return False
        feeds = self._elements[index % len(self._elements)]
        prepared = now()
        queue = self._queue
        depth = len(queue)
        self._submitted = index + 1
        queued = now()
        queue.append((called, prepared, queued, now(), depth, feeds))
        return True

    def serve(self, set_size: int, barrier: threading.Barrier) -> None:
        """Fill the queue, then compute and refill until the limit, then drain."""
        run, names = self._program.session.run, [binding.name for binding in self._program.outputs]
        now, queue, extend = time.perf_counter_ns, self._queue, self.stamps.extend
        low, high = self._profile.start, self._profile.end
        keep_low, keep_high = self._keep.start, self._keep.end
        slower = self._slower
        barrier.wait()
        while len(queue) < set_size and self._submit(now()):
            pass
        while queue:
            called, prepared, queued, submitted, depth, feeds = queue.popleft()
            if slower:
                begun = now()
                values = run(names, feeds)
                time.sleep((now() - begun) * slower / 1e9)
            else:
                values = run(names, feeds)
            completed = now()
            index = self.completed
            if keep_low <= index < keep_high:
                self.kept[index] = self._program.named(values)
            del values  # large ones must not wait beside the next
            self.completed = index + 1
            returned = now()
            if low <= index < high:
                extend((called, prepared, queued, submitted, completed, returned, depth, depth + 1))
            self._submit(returned)
        self.last_return = now()


def run(
    program: Program,
    instances: int,
    set_size: int,
    until: Until,
    elements: Sequence[Mapping[str, Array]],
    *,
    profile: Window = NOTHING,
    keep: Window = NOTHING,
    modelled: bool = False,
    heavy_tail: bool = False,
    turn: AbstractContextManager[None] | None = None,
    slowness: float = 1.0,
) -> EngineResult:
    """Run `program` on `instances` until `until`.

    Inference number k of an instance takes element k modulo their count.
    `profile` says which inferences of each instance leave a row, `keep` which of instance 0 leave their
    outputs. A modelled run computes those outputs alone, within `turn`, while its time already passes.
    slowness: how many times longer than usual each inference takes.
    Raises one of program.COMPUTE_ERRORS when an inference fails, qpc.BadQpc for a network that is none.
    """
    if modelled:
        return _run_modelled(
            program, instances, set_size, until, elements, profile, keep, heavy_tail,
            turn or nullcontext(), slowness,
        )  # fmt: skip
    crew = [
        _Instance(
            program, elements, _Limit(until.seconds, count), profile, NOTHING if number else keep, slowness
        )
        for number, count in enumerate(until.counts(instances))
    ]
    _ = program.session  # made before the clock starts
    started = 0

    def start() -> None:
        nonlocal started
        started = time.perf_counter_ns()
        for instance in crew:
            instance.limit.start(started)

    barrier = threading.Barrier(instances, action=start)
    with ThreadPoolExecutor(instances, thread_name_prefix="instance") as pool:
        futures = [pool.submit(instance.serve, set_size, barrier) for instance in crew]
    for future in futures:
        future.result()
    ended = max(instance.last_return for instance in crew)
    return EngineResult(
        [instance.completed for instance in crew],
        (ended - started) // 1000,
        [np.array(instance.stamps, dtype=np.int64).reshape(-1, _WIDTH) for instance in crew],
        {(0, index): found for index, found in crew[0].kept.items()},
    )


def _run_modelled(
    program: Program,
    instances: int,
    set_size: int,
    until: Until,
    elements: Sequence[Mapping[str, Array]],
    profile: Window,
    keep: Window,
    heavy_tail: bool,
    turn: AbstractContextManager[None],
    slowness: float,
) -> EngineResult:
    started = time.monotonic()
    setup = setup_of(program, instances, set_size)
    cycle = timing.cycle_seconds(program.features, setup) * slowness
    counts = _modelled_counts(cycle, instances, set_size, until)
    kept = range(keep.start, min(keep.end, counts[0]))
    wanted = sorted({index % len(elements) for index in kept})
    found = {}
    if wanted:
        with turn:
            found = dict(
                zip(wanted, program.compute_apart([elements[place] for place in wanted]), strict=True)
            )
    duration = max(counts) * cycle
    sigma = _HEAVY_TAIL if heavy_tail else timing.spread(program.features, setup)
    rows = [
        _modelled_rows(set_size, cycle, sigma, count, seed=number)[profile.start : profile.end]
        for number, count in enumerate(counts)
    ]
    time.sleep(max(0.0, started + duration - time.monotonic()))
    outputs = {(0, index): found[index % len(elements)] for index in kept}
    return EngineResult(counts, round(duration * 1e6), rows, outputs)


def setup_of(program: Program, instances: int, set_size: int) -> timing.Setup:
    """The timing model's view of a program and how it is run."""
    flags: Mapping[str, Any] = program.description.get("flags", {})
    return timing.Setup(
        program.batch_size,
        program.cores,
        instances,
        set_size,
        bool(flags.get("multicast_weights")),
        flags.get("mos"),
        flags.get("ols"),
    )


def _modelled_counts(cycle: float, instances: int, set_size: int, until: Until) -> list[int]:
    """Inferences of each instance."""
    if until.seconds is not None:
        return [max(1, math.ceil(until.seconds / cycle)) + set_size - 1] * instances
    return until.counts(instances)


def _modelled_rows(set_size: int, cycle: float, sigma: float, count: int, seed: int) -> NDArray[np.int64]:
    """Rows as a measured run would leave them: the first ones wait less, for the queue was still short."""
    if not count:
        return np.empty((0, _WIDTH), dtype=np.int64)
    places = np.minimum(np.arange(count) + 1, set_size)
    total = places * timing.latencies(cycle, sigma, count, seed) * 1e9
    called = np.arange(count) * cycle * 1e9
    rows = np.empty((count, _WIDTH))
    rows[:, 0] = called
    # Host steps shrink with the inference where that is shorter than they are.
    scale = np.minimum(1.0, total / (4e3 * _HOST_STAMPS_US[-1]))
    for column, host_us in enumerate(_HOST_STAMPS_US, start=1):
        rows[:, column] = called + host_us * 1e3 * scale
    rows[:, 4] = called + total - _POST_US * 1e3 * scale
    rows[:, 5] = called + total
    rows[:, 6] = places - 1
    rows[:, 7] = places
    return np.asarray(rows.round(), dtype=np.int64)
