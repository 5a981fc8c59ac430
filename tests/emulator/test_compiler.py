"""The emulated compilers: command line, output directory, texts, the program made, the ways to fail."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from farm.emulator import write_root
from farm.emulator.runtime import qpc
from farm.emulator.runtime.card import Cards
from tests.emulator.emulated import LIMIT_S, call, encoder, save, write_scenario

SYMBOLS = ["-onnx-define-symbol=batch_size,4", "-onnx-define-symbol=sequence_length,16"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {sdk: tmp_path_factory.mktemp("root") / sdk for sdk in ("1.12", "1.21")}
    for sdk, directory in made.items():
        write_root(directory, cards=1, sdk=sdk)
    return made


@pytest.fixture
def root(roots: dict[str, Path]) -> Path:
    return roots["1.21"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(encoder(), tmp_path / "model.onnx")


def flags(model: Path, output: Path | str, *more: str) -> list[str]:
    return [
        f"-m={model}",
        *SYMBOLS,
        "-aic-hw",
        "-aic-hw-version=2.0",
        "-aic-num-cores=2",
        "-convert-to-fp16",
        f"-aic-binary-dir={output}",
        "-stats-batchsize=4",
        *more,
    ]


def compile_(
    root: Path,
    *arguments: str,
    scenario: Path | None = None,
    program: str = "qaic-compile",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    return call(root / "exec" / program, *arguments, scenario=scenario, cwd=cwd)


def read(directory: Path) -> tuple[dict[str, Any], bytes]:
    """The program's description, and its network with the weights that lie in the program."""
    segments = qpc.read(directory / "programqpc.bin")
    (directory / "network.onnx").write_bytes(segments["network.onnx"])
    network = onnx.load(directory / "network.onnx")
    return json.loads(bytes(segments["networkdesc.json"])), network.SerializeToString()


def outputs(network: bytes, *feeds: NDArray[Any]) -> list[NDArray[Any]]:
    session = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    found: list[NDArray[Any]] = session.run(None, dict(zip(names, feeds, strict=True)))
    return found


def test_success_lines_come_in_order(root: Path, model: Path, tmp_path: Path) -> None:
    ran = compile_(root, *flags(Path("model.onnx"), "./compiled"), cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line for line in ran.stdout.splitlines() if not line.startswith("WARNING")] == [
        "Reading ONNX Model from model.onnx",
        "Compile started ............... ",
        "Compiling model with FP16 precision.",
        "Generated binary is present at ./compiled",
    ]


def test_old_profile_names_its_library_and_has_no_qaic_compile(
    roots: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    root = roots["1.12"]
    assert not (root / "exec/qaic-compile").exists()
    ran = compile_(root, *flags(model, tmp_path / "out"), "-compile-only", program="qaic-exec")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"loading compiler from: {root}/dev/lib/x86_64/libQAicCompiler.so\n")


def test_the_program_describes_and_computes_the_model_at_its_shapes(
    root: Path, model: Path, tmp_path: Path
) -> None:
    ran = compile_(root, *flags(model, tmp_path / "out", "-mos=2", "-ols=4", "-multicast-weights"))
    assert ran.returncode == 0, ran.stderr
    description, network = read(tmp_path / "out")
    assert description["inputs"] == [{"name": "input_ids", "dtype": "int64", "dims": [4, 16]}]
    assert description["outputs"] == [{"name": "last_hidden_state", "dtype": "float32", "dims": [4, 16, 32]}]
    assert (description["cores"], description["batch_size"], description["sdk"]) == (2, 4, "1.21.6")
    wanted = {"mos": 2, "ols": 4, "multicast_weights": True}
    assert {name: description["flags"][name] for name in wanted} == wanted
    assert description["features"] == {
        "macs_per_sample": 16 * (32 * 128 + 128 * 32),
        "weight_bytes": 2 * (400 * 32 + 2 * 32 * 128),
        "gather_bytes": 2 * 400 * 32,
        "input_bytes_per_sample": 8 * 16,
        "output_bytes_per_sample": 4 * 16 * 32,
        "layers": 0,
    }
    ids = np.random.default_rng(3).integers(0, 400, (4, 16))
    (found,) = outputs(network, ids)
    (exact,) = outputs(model.read_bytes(), ids)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 5e-3
    assert np.abs(found - exact).max() > 0  # the weights really were rounded
    with pytest.raises(Exception, match="Got invalid dimensions"):
        outputs(network, ids[:1])


