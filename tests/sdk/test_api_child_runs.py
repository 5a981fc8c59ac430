"""What the API child does with the SDK's modules: it resets, says why in one line, and ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farm.sdk import api_child
from farm.sdk.api_child import Refused, activated_again, wait_for
from tests.sdk.fake_sdk import FakeSdk, fake_sdk

IDS, MASK = np.arange(32, dtype=np.int64).reshape(2, 16), np.ones((2, 16), np.int64)


@dataclass(frozen=True)
class Ran:
    status: int
    last_line: str
    text: str
    sdk: FakeSdk
    output_dir: Path

    @property
    def answered(self) -> bool:
        return (self.output_dir / api_child.ANSWER).exists()


def run(tmp_path: Path, *, instances: int = 3, set_size: int = 2, **told: Any) -> Ran:
    """Run the child for a moment on modules that behave as told."""
    sdk = fake_sdk(tmp_path / "library", **told)
    output_dir = tmp_path / "out"
    output_dir.mkdir()
    inputs = []
    for name, values in (("attention_mask", MASK), ("input_ids", IDS)):
        values.tofile(tmp_path / f"{name}.raw")
        inputs.append({"name": name, "path": f"{name}.raw", "dtype": "int64", "dims": [2, 16]})
    request = {
        "library_dir": str(sdk.folder),
        "qid": 0,
        "instances": instances,
        "set_size": set_size,
        "batch_size": 2,
        "seconds": 0.1,
        "inputs": inputs,
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    argv = [
        sys.executable,
        str(api_child.__file__),
        str(tmp_path / "request.json"),
        str(tmp_path),
        str(output_dir),
    ]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    said = ran.stdout + ran.stderr
    return Ran(ran.returncode, said.splitlines()[-1] if said else "", said, sdk, output_dir)


@pytest.mark.parametrize(("instances", "set_size"), [(1, 1), (3, 2), (2, 5)])
def test_exactly_instances_times_set_size_are_in_flight(
    tmp_path: Path, instances: int, set_size: int
) -> None:
    ran = run(tmp_path, instances=instances, set_size=set_size)
    assert ran.status == 0, ran.text
    counts = [int(event.split()[-1]) for event in ran.sdk.events if event.startswith("in flight")]
    assert max(counts) == instances * set_size
    assert len(counts) > instances * set_size
    assert "never full" not in ran.sdk.events
    assert len(list(ran.output_dir.glob("latency-activation-*.npy"))) == instances


@pytest.mark.parametrize(
    "mappings",
    [
        [["pooled", 2], ["last/hidden", 2], ["attention_mask", 1], ["input_ids", 1]],
        [["input_ids", 1], ["pooled", 2], ["attention_mask", 1], ["last/hidden", 2]],
    ],
)
def test_buffers_are_filled_by_name_wherever_the_outputs_stand(
    tmp_path: Path, mappings: list[list[Any]]
) -> None:
    ran = run(tmp_path, mappings=mappings)
    assert ran.status == 0, ran.text
    content = {"input_ids": IDS.tobytes().hex(), "attention_mask": MASK.tobytes().hex()}
    expected = " ".join(content.get(name, b"random".hex()) for name, _ in mappings)
    sent = {event.removeprefix("buffers ") for event in ran.sdk.events if event.startswith("buffers ")}
    assert sent == {expected}


@pytest.mark.parametrize("call", ["submit", "getCompletedId", "putCompleted", "waitForCompletion"])
def test_a_bad_status_ends_the_run(tmp_path: Path, call: str) -> None:
    ran = run(tmp_path, bad_status=call)
    assert (ran.status, ran.answered) == (1, False)
    assert ran.last_line == f"api_child: qaicrt: {call} answered QS_TIMEDOUT"


@pytest.mark.parametrize("step", ["setup", "benchmark"])
@pytest.mark.parametrize("reset", [None, "not active"])
def test_after_an_error_the_session_is_reset_and_one_line_says_why(
    tmp_path: Path, step: str, reset: str | None
) -> None:
    told: dict[str, Any] = {step: "the card went away\n[at line 3]\n", "reset": reset}
    ran = run(tmp_path, **told)
    assert (ran.status, ran.answered) == (1, False)
    assert ran.sdk.events == ["setup", "reset"]
    assert ran.last_line.startswith("api_child: RuntimeError (benchmark, line ")
    assert ran.last_line.endswith("): the card went away; [at line 3]")
    assert "Traceback" not in ran.text


def test_the_second_activation_is_tried_again(tmp_path: Path) -> None:
    ran = run(tmp_path, refusals=2)
    assert (ran.status, ran.answered) == (0, True), ran.text
    assert ran.sdk.events[:5] == ["setup", "reset", "refused", "refused", "activated"]


def test_a_second_activation_refused_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_child, "ACTIVATE_S", 0.02)
    monkeypatch.setattr(api_child, "ACTIVATE_PAUSE_S", 0.01)

    def refuse(*_: object) -> None:
        raise RuntimeError("Failed to allocate\nNSP resources")

    request = {"set_size": 1, "instances": 1}
    with pytest.raises(Refused, match=r"refused the program a second time.*allocate; NSP resources"):
        activated_again(SimpleNamespace(InferenceSet=refuse), request, None, None, 0)


def test_an_inference_that_is_not_there_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    status = SimpleNamespace(QS_AGAIN=2, QS_SUCCESS=0)
    answers = iter([(2, None), (2, None), (0, "handle")])
    waiting = SimpleNamespace(getCompletedId=lambda _: next(answers))
    assert wait_for(SimpleNamespace(QStatus=status), waiting, 7) == "handle"
    monkeypatch.setattr(api_child, "COMPLETE_S", 0.02)
    never = SimpleNamespace(getCompletedId=lambda _: (2, None))
    with pytest.raises(Refused, match="still answered QS_AGAIN"):
        wait_for(SimpleNamespace(QStatus=status), never, 7)
