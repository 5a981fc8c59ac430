"""`qaicrt` of an emulated root: the low-level objects, their slots and their statuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farm.emulator import write_root
from tests.emulator.programs import BATCH, PRELUDE, child, compile_to, element, reference, two_outputs

SETUP = (
    PRELUDE
    + """
ids = qaicrt.QIDList(); ids.append(0)
context = qaicrt.Context(ids)
program = qaicrt.Qpc(path.rsplit("/", 1)[0])
mappings = program.getBufferMappings()
IN = qaicrt.BufferIoTypeEnum.BUFFER_IO_TYPE_INPUT
OK = qaicrt.QStatus.QS_SUCCESS
def vector(seed):
    v = qaicrt.InferenceVector(mappings)
    for m in mappings:
        if m.ioType == IN:
            v.getVector()[m.index] = qaicrt.QBuffer(inputs(seed)[m.bufferName].tobytes())
    return v
index = {m.bufferName: m.index for m in mappings}
def tokens(handle):
    status, data = handle.execObj().getData()
    assert status == OK
    return np.frombuffer(data[index["tokens"]], np.float32)
"""
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("qaicrt") / "root"
    write_root(directory, cards=1)
    return directory


@pytest.fixture(scope="module")
def qpc(root: Path) -> Path:
    return compile_to(root, root.parent / "qpc", two_outputs()) / "programqpc.bin"


def run(root: Path, qpc: Path, script: str) -> object:
    return child(root, SETUP + script, str(qpc))


def test_mappings_list_inputs_and_outputs(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
print(json.dumps([[m.bufferName, m.index, int(m.ioType), m.size, int(m.dataType)] for m in mappings]))""",
    )
    assert found == [
        ["input_ids", 0, 1, 192, 7],
        ["attention_mask", 1, 1, 192, 7],
        ["tokens", 2, 2, 1536, 0],
        ["pool/mean", 3, 2, 192, 0],
    ]


def test_each_id_gets_its_own_outputs_in_any_order(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaicrt.InferenceSet(context, program, ids[0], 4, 2)
for n in range(8):
    assert s.submit(vector(n), n) == OK
got = {}
for n in reversed(range(8)):
    status, handle = s.getCompletedId(n)
    assert status == OK and handle.getId() == n
    got[n] = tokens(handle).tolist()
    assert s.putCompleted(handle) == OK
s.waitForCompletion()
print(json.dumps([got[n] for n in range(8)]))""",
    )
    expected = [reference(two_outputs(), element(n))["tokens"].ravel() for n in range(8)]
    assert np.abs(np.array(found) - expected).max() < 5e-3


def test_submission_stalls_until_a_handle_is_put_back(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaicrt.InferenceSet(context, program, 0, setSize=2, numActivations=2)
for n in range(4):
    s.submit(vector(n), n)
s.waitForCompletion()
seen = [int(s.getAvailable()[0])]
fifth = threading.Thread(target=s.submit, args=(vector(4), 4)); fifth.start()
fifth.join(0.3); seen.append(fifth.is_alive())
status, handle = s.getCompleted(); s.putCompleted(handle)
fifth.join(10); seen.append(fifth.is_alive())
status, handle = s.getCompletedId(4); seen += [int(status), handle.getId()]
print(json.dumps(seen))""",
    )
    assert found == [2, True, False, 0, 4]


