"""What the Python modules of an emulated root refuse, and what they leave to chance as the SDK's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.emulator import write_root
from tests.emulator.emulated import write_scenario
from tests.emulator.programs import PRELUDE, child, compile_to, two_outputs

LOW_LEVEL = (
    PRELUDE
    + """
context = qaicrt.Context(qaicrt.QIDList([0]))
program = qaicrt.Qpc(path.rsplit("/", 1)[0])
mappings = program.getBufferMappings()
"""
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("options") / "root"
    write_root(directory, cards=1)
    return directory


@pytest.fixture(scope="module")
def qpc(root: Path) -> Path:
    return compile_to(root, root.parent / "qpc", two_outputs()) / "programqpc.bin"


def run(root: Path, qpc: Path, script: str, scenario: Path | None = None) -> Any:
    return child(root, script, str(qpc), scenario=scenario)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("num_activation=2", "num_activation is not an option of Session"),
        ("devid=0", "devid is not an option of Session"),
        ("aic_num_cores=2, oversubscription_name='group'", "fine"),
        ("time_passes=True, custom_io_list_file='x.yaml'", "fine"),
    ],
)
def test_a_session_refuses_options_it_does_not_know(root: Path, qpc: Path, options: str, found: str) -> None:
    script = f"""
try:
    qaic.Session(path, {options})
    print(json.dumps("fine"))
except ValueError as error:
    print(json.dumps(str(error)))"""
    assert run(root, qpc, PRELUDE + script) == found


def test_a_vector_is_random_until_it_is_set(root: Path, qpc: Path) -> None:
    script = """
s = qaicrt.InferenceSet(context, program, 0, 1, 1)
vectors = [qaicrt.InferenceVector(mappings).getVector() for _ in range(2)]
print(json.dumps({
    "sizes": [len(buffer) for buffer in vectors[0]] == [m.size for m in mappings],
    "same": vectors[0] == vectors[1],
    "ids": sorted(set(np.frombuffer(vectors[0][0], np.int64).tolist())),
    "runs": [int(s.submit(qaicrt.InferenceVector(mappings), 0)), int(s.getCompletedId(0)[0])],
}))"""
    assert run(root, qpc, LOW_LEVEL + script) == {"sizes": True, "same": False, "ids": [0, 1], "runs": [0, 0]}


@pytest.mark.parametrize("waits", [True, False])
def test_completion_calls_wait_or_answer_again(root: Path, qpc: Path, tmp_path: Path, waits: bool) -> None:
    slow = {"tool": "api", "fault": "slow", "factor": 1000}
    scenario = write_scenario(tmp_path / "scenario.json", slow, options={"completed_waits": waits})
    script = """
s = qaicrt.InferenceSet(context, program, 0, 2, 1)
statuses = []
for get in (lambda: s.getCompletedId(5), s.getCompleted):
    s.submit(qaicrt.InferenceVector(mappings), 5)
    statuses.append(int(get()[0]))
    s.waitForCompletion()
    if statuses[-1] == 2:
        status, handle = get()
        assert int(status) == 0
        s.putCompleted(handle)
print(json.dumps(statuses))"""
    assert run(root, qpc, LOW_LEVEL + script, scenario) == ([0, 0] if waits else [2, 2])
