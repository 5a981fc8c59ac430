"""The compile stage with the emulated compiler, and with compilers that misbehave."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from farm.domain.errors import StageFailed
from farm.sdk.launcher import DirectLauncher
from farm.sdk.qpc import check_qpc
from farm.sdk.root import Sdk
from farm.stages.compile import build_compile, compile_key, dim_names
from tests.stages.conftest import MakeRoot, ask
from tests.stages.small_model import FACTS, write_model


def build(sdk: Sdk, onnx: Path, out: Path, **options: float | int) -> dict[str, object]:
    log = out.parent / "compile.log"
    return build_compile(ask(), onnx, dim_names(FACTS), out, DirectLauncher(), sdk, log, **options)  # type: ignore[arg-type]


def misbehaving(sdk: Sdk, tmp_path: Path, script: str) -> Sdk:
    """The SDK with a compiler that is a little shell program; $out is the folder it was told to make."""
    tool = tmp_path / "compiler"
    find = 'for word; do case "$word" in -aic-binary-dir=*) out=${word#*=};; esac; done'
    tool.write_text(f"#!/bin/sh\n{find}\n{script}\n")
    tool.chmod(0o755)
    return dataclasses.replace(sdk, compiler=tool)


@pytest.mark.parametrize("profile", ["1.12", "1.21"])
def test_a_program_is_compiled(make_root: MakeRoot, onnx_file: Path, tmp_path: Path, profile: str) -> None:
    sdk = make_root(profile)
    facts = build(sdk, onnx_file, tmp_path / "out")
    assert check_qpc(tmp_path / "out/qpc") == facts["qpc_bytes"]
    assert facts["program"] == ("qaic-exec" if profile == "1.12" else "qaic-compile")
    assert str(facts["sdk_version"]).startswith(profile)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["qpc"]
    log = (tmp_path / "compile.log").read_text()
    assert "Generated binary is present" in log
    assert "[Deprecated]" not in log


def test_an_operator_that_no_card_has_is_the_inputs_fault(make_root: MakeRoot, tmp_path: Path) -> None:
    model = write_model(tmp_path / "odd")
    content = model.read_bytes()
    assert content.count(b"\x22\x04Tanh") == 1  # NodeProto.op_type
    model.write_bytes(content.replace(b"\x22\x04Tanh", b"\x22\x04Tonh"))
    with pytest.raises(StageFailed, match="Tonh") as caught:
        build(make_root(), model, tmp_path / "out")
    assert caught.value.kind == "input"
    assert caught.value.log == str(tmp_path / "compile.log")


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("exit 0", "host", "ended well but left no program"),
        ('mkdir "$out"; exit 0', "host", "ended well but left no program"),
        ('mkdir "$out"; echo half > "$out/programqpc.bin"; exit 0', "host", "only 5 bytes"),
        ('mkdir "$out"; echo went wrong; exit 3', "host", "status 3: went wrong"),
        ("kill -9 $$", "host", "killed"),
        ("echo 'No space left on device'; exit 1", "host", "No space left"),
    ],
)
def test_success_is_never_inferred(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, script: str, kind: str, says: str
) -> None:
    sdk = misbehaving(make_root(), tmp_path, script)
    with pytest.raises(StageFailed, match=says) as caught:
        build(sdk, onnx_file, tmp_path / "out")
    assert caught.value.kind == kind


def test_an_endless_compile_and_a_greedy_one_are_ended(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    sdk = misbehaving(make_root(), tmp_path, "exec sleep 60")
    with pytest.raises(StageFailed, match="did not end within") as caught:
        build(sdk, onnx_file, tmp_path / "out", limit_s=0.3)
    assert caught.value.kind == "input"
    with pytest.raises(StageFailed, match="beyond its cap") as caught:
        build(sdk, onnx_file, tmp_path / "out2", memory_bytes=2**17)
    assert caught.value.kind == "input"


def test_temporary_files_stay_in_the_store(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    sdk = misbehaving(make_root(), tmp_path, 'echo "TMPDIR is $TMPDIR"; touch "$TMPDIR/x"; exit 1')
    with pytest.raises(StageFailed, match=f"TMPDIR is {tmp_path}/out/tmp"):
        build(sdk, onnx_file, tmp_path / "out")
    assert not (tmp_path / "out/tmp").exists()


def test_an_existing_folder_is_refused_and_kept(make_root: MakeRoot, onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out/qpc").mkdir(parents=True)
    (tmp_path / "out/qpc/mine").write_text("keep")
    with pytest.raises(StageFailed, match="exists already"):
        build(make_root(), onnx_file, tmp_path / "out")
    assert (tmp_path / "out/qpc/mine").read_text() == "keep"


def test_the_key_holds_all_that_shapes_the_program_and_no_more(make_root: MakeRoot) -> None:
    sdk = make_root()
    base = ask()
    key = compile_key(base, "d1", sdk)
    changes: list[dict[str, object]] = [
        {"batch_size": 3},
        {"seq_length": 17},
        {"cores": 3},
        {"ols": None},
        {"mos": 1},
        {"precision": "int8"},
        {"extra": ["-multicast-weights"]},
    ]
    keys = {compile_key({**base, **change}, "d1", sdk) for change in changes}
    keys |= {compile_key(base, "d2", sdk), compile_key(base, "d1", dataclasses.replace(sdk, version="9"))}
    keys |= {compile_key(base, "d1", dataclasses.replace(sdk, platform="aic100"))}
    assert len(keys | {key}) == len(changes) + 4
    assert compile_key({**base, "must_exist": True}, "d1", sdk) == key
    flags = ["-mxfp6-matmul", "-multicast-weights"]
    both = {compile_key({**base, "extra": order}, "d1", sdk) for order in (flags, flags[::-1])}
    assert len(both) == 1


@pytest.mark.parametrize(
    ("dims", "names"),
    [(["b", "s"], ("b", "s")), ([4, "s"], (None, "s")), ([4, 128], (None, None)), (["b"], ("b", None))],
)
def test_the_graphs_own_symbols(dims: list[object], names: tuple[str | None, str | None]) -> None:
    assert dim_names({"inputs": [{"name": "x", "dtype": "int64", "dims": dims}]}) == names