def test_a_thread_for_each_inference_as_the_sample_has_it(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaicrt.InferenceSet(context, program, ids[0], 4, 7)
v, threads = vector(0), []
def complete(n):
    status, handle = s.getCompletedId(n)
    s.putCompleted(handle)
for n in range(300):
    s.submit(v, n)
    t = threading.Thread(target=complete, args=(n,)); threads.append(t); t.start()
for t in threads:
    t.join()
s.waitForCompletion()
held = free(); del s
print(json.dumps([held, free()]))""",
    )
    assert found == [0, 14]


def test_zero_copy_loop(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaicrt.InferenceSet(context, program, 0, 1, 1)
status, handle = s.getAvailable()
handle.setBuffers(vector(3).getVector())
s.submit(handle, 9)
status, done = s.getCompleted()
print(json.dumps([done.getId(), tokens(done).tolist()]))""",
    )
    assert isinstance(found, list)
    assert found[0] == 9
    assert np.abs(np.array(found[1]) - reference(two_outputs(), element(3))["tokens"].ravel()).max() < 5e-3


@pytest.mark.parametrize(("action", "argument", "low"), [("run", 25, 25), ("runForDuration", 0.4, 1)])
def test_the_benchmark_set(root: Path, qpc: Path, action: str, argument: float, low: int) -> None:
    found = run(
        root,
        qpc,
        f"""
b = qaicrt.InferenceBenchmarkSet(context, program, 0, 2, 2, vector(0))
before = int(b.run(1))
b.enable(); held = free()
status = int(b.{action}({argument}))
print(json.dumps([before, held, status, b.getLastRunStats(), b.getInfCompleted(), b.disable(), free()]))""",
    )
    assert isinstance(found, list)
    before, held, status, (count, rate, microseconds, batch), completed, disabled, free = found
    assert (before, held, status, disabled, free) == (500, 10, 0, 0, 14)
    assert count == completed >= low
    assert batch == BATCH
    assert rate == pytest.approx(count * 1e6 / microseconds)  # executions, not samples


def test_by_hand(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
p = qaicrt.Program(context, 0, program, qaicrt.QAicProgramProperties())
q = qaicrt.Queue(context, p, qaicrt.QAicQueueProperties())
states = [int(p.getStatus()), int(p.load()), int(p.getStatus()), free(), int(p.activate()), free()]
objects = [qaicrt.ExecObj(context, p) for _ in range(5)]
for n, o in enumerate(objects):
    o.setData(vector(n).getVector()); assert q.enqueue(o) == OK
same = []
for o in objects:
    assert o.waitForCompletion() == OK
    status, data = o.getData()
    same.append(len(np.frombuffer(data[index["tokens"]], np.float32)))
p.deactivate()
print(json.dumps([states, same, free()]))""",
    )
    assert found == [[0, 0, 1, 14, 0, 12], [384] * 5, 14]


def test_util(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
u = qaicrt.Util()
status, info = u.getDeviceInfo(0)
print(json.dumps([u.getDeviceIds(), int(info.devStatus), info.qid, info.devData.resourceInfo.nspTotal,
                  info.devData.resourceInfo.dramTotal, u.getAicVersion()[1:3], int(u.getDeviceInfo(9)[0]),
                  int(u.checkLibraryVersion()), int(u.lockDevice(0, True, False))]))""",
    )
    assert found == [[0, [0]], 1, 0, 14, 16308, [1, 21], 5, 0, 11]


@pytest.mark.parametrize(
    "call",
    [
        "qaicrt.Context(qaicrt.QIDList([5]))",
        "qaicrt.Qpc(path)",
        "qaicrt.InferenceSet(context, program, 0, 1, 8)",
    ],
)
def test_what_cannot_be_had_raises(root: Path, qpc: Path, call: str) -> None:
    script = f"""
try:
    {call}
    print(json.dumps("fine"))
except RuntimeError:
    print(json.dumps("refused"))"""
    assert run(root, qpc, script) == "refused"


def test_a_buffer_of_the_wrong_size_is_invalid(root: Path, qpc: Path) -> None:
    script = """
v = vector(0); v.getVector()[0] = qaicrt.QBuffer(b"short")
s = qaicrt.InferenceSet(context, program, 0, 1, 1)
print(json.dumps([int(s.submit(v, 0)), int(s.submit(vector(0), 1))]))"""
    assert run(root, qpc, script) == [6, 0]