def test_the_conversion_is_onnx_runtimes_own(root: Path, tmp_path: Path) -> None:
    exported = encoder()
    hostile = np.array([1e-9, -1e-9, 1e9, -1e9, np.inf, 0.0] * 256, np.float32).reshape(32, 48)
    exported.graph.initializer.append(numpy_helper.from_array(hostile, "hostile"))
    exported.graph.node.append(helper.make_node("MatMul", ["last_hidden_state", "hostile"], ["far"]))
    exported.graph.output.append(helper.make_tensor_value_info("far", TensorProto.FLOAT, ["b", "s", 48]))
    model = save(exported, tmp_path / "model.onnx")
    ran = compile_(root, *flags(model, tmp_path / "out"))
    assert (
        "WARNING: hostile/ contains value or values that will underflow after conversion to 16-bit floating "
        "point values." in ran.stdout.splitlines()
    )
    ours = onnx.load_from_string(read(tmp_path / "out")[1])
    reference = convert_float_to_float16(onnx.load(model), keep_io_types=True)
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in reference.graph.initializer}
    assert len(expected) == 4
    for tensor in ours.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), expected[tensor.name])
    assert [node.op_type for node in ours.graph.node] == [node.op_type for node in reference.graph.node]


def test_without_conversion_the_weights_stay_32_bits(root: Path, model: Path, tmp_path: Path) -> None:
    arguments = [flag for flag in flags(model, tmp_path / "out") if flag != "-convert-to-fp16"]
    ran = compile_(root, *arguments)
    assert "FP16" not in ran.stdout
    description, network = read(tmp_path / "out")
    assert description["features"]["weight_bytes"] == 4 * (400 * 32 + 2 * 32 * 128)
    assert {tensor.data_type for tensor in onnx.load_from_string(network).graph.initializer} == {
        TensorProto.FLOAT
    }


