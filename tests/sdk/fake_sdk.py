"""A folder with modules `qaic` and `qaicrt` that behave as told and note what was done with them.

They stand for an SDK whose calls go wrong, or whose answers to what no source states differ from the
emulated one's; the emulated SDK is used wherever it can show the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_QAIC = """
import json, os, time
HERE = os.path.dirname(__file__)
TOLD = json.load(open(os.path.join(HERE, "told.json")))
def note(event):
    with open(os.path.join(HERE, "events"), "a") as file:
        file.write(event + "\\n")
class Session:
    def __init__(self, path, dev_id, num_activations, set_size):
        self.in_flight = num_activations * set_size
    def setup(self):
        note("setup")
        if TOLD["setup"]:
            raise RuntimeError(TOLD["setup"])
    def run_benchmark(self, inf_time, input_dict):
        if TOLD["benchmark"]:
            raise RuntimeError(TOLD["benchmark"])
        time.sleep(inf_time)
        rate = self.in_flight / TOLD["latency_s"]
        return round(rate * inf_time), rate, inf_time, 2
    def run(self, inputs):
        return {"last/hidden": bytes(2 * 16 * 32 * 4), "pooled": bytes(2 * 32 * 4)}
    def reset(self):
        note("reset")
        if TOLD["reset"]:
            raise RuntimeError(TOLD["reset"])
"""
_QAICRT = """
import enum, itertools, threading, time
from types import SimpleNamespace
from qaic import TOLD, note
class QStatus(enum.Enum):
    QS_SUCCESS = 0
    QS_AGAIN = 2
    QS_TIMEDOUT = 9
class BufferIoTypeEnum(enum.Enum):
    BUFFER_IO_TYPE_INPUT = 1
    BUFFER_IO_TYPE_OUTPUT = 2
OK = QStatus.QS_SUCCESS
def answer(call):
    return QStatus.QS_TIMEDOUT if call == TOLD["bad_status"] else OK
class QIDList(list):
    pass
QBuffer = bytes
def Context(qids):
    return qids
class Qpc:
    def __init__(self, path):
        pass
    def getBufferMappings(self):
        return [
            SimpleNamespace(bufferName=name, index=index, ioType=BufferIoTypeEnum(kind))
            for index, (name, kind) in enumerate(TOLD["mappings"])
        ]
class InferenceVector:
    def __init__(self, mappings):
        self.buffers = [b"random" for _ in mappings]
    def getVector(self):
        return self.buffers
class InferenceSet:
    refused = 0
    def __init__(self, context, program, device, set_size, activations):
        if InferenceSet.refused < TOLD["refusals"]:
            InferenceSet.refused += 1
            note("refused")
            raise RuntimeError("Failed to allocate NSP resources\\nError activating programContextId:0")
        note("activated")
        self.capacity = activations * set_size
        self.changed = threading.Condition()
        self.in_flight = {}
        self.full = False
    def submit(self, vector, identity):
        with self.changed:
            self.in_flight[identity] = time.perf_counter()
            note("in flight %d" % len(self.in_flight))
            note("buffers " + " ".join(buffer.hex() for buffer in vector.buffers))
            self.full = self.full or len(self.in_flight) == self.capacity
            self.changed.notify_all()
        return answer("submit")
    def getCompletedId(self, identity):
        with self.changed:
            if not self.changed.wait_for(lambda: self.full, 20):
                note("never full")
        time.sleep(max(0.0, self.in_flight[identity] + TOLD["latency_s"] - time.perf_counter()))
        return answer("getCompletedId"), identity
    def putCompleted(self, identity):
        with self.changed:
            del self.in_flight[identity]
        return answer("putCompleted")
    def waitForCompletion(self):
        return answer("waitForCompletion")
"""


@dataclass(frozen=True)
class FakeSdk:
    """The folder, to be given as the SDK's library folder."""

    folder: Path

    @property
    def events(self) -> list[str]:
        """What was done with the modules, in order."""
        return (self.folder / "events").read_text().splitlines()


def fake_sdk(folder: Path, **told: Any) -> FakeSdk:
    """Modules of the small model's program (tests/stages/small_model.py).

    setup, benchmark, reset: messages these calls raise. refusals: of the first InferenceSets. bad_status: the
    call that answers QS_TIMEDOUT. mappings: buffers as (name, 1 for an input else 2). latency_s: of each
    inference.
    """
    behaviour: dict[str, Any] = {
        "setup": None,
        "benchmark": None,
        "reset": None,
        "refusals": 0,
        "bad_status": None,
        "latency_s": 0.005,
        "mappings": [["input_ids", 1], ["attention_mask", 1], ["last/hidden", 2], ["pooled", 2]],
    }
    assert set(told) <= set(behaviour)
    folder.mkdir()
    (folder / "qaic.py").write_text(_QAIC)
    (folder / "qaicrt.py").write_text(_QAICRT)
    (folder / "told.json").write_text(json.dumps({**behaviour, **told}))
    return FakeSdk(folder)
