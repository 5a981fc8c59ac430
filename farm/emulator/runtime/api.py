"""What the Python modules `qaic` and `qaicrt` share: their root, and an activated program to submit to."""

from __future__ import annotations

import platform
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from . import engine, misbehave, scenario, settings, spoil, timing, turns
from .card import ActivateError, Activation, Cards
from .program import RUN_ERRORS, Array, Program
from .program import load as program_load

TOOL = "api"
#: The root this package was copied into: <root>/lib/emulator/api.py.
ROOT = Path(__file__).resolve().parents[2]
_CACHED_RESULTS = 8

_announced = False


def imported() -> None:
    """What importing one of the modules does: fail where the scenario asks; old SDKs name the library."""
    global _announced
    if scenario.load(ROOT).fault(TOOL, "import-error") is not None:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise ImportError(
            "Python version mismatch: module was compiled for Python 3.8, but the interpreter version is "
            f"incompatible: {found}."
        )
    if not _announced and not settings.load(ROOT).modern:
        print(f"loading {ROOT}/dev/lib/{platform.machine()}/libQAic.so", flush=True)
    _announced = True


def load(directory: Path) -> Program:
    """Load a program; under measured timing its session is made now. Raises OSError and qpc.BadQpc."""
    loaded = program_load(directory)
    if settings.load(ROOT).timing == "measured":
        _ = loaded.session
    return loaded


class Request:
    """One inference on its way: what was submitted, and what came of it."""

    def __init__(self, number: int, inputs: Mapping[str, Array]) -> None:
        self.number = number
        self.inputs = inputs
        self.outputs: dict[str, Array] = {}
        self.error: Exception | None = None
        self.done = threading.Event()


class Active:
    """A program activated `instances` times on one card, computing what is submitted, in the background.

    At most instances x set_size requests are in flight; a slot is free again when its request is released.
    Raises RuntimeError with the SDK's text when the card refuses.
    """

    def __init__(self, program: Program, qid: int, instances: int, set_size: int) -> None:
        self.program = program
        self.qid = qid
        self.instances = instances
        self.set_size = set_size
        self.settings = settings.load(ROOT)
        self.scenario = scenario.load(ROOT)
        self._slots = threading.Semaphore(instances * set_size)
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pending = 0
        self._completed: dict[int, list[Request]] = {}
        self._known: dict[int, int] = {}
        self._results: dict[tuple[bytes, ...], dict[str, Array]] = {}
        self._computing = threading.Lock()
        try:
            self._activation: Activation | None = Cards(ROOT, self.scenario).activate(
                qid, program.cores, instances, str(program.path.parent), program.weight_bytes
            )
        except ActivateError as error:
            raise RuntimeError(error.text) from error
        self._slowness = misbehave.at_start(self.scenario, TOOL, qid)
        if misbehave.death(self.scenario, TOOL, qid) is not None:
            self.close()
            raise RuntimeError("Failed to activate program")
        for number in range(instances):
            threading.Thread(target=self._serve, name=f"instance-{number}", daemon=True).start()

    def close(self) -> None:
        """Give the card its cores back; the instances end after what is queued. May be called twice."""
        activation, self._activation = self._activation, None
        if activation is not None:
            activation.close()
            for _ in range(self.instances):
                self._waiting.put(None)

    def acquire(self, timeout: float | None = None) -> bool:
        """Take a slot, waiting for one, by default for ever; False when none came free in time."""
        return self._slots.acquire(timeout=timeout) if timeout != 0 else self._slots.acquire(blocking=False)

    def submit(self, request: Request) -> None:
        """Queue a request whose slot was acquired."""
        if self._activation is None:
            raise RuntimeError("The program is not activated")
        with self._changed:
            self._pending += 1
            self._known[request.number] = self._known.get(request.number, 0) + 1
        self._waiting.put(request)

    def release(self, request: Request) -> None:
        """The request was read: its slot is free."""
        with self._changed:
            left = self._known.get(request.number, 1) - 1
            self._known.pop(request.number, None)
            if left:
                self._known[request.number] = left
        self._slots.release()

    def take(self, number: int | None = None, timeout: float | None = None) -> Request | None:
        """A completed request, any or that of a number; None when it is unknown or time is up."""

        def found() -> bool:
            return bool(self._completed if number is None else self._completed.get(number))

        with self._changed:
            if number is not None and number not in self._known:
                return None
            if not self._changed.wait_for(found, timeout):
                return None
            key = next(iter(self._completed)) if number is None else number
            request = self._completed[key].pop(0)
            if not self._completed[key]:
                del self._completed[key]
            return request

    def drain(self) -> None:
        """Wait until nothing submitted is left to compute."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending == 0)

    @property
    def modelled(self) -> bool:
        """Whether times come from the card model."""
        return self.settings.timing == "modelled"

    def benchmark(self, until: engine.Until, inputs: Mapping[str, Array]) -> engine.EngineResult:
        """Run the same inputs over and over with every slot in use."""
        return engine.run(
            self.program, self.instances, self.set_size, until, [inputs],
            modelled=self.modelled, slowness=self._slowness,
        )  # fmt: skip

    def rate(self, result: engine.EngineResult) -> float:
        """The rate the SDK reports: executions, or samples, per second, as the scenario has it."""
        executions = result.inferences * 1e6 / result.duration_us
        samples = self.scenario.option("rate_convention") == "samples"
        return executions * (self.program.batch_size if samples else 1)

    def _serve(self) -> None:
        cycle = timing.cycle_seconds(
            self.program.features, engine.setup_of(self.program, self.instances, self.set_size)
        )
        free_at = 0.0
        while (request := self._waiting.get()) is not None:
            started = time.monotonic()
            try:
                request.outputs = spoil.outputs(self._compute(request.inputs), self.scenario, TOOL, self.qid)
            except RUN_ERRORS as error:  # handed to whoever waits for this request
                request.error = error
            if self.modelled:
                free_at = max(started, free_at) + cycle
                time.sleep(max(0.0, free_at - time.monotonic()))
            time.sleep((time.monotonic() - started) * (self._slowness - 1))
            with self._changed:
                self._pending -= 1
                self._completed.setdefault(request.number, []).append(request)
                self._changed.notify_all()
            request.done.set()

    def _compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if not self.modelled:
            return self.program.compute(inputs)
        # Modelled time must not depend on this CPU: the same inputs are computed once.
        key = tuple(inputs[binding.name].tobytes() for binding in self.program.inputs)
        with self._computing:
            if key not in self._results:
                if len(self._results) >= _CACHED_RESULTS:
                    self._results.clear()
                with turns.turn(self.settings.state):
                    (self._results[key],) = self.program.compute_apart([inputs])
            found = self._results[key]
        return {name: value.copy() for name, value in found.items()}
