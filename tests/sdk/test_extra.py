"""What --extra lets through to the compiler, and what it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadInput, StageFailed
from farm.domain.options import split_extra
from farm.sdk.extra import check_extra
from farm.sdk.launcher import DirectLauncher
from farm.stages.compile import build_compile, dim_names
from tests.stages.conftest import MakeRoot, ask
from tests.stages.small_model import FACTS


def checked(text: str) -> tuple[str, ...]:
    """What `--extra TEXT` passes to the compiler."""
    return check_extra(split_extra(text))


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", ()),
        (" ", ()),
        (" -multicast-weights", ("-multicast-weights",)),
        ("-multicast-weights=true", ("-multicast-weights",)),
        (
            "-aic-enable-depth-first '-aic-depth-first-mem=16'  -mxfp6-matmul",
            ("-aic-enable-depth-first", "-aic-depth-first-mem=16", "-mxfp6-matmul"),
        ),
        ("-vtcm-working-set-limit-ratio=0.25", ("-vtcm-working-set-limit-ratio=0.25",)),
        ("-size-split-granularity=1024 -stats-level=70", ("-size-split-granularity=1024", "-stats-level=70")),
    ],
)
def test_flags_of_the_compiler_pass(text: str, flags: tuple[str, ...]) -> None:
    assert checked(text) == flags
    assert check_extra(flags) == flags


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-frobnicate", "not a compiler flag"),
        ("--multicast-weights", "not a compiler flag"),
        ("multicast-weights", "not a compiler flag"),
        ("; rm -rf /", "not a compiler flag"),
        ("-multicast-weights; rm -rf /", "not a compiler flag"),
        ("$(reboot)", "not a compiler flag"),
        ("`reboot`", "not a compiler flag"),
        ("-multicast-weights | tee x", "not a compiler flag"),
        ("-multicast-weights -multicast-weights", "given twice"),
        ("-multicast-weights -multicast-weights=true", "given twice"),
        ("-stats-level=10 -stats-level=20", "given twice"),
        ("-mos=1", "set by --mos"),
        ("-aic-num-cores=16", "set by --cores"),
        ("-m=/etc/passwd", "set by --model-name"),
        ("-aic-binary-dir=/tmp/x", "set by the farm"),
        ("-compile-only", "set by the farm"),
        ("-batchsize=9", "set by --batch-size"),
        ("-convert-to-quantize", "set by --precision"),
        ("-custom-IO-list-file=../../etc/passwd", "name a file"),
        ("-dump-profile=/tmp/x", "name a file"),
        ("-multicast-weights=false", "takes no value"),
        ("-aic-depth-first-mem", "write -aic-depth-first-mem=VALUE"),
        ("-aic-depth-first-mem=64", "8 to 32"),
        ("-aic-depth-first-mem=0x10", "8 to 32"),
        ("-aic-depth-first-mem=１６", "8 to 32"),
        (f"-aic-depth-first-mem={'9' * 5000}", "8 to 32"),
        ("-aic-profiling-type=../x", "stats, trace or latency"),
        ("-vtcm-working-set-limit-ratio=2", "0 to 1"),
        ("-aic-depth-first-mem 16", "write -aic-depth-first-mem=VALUE"),
        ("'-multicast-weights", "No closing quotation"),
        ("-multicast-weights\n-m=x", "a control character"),
        ("-v\0", "a control character"),
    ],
)
def test_everything_else_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        checked(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_either_allowed_flags_or_bad_input(text: str) -> None:
    try:
        flags = checked(text)
    except BadInput:
        return
    assert all(flag.startswith("-") and " " not in flag for flag in flags)
    assert checked(" ".join(flags)) == flags


COMMON = (
    "-aic-enable-depth-first -aic-depth-first-mem=16 -aic-perf-metrics -aic-perf-warnings -ddr-stats "
    "-multicast-weights -mxfp6-matmul -time-passes -v -allocator-dealloc-delay=3 -compile-threads=2 "
    "-size-split-granularity=1024 -vtcm-working-set-limit-ratio=0.5"
)
NEWER = "-stats-level=70 -retained-state -sub-functions -allow-mxint8-mdp-io -mdts-mos=2"


@pytest.mark.parametrize(
    ("profile", "more"), [("1.12", "-aic-profiling-type=stats"), ("1.21", NEWER)], ids=["1.12", "1.21"]
)
def test_what_is_allowed_compiles(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, profile: str, more: str
) -> None:
    extra = list(checked(f"{COMMON} {more}"))
    asked = {**ask(), "extra": extra}
    made = build_compile(
        asked,
        onnx_file,
        dim_names(FACTS),
        tmp_path / "out",
        DirectLauncher(),
        make_root(profile),
        tmp_path / "log",
    )
    assert made["qpc_bytes"] > 0


@pytest.mark.parametrize("profile", ["1.12", "1.21"])
def test_flags_of_other_trades_are_known_to_the_compiler_too(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path, profile: str
) -> None:
    argv = [
        str(make_root(profile).compiler),
        f"-m={onnx_file}",
        "-aic-hw",
        "-compile-only",
        "-convert-to-fp16",
    ]
    argv += [f"-mdp-load-partition-config={tmp_path / 'mdp.json'}", "-mdp-dump-partition-config=dump.json"]
    argv += ["-onnx-define-symbol=batch_size,2", "-onnx-define-symbol=sequence_length,16"]
    argv += [f"-aic-binary-dir={tmp_path / 'qpc'}"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "qpc/programqpc.bin").is_file()


def test_a_flag_this_compiler_lacks_fails_the_job_in_one_line(
    make_root: MakeRoot, onnx_file: Path, tmp_path: Path
) -> None:
    asked = {**ask(), "extra": ["-stats-level=70"]}
    with pytest.raises(StageFailed, match="Invalid option -stats-level=70") as caught:
        build_compile(
            asked,
            onnx_file,
            dim_names(FACTS),
            tmp_path / "out",
            DirectLauncher(),
            make_root("1.12"),
            tmp_path / "log",
        )
    assert caught.value.kind == "input"
    assert "\n" not in str(caught.value)
