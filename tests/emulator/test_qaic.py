"""`qaic` of an emulated root, imported by a plain interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.emulator import write_root
from tests.emulator.emulated import save, write_scenario
from tests.emulator.programs import BATCH, LENGTH, PRELUDE, child, compile_to, element, reference, two_outputs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("qaic") / "root"
    write_root(directory, cards=1)
    return directory


@pytest.fixture(scope="module")
def qpc(root: Path) -> Path:
    return compile_to(root, root.parent / "qpc", two_outputs()) / "programqpc.bin"


def run(root: Path, qpc: Path, script: str, *more: str, scenario: Path | None = None) -> Any:
    return child(root, PRELUDE + script, str(qpc), *more, scenario=scenario)


def test_run_gives_shaped_arrays_of_the_declared_type(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaic.Session(model_path=path)
out = s.run(inputs(5))
print(json.dumps({
    "in": {k: [v[0], np.dtype(v[1]).name] for k, v in s.model_input_shape_dict.items()},
    "out": {k: [v[0], np.dtype(v[1]).name] for k, v in s.model_output_shape_dict.items()},
    "flat": all(v.flags.c_contiguous for v in out.values()),
    "shapes": {k: v.shape for k, v in out.items()},
    "tokens": np.frombuffer(out["tokens"], np.float32).tolist(),
}))""",
    )
    ids = [[BATCH, LENGTH], "int64"]
    assert found["in"] == {"input_ids": ids, "attention_mask": ids}
    assert found["out"] == {
        "tokens": [[BATCH, LENGTH, 16], "float32"],
        "pool/mean": [[BATCH, 16], "float32"],
    }
    assert found["shapes"] == {name: shape for name, (shape, _) in found["out"].items()}
    expected = reference(two_outputs(), element(5))["tokens"].ravel()
    assert np.abs(np.array(found["tokens"]) - expected).max() < 5e-3


