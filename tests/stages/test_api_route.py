"""The api route against the reference, and its figures against each other."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.sdk.launcher import DirectLauncher
from farm.stages.compare import compare
from farm.stages.measure import measure
from farm.stages.reference import build_reference
from farm.stages.run import execute_run, prepare_run
from tests.sdk.fake_sdk import fake_sdk
from tests.stages.conftest import CONFIG, MakeRoot, compiled, job
from tests.stages.small_model import FACTS
from tests.stages.test_run import card, prepared_run


@pytest.mark.parametrize("route", ["runner", "api"])
@pytest.mark.parametrize("turned", [False, True])
def test_outputs_are_the_references_in_whatever_order_the_inputs_are_declared(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, route: str, turned: bool
) -> None:
    sdk = make_root()
    facts: dict[str, Any] = {**FACTS, "inputs": FACTS["inputs"][::-1]} if turned else FACTS
    asked = {"batch_size": CONFIG.batch_size, "seq_length": CONFIG.seq_length, "seed": 0}
    out = tmp_path / "reference"
    out.mkdir()
    build_reference(asked, onnx_file.parent, facts, out, DirectLauncher(), tmp_path / "reference.log")
    qpc = compiled(sdk, onnx_file, tmp_path / "store")
    prepared = prepare_run(job(route=route), onnx_file, facts, qpc, tmp_path / "attempt", sdk)
    measure(prepared, execute_run(prepared, card(sdk), DirectLauncher(), sdk))
    verdict = compare(prepared.outputs, out, facts, CONFIG.batch_size, CONFIG.seq_length, 0.999, False)
    assert (verdict["accuracy"], verdict["flags"]) == ("pass", [])


def test_latency_and_throughput_of_an_api_run_obey_littles_law(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    # Inferences of 0.2 s each: what a child on a busy machine adds (threads, calls) is little.
    plain = make_root()
    fake = fake_sdk(tmp_path / "library", latency_s=0.2)
    sdk = dataclasses.replace(plain, lib_dir=fake.folder, python=Path(sys.executable))

    def holds(number: int) -> bool:
        prepared = prepared_run(plain, onnx_file, tmp_path, f"attempt-{number}", route="api")
        record = measure(prepared, execute_run(prepared, card(sdk), DirectLauncher(), sdk))
        return "little_law" not in record["flags"] and 200 <= record["latency_ms_mean"] < 300

    # A pause of the whole machine may fall into one run of five inferences, not into each.
    assert any(map(holds, range(5)))