def test_external_weights_are_read(root: Path, tmp_path: Path) -> None:
    def exported() -> ModelProto:
        model = encoder()
        shift = numpy_helper.from_array(np.arange(32, dtype=np.float32), "shift")
        model.graph.node.append(helper.make_node("Constant", [], ["shift"], value=shift))
        model.graph.node.append(helper.make_node("Add", ["last_hidden_state", "shift"], ["shifted"]))
        model.graph.output[0].name = "shifted"
        return model

    path = tmp_path / "model.onnx"
    onnx.save(
        exported(),
        path,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
        convert_attribute=True,
    )
    inline = save(exported(), tmp_path / "inline.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > 4 * 400 * 32
    for source in (path, inline):
        assert compile_(root, *flags(source, tmp_path / source.stem)).returncode == 0
    assert read(tmp_path / "model")[1] == read(tmp_path / "inline")[1]
    data = (tmp_path / "model.onnx.data").read_bytes()
    (tmp_path / "model.onnx.data").write_bytes(data[:-100])
    cut = compile_(root, *flags(path, tmp_path / "cut"))
    (tmp_path / "model.onnx.data").unlink()
    gone = compile_(root, *flags(path, tmp_path / "gone"))
    assert "shift" in cut.stderr
    assert "model.onnx.data" in gone.stderr
    for ran, name in ((cut, "cut"), (gone, "gone")):
        assert ran.returncode == 255
        assert ran.stderr.startswith("QAIC_ERROR:\nError message:  ")
        assert not (tmp_path / name / "programqpc.bin").exists()


def test_shapes_behind_shape_arithmetic_are_known(root: Path, tmp_path: Path) -> None:
    exported = encoder()
    graph = exported.graph
    constants = {"axis": [1], "first": [0], "tail": [-1], "axis0": [0]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"c_{name}") for name, value in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("Shape", ["input_ids"], ["shape"]),
            helper.make_node("Slice", ["shape", "c_axis", "c_two", "c_axis0"], ["length"]),
            helper.make_node("Concat", ["c_tail", "length"], ["target"], axis=0),
            helper.make_node("ReduceMean", ["last_hidden_state"], ["mean"], axes=[2], keepdims=0),
            helper.make_node("Reshape", ["mean", "target"], ["pooled"]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "c_two"))
    graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["odd_symbol", "other"]))
    ran = compile_(root, *flags(save(exported, tmp_path / "model.onnx"), tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    described = {entry["name"]: entry["dims"] for entry in read(tmp_path / "out")[0]["outputs"]}
    assert described == {"last_hidden_state": [4, 16, 32], "pooled": [4, 16]}


def test_batchsize_fills_a_batch_without_a_symbol(root: Path, tmp_path: Path) -> None:
    model = save(encoder(), tmp_path / "model.onnx")
    arguments = [f"-m={model}", SYMBOLS[1], "-aic-hw", "-batchsize=3", f"-aic-binary-dir={tmp_path / 'out'}"]
    assert compile_(root, *arguments).returncode == 0
    description, _ = read(tmp_path / "out")
    assert description["inputs"][0]["dims"] == [3, 16]
    assert description["batch_size"] == 1  # what -stats-batchsize says, which was not given
    assert description["features"]["output_bytes_per_sample"] == 4 * prod([3, 16, 32])


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("-retained", "Invalid option -retained. Use -h, -help, or --help for list of options."),
        ("stray", "Invalid option stray. Use -h, -help, or --help for list of options."),
        ("--mos=2", "Invalid option --mos=2. Use -h, -help, or --help for list of options."),
        ("-mos=two", "Invalid value two for option -mos"),
        ("-ols=", "Option -ols needs a value"),
        ("-aic-num-cores=17", "Invalid value 17 for option -aic-num-cores"),
        ("-aic-hw-version=3.0", "Invalid value 3.0 for option -aic-hw-version"),
        ("-onnx-define-symbol=batch_size", "Invalid value batch_size for option -onnx-define-symbol"),
    ],
)
def test_bad_flags_end_with_255_and_make_nothing(
    root: Path, model: Path, tmp_path: Path, flag: str, error: str
) -> None:
    ran = compile_(root, *flags(model, tmp_path / "out"), flag)
    assert (ran.returncode, ran.stdout) == (255, "")
    assert ran.stderr.startswith(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["-m=", "-aic-binary-dir=", "-aic-hw"])
def test_needed_flags(root: Path, model: Path, tmp_path: Path, missing: str) -> None:
    given = [
        flag
        for flag in flags(model, tmp_path / "out")
        if not (flag.startswith(missing) if missing.endswith("=") else flag == missing)
    ]
    ran = compile_(root, *given)
    assert ran.returncode == 255
    assert missing.rstrip("=") in ran.stderr


def test_help_lists_the_flags_of_the_profile(roots: dict[str, Path]) -> None:
    new = compile_(roots["1.21"], "-h", program="qaic-exec")
    old = compile_(roots["1.12"], "--help", program="qaic-exec")
    assert (new.returncode, old.returncode) == (0, 0)
    for flag in ("-onnx-define-symbol=", "-aic-binary-dir=", "-multicast-weights"):
        assert flag in new.stdout
        assert flag in old.stdout
    assert "-stats-level=" in new.stdout
    assert "-stats-level=" not in old.stdout


def test_hardware_versions_of_the_profiles(roots: dict[str, Path], model: Path, tmp_path: Path) -> None:
    for sdk, status in (("1.21", 0), ("1.12", 255)):
        arguments = [flag.replace("=2.0", "=ai100") for flag in flags(model, tmp_path / sdk, "-compile-only")]
        assert compile_(roots[sdk], *arguments, program="qaic-exec").returncode == status


