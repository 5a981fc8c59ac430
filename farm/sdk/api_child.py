"""The card run of the `api` route, as a script for the SDK's own interpreter (3.8 syntax, numpy alone).

    python api_child.py REQUEST.json QPC_DIR OUTPUT_DIR

Throughput is `qaic.Session.run_benchmark`'s. The outputs come from a threaded `Session.run`, the latencies
from a `qaicrt.InferenceSet` with instances x set size requests in flight, each timed from its submission to
its completion. stdout is the SDK's to write on: the answer is OUTPUT_DIR/answer.json, made last.

Source: Cloud AI SDK docs, Python-API (docs/sdk.md, "Python APIs").
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

#: How far a figure may lie from the one measured here to be taken as the same.
TOLERANCE = 0.2
#: Seconds for a card to take the program again after it was let go: its NSPs get free with a lag.
ACTIVATE_S = 30.0
ACTIVATE_PAUSE_S = 0.5
#: Seconds for one inference to complete, where the SDK does not wait for it itself.
COMPLETE_S = 30.0
COMPLETE_PAUSE_S = 0.0001
ANSWER = "answer.json"


class Refused(Exception):
    """The run cannot be believed or carried on; the message is for the log."""


def samples_per_second(rate: float, completed: int, elapsed_s: float, batch: int) -> float:
    """The benchmark's rate in samples per second, whether it counts executions or samples.

    The documents contradict each other, so the count and the clock decide.
    """
    executions = completed / elapsed_s
    if abs(rate / executions - 1) <= TOLERANCE:
        return rate * batch
    if abs(rate / (executions * batch) - 1) <= TOLERANCE:
        return rate
    raise Refused(
        "run_benchmark's rate %r fits neither executions (%.3f/s) nor samples (batch %d)"
        % (rate, executions, batch)
    )


def microseconds(told: float, elapsed_s: float) -> int:
    """The benchmark's own duration in us: told in s, ms or us, whichever fits the clock; else the clock's."""
    for unit in (1e6, 1e3, 1.0):
        if abs(told * unit / (elapsed_s * 1e6) - 1) <= TOLERANCE:
            return round(told * unit)
    return round(elapsed_s * 1e6)


def file_name(output: str) -> str:
    """The file of an output's first inference, named as the runner names it."""
    return "%s-activation-0-inf-0.bin" % output.replace("/", "_")


def load(library_dir: Path) -> Tuple[Any, Any]:
    """The modules qaic and qaicrt."""
    sys.path[1:1] = [str(library_dir)] + [str(wheel) for wheel in sorted(library_dir.glob("qaic-*.whl"))]
    try:
        import qaic
        import qaicrt
    except ImportError as error:
        version = "%d.%d" % sys.version_info[:2]
        raise Refused(
            "the SDK's modules in %s cannot be imported by Python %s (built for another one? "
            "set FARM_SDK_PYTHON): %s" % (library_dir, version, error)
        ) from error
    return qaic, qaicrt


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do work(0) .. work(count - 1) at the same time; the first error is raised when all have ended."""
    errors: List[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def as_bytes(value: Any) -> bytes:
    """An output's bytes in C order, whether the SDK gives an array or a buffer."""
    return np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else bytes(value)


def benchmark(
    qaic: Any, request: Dict[str, Any], inputs: Dict[str, Any], qpc: Path, output_dir: Path
) -> Dict[str, Any]:
    """Rate by run_benchmark; outputs by instances x set size threads, which must all agree."""
    in_flight = request["instances"] * request["set_size"]
    session = qaic.Session(
        str(qpc / "programqpc.bin"),
        dev_id=request["qid"],
        num_activations=request["instances"],
        set_size=request["set_size"],
    )
    try:
        session.setup()
        started = time.perf_counter()
        completed, rate, told, batch = session.run_benchmark(inf_time=request["seconds"], input_dict=inputs)
        elapsed = time.perf_counter() - started
        if completed <= 0:
            raise Refused("run_benchmark completed nothing in %.1f s" % elapsed)
        if batch != request["batch_size"]:
            raise Refused("the program's batch is %r, not %r" % (batch, request["batch_size"]))
        answers: List[Dict[str, bytes]] = [{} for _ in range(in_flight)]

        def run(number: int) -> None:
            answers[number] = {name: as_bytes(value) for name, value in session.run(inputs).items()}

        in_threads(in_flight, run)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            session.reset()
        raise
    session.reset()
    for name, content in answers[0].items():
        (output_dir / file_name(name)).write_bytes(content)
    return {
        "inferences": int(completed),
        "duration_us": microseconds(float(told), elapsed),
        "throughput_inf_s": samples_per_second(float(rate), int(completed), elapsed, int(batch)),
        "outputs_agree": all(answer == answers[0] for answer in answers),
    }


