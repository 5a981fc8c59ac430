"""Versions, failures told from logs, the QPC check, the batch description and the argument vectors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.job import CardConfiguration
from farm.sdk.argv import compile_argv, runner_argv, util_argv
from farm.sdk.batch_io import InputBinding, write_batch_io
from farm.sdk.child import ChildResult, Ended
from farm.sdk.errors_text import compiler_failure, runner_failure, usage_instead
from farm.sdk.qpc import MAGIC, BadQpc, check_qpc
from farm.sdk.root import Sdk
from farm.sdk.versions import parse_version_util, parse_version_xml

CONFIG = CardConfiguration(8, 128, cores=2, instances=7, set_size=4)


def sdk(program: str = "qaic-exec", hw_version: str = "2.0", batch_json: bool = True) -> Sdk:
    root = Path("/opt/qti-aic")
    return Sdk(
        root=root,
        platform="aic100",
        timing="measured",
        version="1.20.0",
        versions=MappingProxyType({}),
        compiler=root / "exec" / program,
        compiler_program="qaic-compile" if program == "qaic-compile" else "qaic-exec",
        hw_version=hw_version,
        runner=root / "exec/qaic-runner",
        batch_json=batch_json,
        util=root / "tools/qaic-util",
        lib_dir=root / "dev/lib/x86_64",
        python=None,
        python_reason="no card here",
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("<v><ci_build><base_version>1.6</base_version><build_id>80</build_id></ci_build></v>", "1.6.80"),
        ("<?xml version='1.0'?><v><base_version>1.21.0</base_version></v>", "1.21.0"),
        ("<v><sdk>AIC.1.12.2</sdk></v>", "1.12.2"),
        ("<v><base_version/></v>", None),
        ("no xml at all 1.2.3", None),
        ("", None),
    ],
)
def test_version_files(text: str, version: str | None) -> None:
    assert parse_version_xml(text) == version


def test_the_version_tools_lines() -> None:
    text = "platform:AIC.1.6.80\napps:AIC.1.6.80\nfactory:not found\nother:AIC.9.9\n"
    assert parse_version_util(text) == {"platform": "1.6.80", "apps": "1.6.80"}
    assert parse_version_util("platform:not found\n") == {}


@given(st.text())
def test_no_version_text_breaks_them(text: str) -> None:
    assert isinstance(parse_version_util(text), dict)
    parse_version_xml(text)
    assert parse_version_xml(f"<v>{text}</v>") is None or text


OPERATOR = """QAIC_ERROR:
    Error message:  [Operator-'Einsum', opset_version-13, ir_version-7] : unsupported