def test_an_existing_directory_is_refused(root: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    ran = compile_(root, *flags(model, tmp_path / "out"))
    assert ran.returncode == 255
    assert "already exists" in ran.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_parents_are_made_only_where_the_scenario_says_so(
    root: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a" / "b"
    assert compile_(root, *flags(model, output)).returncode == 255
    makes = write_scenario(tmp_path / "s.json", options={"compiler_makes_parents": True})
    assert compile_(root, *flags(model, output), scenario=makes).returncode == 0
    assert (output / "programqpc.bin").exists()


def test_symbols(root: Path, model: Path, tmp_path: Path) -> None:
    more = "-onnx-define-symbol=past_length,3"
    assert compile_(root, *flags(model, tmp_path / "ignored", more)).returncode == 0
    strict = write_scenario(tmp_path / "s.json", options={"strict_symbols": True})
    ran = compile_(root, *flags(model, tmp_path / "strict", more), scenario=strict)
    assert ran.returncode == 255
    assert "past_length" in ran.stderr
    arguments = [flag for flag in flags(model, tmp_path / "undefined") if "sequence_length" not in flag]
    ran = compile_(root, *arguments)
    assert ran.returncode == 255
    assert "sequence_length" in ran.stderr


@pytest.mark.parametrize(("choice", "mos"), [(None, 4), ("last", 4), ("first", 2), ("error", None)])
def test_a_repeated_flag(
    root: Path, model: Path, tmp_path: Path, choice: str | None, mos: int | None
) -> None:
    path = write_scenario(tmp_path / "s.json", options={} if choice is None else {"repeated_flag": choice})
    ran = compile_(root, *flags(model, tmp_path / "out", "-mos=2", "-mos=4"), scenario=path)
    if mos is None:
        assert ran.returncode == 255
        assert "-mos" in ran.stderr
    else:
        assert read(tmp_path / "out")[0]["flags"]["mos"] == mos


def test_specialization_file(root: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "specializations.json"
    arguments = [flag for flag in flags(model, tmp_path / "out") if "symbol" not in flag]
    file.write_text(json.dumps({"specializations": [{"batch_size": "2", "sequence_length": "8"}]}))
    assert compile_(root, *arguments, f"-network-specialization-config={file}").returncode == 0
    assert read(tmp_path / "out")[0]["inputs"][0]["dims"] == [2, 8]
    file.write_text(json.dumps({"specializations": [{"batch_size": {"value": 2}}]}))
    ran = compile_(root, *arguments, f"-network-specialization-config={file}")
    assert ran.returncode == 255
    assert ran.stderr == "[json.exception.type_error.302] type must be string, but is object\n"
    file.write_text(json.dumps({"specializations": [{"batch_size": "many"}]}))
    ran = compile_(root, *arguments, f"-network-specialization-config={file}")
    assert ran.returncode == 255
    assert "batch_size must be a whole number" in ran.stderr


def broken(kind: str) -> ModelProto:
    exported = encoder()
    if kind == "operator":
        exported.graph.node[2].op_type = "Blancmange"
    else:
        exported.graph.initializer[1].dims[:] = [16, 256]  # no longer multiplies
    return exported


@pytest.mark.parametrize(("kind", "operator"), [("operator", "Blancmange"), ("shape", "MatMul")])
def test_what_onnx_runtime_cannot_run_is_reported_as_the_sdk_does(
    root: Path, tmp_path: Path, kind: str, operator: str
) -> None:
    ran = compile_(root, *flags(save(broken(kind), tmp_path / "model.onnx"), tmp_path / "out"))
    lines = ran.stderr.splitlines()
    assert ran.returncode == 255
    assert lines[0] == "QAIC_ERROR:"
    assert lines[1].startswith(f"Error message:  [Operator-'{operator}', opset_version-13, ir_version-8] : ")
    assert lines[2:] == ["QAICException:Unable to AddNodesToGraphFromModel"]
    assert not (tmp_path / "out/programqpc.bin").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\0" * 100])
def test_a_file_that_is_no_model(root: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    ran = compile_(root, *flags(path, tmp_path / "out"))
    assert ran.returncode == 255
    assert str(path) in ran.stderr
    assert "Traceback" not in ran.stderr


def test_compile_only_is_deprecated_in_qaic_compile_alone(root: Path, model: Path, tmp_path: Path) -> None:
    new = compile_(root, *flags(model, tmp_path / "new"), "-compile-only")
    old = compile_(root, *flags(model, tmp_path / "old"), "-compile-only", program="qaic-exec")
    assert new.stdout.startswith("[Deprecated]")
    assert "[Deprecated]" not in old.stdout
    assert (new.returncode, old.returncode) == (0, 0)


def test_qaic_exec_needs_a_device_unless_it_only_compiles(root: Path, model: Path, tmp_path: Path) -> None:
    ran = compile_(root, *flags(model, tmp_path / "a"), program="qaic-exec")
    assert ran.returncode == 0, ran.stderr
    log = [json.loads(line) for line in Cards(root).log_path(0).read_text().splitlines()]
    assert (log[-2]["event"], log[-1]["event"], log[-1]["cores"]) == ("activate", "deactivate", [0, 1])
    none = write_scenario(tmp_path / "s.json", {"tool": "card", "fault": "vanish"})
    ran = compile_(root, *flags(model, tmp_path / "b"), program="qaic-exec", scenario=none)
    assert ran.returncode == 255
    assert "Invalid device:0" in ran.stderr
    only = flags(model, tmp_path / "c", "-compile-only")
    assert compile_(root, *only, program="qaic-exec", scenario=none).returncode == 0


@pytest.mark.parametrize(
    ("rule", "status", "error"),
    [
        ({"fault": "fail", "status": 3, "text": "bad day"}, 3, "bad day"),
        ({"fault": "killed"}, -signal.SIGKILL, ""),
        ({"fault": "killed", "signal": 11}, -signal.SIGSEGV, ""),
        ({"fault": "disk-full"}, 255, "No space left on device"),
        ({"fault": "unsupported-operator", "operator": "Einsum"}, 255, "[Operator-'Einsum'"),
        ({"fault": "silent"}, 0, ""),
    ],
)
def test_failures_leave_the_directory_without_a_program(
    root: Path, model: Path, tmp_path: Path, rule: dict[str, Any], status: int, error: str
) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "compiler", "times": 1, **rule})
    ran = compile_(root, *flags(model, tmp_path / "out"), scenario=path)
    assert ran.returncode == status
    assert error in ran.stderr
    assert (tmp_path / "out").is_dir()
    assert list((tmp_path / "out").iterdir()) == []
    again = compile_(root, *flags(model, tmp_path / "again"), scenario=path)
    assert again.returncode == 0


def test_a_truncated_program_is_not_readable(root: Path, model: Path, tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "compiler", "fault": "truncated"})
    assert compile_(root, *flags(model, tmp_path / "out"), scenario=path).returncode == 0
    with pytest.raises(qpc.BadQpc):
        qpc.read(tmp_path / "out/programqpc.bin")


def test_slow(root: Path, model: Path, tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-compile", "fault": "slow", "seconds": 0.7})
    started = time.monotonic()
    assert compile_(root, *flags(model, tmp_path / "out"), scenario=path).returncode == 0
    assert time.monotonic() - started > 0.7


def test_a_deaf_compiler_that_hoards_memory(root: Path, model: Path, tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path / "s.json",
        {"tool": "compiler", "fault": "ignore-sigterm"},
        {"tool": "compiler", "fault": "memory", "mb": 300},
    )
    process = subprocess.Popen(
        [root / "exec/qaic-compile", *flags(model, tmp_path / "out")],
        env={"AIC_EMULATOR_SCENARIO": str(path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + LIMIT_S
        resident = 0
        while resident < 300 * 1024:
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0])
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