def activated_again(qaicrt: Any, request: Dict[str, Any], context: Any, program: Any, device: int) -> Any:
    """An InferenceSet, retried while the card still counts the session's NSPs as taken.

    Raises Refused when that lasts: the program fitted a moment ago, so nothing is gained by waiting longer.
    """
    deadline = time.perf_counter() + ACTIVATE_S
    while True:
        try:
            return qaicrt.InferenceSet(context, program, device, request["set_size"], request["instances"])
        except Exception as error:  # the SDK names no class of its own
            if time.perf_counter() >= deadline:
                raise Refused(
                    "the card refused the program a second time, for %.0f s after the benchmark let it go: %s"
                    % (ACTIVATE_S, one_line(error))
                ) from error
        time.sleep(ACTIVATE_PAUSE_S)


def wait_for(qaicrt: Any, inference_set: Any, identity: int) -> Any:
    """The handle of a submitted inference, whether getCompletedId waits for it or answers QS_AGAIN."""
    deadline = time.perf_counter() + COMPLETE_S
    while True:
        status, handle = inference_set.getCompletedId(identity)
        if status != qaicrt.QStatus.QS_AGAIN:
            check(qaicrt, status, "getCompletedId")
            return handle
        if time.perf_counter() >= deadline:
            raise Refused("qaicrt: getCompletedId still answered QS_AGAIN after %.0f s" % COMPLETE_S)
        time.sleep(COMPLETE_PAUSE_S)


def check(qaicrt: Any, status: Any, call: str) -> None:
    """Refuse every status but success."""
    if status != qaicrt.QStatus.QS_SUCCESS:
        raise Refused("qaicrt: %s answered %s" % (call, getattr(status, "name", status)))


def latencies(qaicrt: Any, request: Dict[str, Any], inputs: Dict[str, Any], qpc: Path) -> List[Any]:
    """Latencies in ms, an array per activation's share of the slots, in the order of completion."""
    devices = qaicrt.QIDList()
    devices.append(request["qid"])
    context = qaicrt.Context(devices)
    program = qaicrt.Qpc(str(qpc))
    mappings = program.getBufferMappings()
    instances, in_flight = request["instances"], request["instances"] * request["set_size"]
    inference_set = activated_again(qaicrt, request, context, program, devices[0])
    samples: List[List[Tuple[float, float]]] = [[] for _ in range(in_flight)]
    deadline = time.perf_counter() + request["seconds"]

    def slot(number: int) -> None:
        vector = qaicrt.InferenceVector(mappings)
        for mapping in mappings:
            if mapping.ioType == qaicrt.BufferIoTypeEnum.BUFFER_IO_TYPE_INPUT:
                vector.getVector()[mapping.index] = qaicrt.QBuffer(inputs[mapping.bufferName].tobytes())
        identity = number
        while True:
            submitted = time.perf_counter()
            check(qaicrt, inference_set.submit(vector, identity), "submit")
            handle = wait_for(qaicrt, inference_set, identity)
            ended = time.perf_counter()
            check(qaicrt, inference_set.putCompleted(handle), "putCompleted")  # else its slot stays taken
            samples[number].append((ended, (ended - submitted) * 1e3))
            if ended >= deadline:
                return
            identity += in_flight

    in_threads(in_flight, slot)
    check(qaicrt, inference_set.waitForCompletion(), "waitForCompletion")
    shares = [sorted(itertools.chain(*samples[first::instances])) for first in range(instances)]
    return [np.array([latency for _, latency in share]) for share in shares]


def one_line(error: BaseException) -> str:
    """An error as one line: SDK messages have several, and the first says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines) or type(error).__name__


def reason(error: BaseException) -> str:
    """What the log's last line says of an error: a refusal as it is, any other by its kind and place."""
    if isinstance(error, Refused):
        return str(error)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
    where = " (%s, line %s)" % (places[-1].name, places[-1].lineno) if places else ""
    return "%s%s: %s" % (type(error).__name__, where, one_line(error))


def main(argv: List[str]) -> int:
    """Do what the request says; 0, or 1 with the reason on stderr."""
    request_path, qpc, output_dir = (Path(word) for word in argv[1:])
    request = json.loads(request_path.read_text())
    try:
        qaic, qaicrt = load(Path(request["library_dir"]))
        inputs = {
            item["name"]: np.fromfile(str(request_path.parent / item["path"]), item["dtype"]).reshape(
                item["dims"]
            )
            for item in request["inputs"]
        }
        answer = benchmark(qaic, request, inputs, qpc, output_dir)
        for number, values in enumerate(latencies(qaicrt, request, inputs, qpc)):
            np.save(str(output_dir / ("latency-activation-%d.npy" % number)), values)
    except Exception as error:
        sys.stdout.flush()
        print("api_child: %s" % reason(error), file=sys.stderr)
        return 1
    (output_dir / ANSWER).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