def test_setup_takes_the_cores_and_reset_gives_them_back(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
s = qaic.Session(path, num_activations=3, set_size=2)
seen = [free()]
s.setup(); seen.append(free())
s.reset(); seen.append(free())
s.update_backend_options(num_activations=2); s.run(inputs(0)); seen.append(free())
del s; seen.append(free())
print(json.dumps(seen))""",
    )
    assert found == [14, 8, 14, 10, 14]


@pytest.mark.parametrize(
    ("convention", "unit"),
    [("executions", "seconds"), ("samples", "seconds"), ("executions", "microseconds")],
)
def test_both_conventions_of_the_benchmark(
    root: Path, qpc: Path, tmp_path: Path, convention: str, unit: str
) -> None:
    scenario = write_scenario(
        tmp_path / "scenario.json", options={"rate_convention": convention, "time_unit": unit}
    )
    script = """
s = qaic.Session(path, num_activations=2, set_size=2)
began = time.time(); done = s.run_benchmark(inf_time=0.5); wall = time.time() - began
print(json.dumps([done, wall, s.run_benchmark(), s.run_benchmark(num_inferences=7, input_dict=inputs(0))]))"""
    (count, rate, duration, batch), wall, forty, seven = run(root, qpc, script, scenario=scenario)
    seconds = duration / (1e6 if unit == "microseconds" else 1)
    assert 0.5 <= seconds <= wall
    assert rate == pytest.approx(count / seconds * (BATCH if convention == "samples" else 1), rel=1e-3)
    assert batch == BATCH
    assert (forty[0], seven[0]) == (40, 7)


def test_threads_keep_the_activations_busy_and_get_their_own_answers(root: Path, qpc: Path) -> None:
    found = run(
        root,
        qpc,
        """
from concurrent.futures import ThreadPoolExecutor
s = qaic.Session(path, num_activations=2, set_size=2, enable_metrics=True)
alone = {seed: s.run(inputs(seed))["tokens"].tobytes() for seed in range(8)}
with ThreadPoolExecutor(10) as pool:
    together = list(pool.map(lambda n: s.run(inputs(n % 8))["tokens"].tobytes(), range(80)))
print(json.dumps([all(t == alone[n % 8] for n, t in enumerate(together)), s.get_metrics()]))""",
    )
    same, metrics = found
    assert same
    assert metrics["num_of_inferences"] == 88
    assert metrics["min_latency"] <= metrics["P50"] <= metrics["P99"] <= metrics["max_latency"]
    assert metrics["total_inference_time"] == pytest.approx(88 * metrics["avg_latency"])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("qaic.Session(path.rsplit('/', 1)[0])", "FileNotFoundError"),
        ("qaic.Session(path, backend='glow')", "ValueError"),
        ("qaic.Session(path, enable_metrics=True, enable_profiling=True)", "ValueError"),
        ("qaic.Session(path).run({'input_ids': inputs(0)['input_ids']})", "ValueError"),
        ("qaic.Session(path).run({k: v[:2] for k, v in inputs(0).items()})", "ValueError"),
        ("qaic.Session(path).run({k: v + 10**6 for k, v in inputs(0).items()})", "RuntimeError"),
        ("qaic.Session(path, num_activations=8).setup()", "RuntimeError"),
        ("qaic.Session(path, dev_id=4).setup()", "RuntimeError"),
        ("qaic.Session(path).run_benchmark(num_inferences=1, inf_time=1)", "ValueError"),
        ("qaic.Session(path).get_metrics()", "RuntimeError"),
    ],
)
def test_wrong_uses_raise_and_leave_the_card_free(root: Path, qpc: Path, call: str, error: str) -> None:
    script = f"""
try:
    {call}
    raised = None
except Exception as error:
    raised = type(error).__name__
    del error
print(json.dumps([raised, free()]))"""
    assert run(root, qpc, script) == [error, 14]


def test_an_onnx_file_is_compiled_first(root: Path, tmp_path: Path) -> None:
    model = save(two_outputs(), tmp_path / "model.onnx")
    script = """
s = qaic.Session(path, aic_num_cores=4, convert_to_fp16=True, stats_batchsize=3, multicast_weights=False,
                 onnx_define_symbol=[("batch_size", 3), ("sequence_length", 8)])
s.setup()
print(json.dumps([free(), s.run(inputs(1))["tokens"].shape]))"""
    assert run(root, model, script) == [10, [BATCH, LENGTH, 16]]


def test_faults_reach_the_caller(root: Path, qpc: Path, tmp_path: Path) -> None:
    script = "print(json.dumps(bool(np.isnan(qaic.Session(path).run(inputs(0))['tokens']).all())))"
    rule = {"tool": "api", "fault": "output-nan"}
    assert run(root, qpc, script, scenario=write_scenario(tmp_path / "nan.json", rule))
    script = """
try:
    qaic.Session(path).setup()
except RuntimeError as error:
    print(json.dumps(free()))"""
    rule = {"tool": "api", "fault": "fail"}
    assert run(root, qpc, script, scenario=write_scenario(tmp_path / "fail.json", rule)) == 14


def test_a_module_for_another_python(root: Path, tmp_path: Path) -> None:
    script = """
import json
raised = []
for name in ("qaic", "qaicrt"):
    try:
        __import__(name)
    except ImportError as error:
        raised.append(str(error).split(":")[0])
print(json.dumps(raised))"""
    rule = {"tool": "api", "fault": "import-error"}
    scenario = write_scenario(tmp_path / "scenario.json", rule)
    assert child(root, script, scenario=scenario) == ["Python version mismatch"] * 2


def test_old_sdks_name_their_library_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_root(root, cards=1, sdk="1.12")
    script = """
import io, json, sys
sys.stdout = said = io.StringIO()
import qaic, qaicrt
sys.stdout = sys.__stdout__
print(json.dumps(said.getvalue()))"""
    said = child(root, script)
    assert said.startswith(f"loading {root}/dev/lib/")
    assert said.endswith("/libQAic.so\n")
    assert said.count("\n") == 1


def test_modelled_sessions_compute_what_measured_ones_do(root: Path, qpc: Path, tmp_path: Path) -> None:
    write_root(tmp_path / "root", cards=1, timing="modelled")
    script = """
s = qaic.Session(model_path=path)
print(json.dumps([s.run(inputs(seed % 10))["tokens"].sum().item() for seed in range(12)]))"""
    measured = run(root, qpc, script)
    assert len(set(measured)) == 10  # more than the results that are remembered
    assert run(tmp_path / "root", qpc, script) == measured