QAICException:Unable to AddNodesToGraphFromModel
"""
ACTIVATION = """[error][QKmdDevice][activate:#1172] Device 0 activate failed: Memory resource exhausted
[QRuntime][activateNetwork:#333] Dev 0 activate failed status 300
QAIC_ERROR_EXECOBJ_RUNTIME [ExecObj:0] Error activating programContextId:0
"""


def ended(
    tmp_path: Path, text: str, code: int | None = 1, signal: int | None = None, how: Ended = "exit"
) -> ChildResult:
    log = tmp_path / "log"
    log.write_text(text)
    return ChildResult(code, signal, how, 12.0, 5 * 2**30, log)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (OPERATOR, "input", "status 255: Error message: .Operator-'Einsum'"),
        ("Invalid option -x. Use -h, -help, or --help for list of options.\n", "input", "Invalid option -x"),
        ("[json.exception.type_error.302] type must be string, but is object\n", "input", "type_error.302"),
        ("QAIC_ERROR:\nwrite: No space left on device\n", "host", "No space left"),
        ("something new went wrong\n\n", "host", "something new went wrong"),
        ("", "host", "no output"),
    ],
)
def test_whose_fault_a_compile_was(tmp_path: Path, text: str, kind: str, says: str) -> None:
    failure = compiler_failure(ended(tmp_path, text, code=255))
    assert failure.kind == kind
    assert says.replace(".Op", "[Op") in str(failure)
    assert "\n" not in str(failure)
    assert failure.log == str(tmp_path / "log")


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [("limit", "input", "12 s"), ("idle", "input", "no progress"), ("memory", "input", "5120 MiB")],
)
def test_our_own_limits_on_a_compiler_are_the_inputs_fault(
    tmp_path: Path, how: Ended, kind: str, says: str
) -> None:
    failure = compiler_failure(ended(tmp_path, "", code=None, signal=15, how=how))
    assert failure.kind == kind
    assert says in str(failure)


def test_a_killed_or_stopped_compiler_is_the_hosts(tmp_path: Path) -> None:
    assert "out of memory?" in str(compiler_failure(ended(tmp_path, "", code=None, signal=9)))
    assert "out of memory?" in str(compiler_failure(ended(tmp_path, "", code=137)))
    crash = compiler_failure(ended(tmp_path, "Reading ONNX Model\n", code=None, signal=11))
    assert (crash.kind, "signal 11" in str(crash)) == ("host", True)
    assert compiler_failure(ended(tmp_path, OPERATOR, None, 15, "stopped")).kind == "host"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (ACTIVATION, "busy", "Memory resource exhausted"),
        ("Failed to allocate NSP resources\n", "busy", "NSP"),
        ("Failed to allocate virtual channel\n", "busy", "channel"),
        ("Device:3 not in ready state\nFailed to initialize QAIC runner\n", "card", "not in ready state"),
        ("Invalid device:9\nFailed to initialize QAIC runner\n", "card", "Invalid device:9"),
        ("IOCTL: Connection timed out\n", "card", "IOCTL"),
        ("Invalid qpc, failed to create qpc object\nFailed to run QAIC runner\n", "host", "Invalid qpc"),
        ("Invalid input file size, expected 8192 but 4096 is provided.\n", "host", "8192"),
        ("never seen before\n", "host", "never seen before"),
        ("qaic-runner: unrecognized option '--new'\nUsage: x\n", "input", "unrecognized option '--new'"),
        ("runner: option '--s' is ambiguous; possibilities: ...\n", "input", "is ambiguous"),
        ("api_child: qaicrt: submit answered QS_TIMEDOUT\n", "card", "submit answered QS_TIMEDOUT"),
        (
            ACTIVATION + "api_child: the card refused the program a second time: resource exhausted\n",
            "card",
            "second time",
        ),
        (ACTIVATION + "api_child: KeyError (latencies, line 1): 'ids'\n", "host", "KeyError"),
        ("api_child: RuntimeError (benchmark, line 1): activate failed: x exhausted\n", "card", "activate"),
    ],
)
def test_whose_fault_a_run_was(tmp_path: Path, text: str, kind: str, says: str) -> None:
    failure = runner_failure(ended(tmp_path, text))
    assert (failure.kind, says in str(failure)) == (kind, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("qaic-runner: unrecognized option '--new'\nUsage: qaic-runner [options]\n  -t dir\n", "'--new'"),
        ("usage: qaic-runner -t DIR\n", "no option is named"),
        (
            " ---- Stats ----\nInferenceCnt 1 TotalDuration 1us BatchSize 1 Inf/Sec 1.0\nUsage of memory\n",
            None,
        ),
        ("Input file: usage.raw\n", None),
        ("", None),
    ],
)
def test_a_runner_that_prints_its_usage_instead(tmp_path: Path, text: str, says: str | None) -> None:
    failure = usage_instead(ended(tmp_path, text, code=0))
    assert (failure is None) == (says is None)
    if failure is not None:
        assert failure.kind == "input"
        assert str(says) in str(failure)


def test_a_hang_on_a_card_is_the_cards(tmp_path: Path) -> None:
    hangs: tuple[Ended, ...] = ("limit", "idle")
    for how in hangs:
        assert runner_failure(ended(tmp_path, "", None, 15, how)).kind == "card"
    stuck = ChildResult(None, None, "limit", 30, 0, tmp_path / "log", survivors=(77,))
    assert "process 77 outlived SIGKILL" in str(runner_failure(stuck))


def program(size: int, *, magic: int = MAGIC, total: int | None = None) -> bytes:
    header = struct.pack("<IBBHQQQQ", magic, 0, 1, 1, size if total is None else total, 0, 0, 0)
    return header + bytes(size - len(header))


def test_a_whole_program(tmp_path: Path) -> None:
    (tmp_path / "programqpc.bin").write_bytes(program(100))
    assert check_qpc(tmp_path) == 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "only 0 bytes"),
        (program(100, magic=1), "not a compiled program"),
        (program(100)[:-1], "99 bytes, its header says 100"),
    ],
)
def test_what_is_no_whole_program(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "programqpc.bin").write_bytes(content)
    with pytest.raises(BadQpc, match=says):
        check_qpc(tmp_path)


def test_the_batch_description(tmp_path: Path) -> None:
    write_batch_io(tmp_path / "io.json", [InputBinding("a/b", tmp_path / "x.raw", 8, (8, 128))])
    assert json.loads((tmp_path / "io.json").read_text()) == {
        "IO-files": [
            [{"path": "x.raw", "io-direction": "in", "elem-size": 8, "map-to": "a/b", "dims": [8, 128]}]
        ]
    }


def test_the_compilers_command() -> None:
    argv = compile_argv(
        sdk(), CONFIG, Path("/m/model.onnx"), ("batch_size", "sequence_length"), Path("/q/qpc")
    )
    assert argv == [
        "/opt/qti-aic/exec/qaic-exec",
        "-m=/m/model.onnx",
        "-onnx-define-symbol=batch_size,8",
        "-onnx-define-symbol=sequence_length,128",
        "-aic-hw",
        "-aic-hw-version=2.0",
        "-aic-num-cores=2",
        "-convert-to-fp16",
        "-compile-only",
        "-aic-binary-dir=/q/qpc",
        "-stats-batchsize=8",
    ]


def test_the_newer_compiler_and_the_options_that_are_set() -> None:
    config = CardConfiguration(1, 64, 12, 1, 1, ols=1, mos=12, extra=("-multicast-weights",))
    argv = compile_argv(sdk("qaic-compile", "ai100"), config, Path("m.onnx"), (None, "L"), Path("q"))
    assert "-compile-only" not in argv
    assert {"-aic-hw-version=ai100", "-batchsize=1", "-onnx-define-symbol=L,64"} <= set(argv)
    assert argv[-3:] == ["-mos=12", "-ols=1", "-multicast-weights"]


@pytest.mark.parametrize("batch_json", [True, False])
def test_the_runners_command(batch_json: bool) -> None:
    argv = runner_argv(
        sdk(batch_json=batch_json),
        CONFIG,
        qpc=Path("/q"),
        qid=11,
        seconds=20,
        output_dir=Path("/o"),
        batch_json=Path("/i/io.json"),
        input_files=[Path("/i/a"), Path("/i/b")],
    )
    assert argv[1:11] == ["-t", "/q", "-d", "11", "-a", "7", "-S", "4", "--time", "20"]
    fed = ["--aic-batch-json-input", "/i/io.json"] if batch_json else ["-i", "/i/a", "-i", "/i/b"]
    assert argv[-len(fed) :] == fed
    assert "sudo" not in argv


def test_the_query() -> None:
    assert util_argv(sdk(), [3, 12])[1:] == ["-q", "-d", "3", "-d", "12"]
    assert util_argv(sdk())[1:] == ["-q"]
