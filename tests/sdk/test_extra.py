"""What --extra lets through to the compiler, and what it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.sdk.extra import check_extra, split_extra


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
    assert split_extra(text) == flags
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
        ("-aic-profiling-type=../x", "stats, trace or latency"),
        ("-vtcm-working-set-limit-ratio=2", "0 to 1"),
        ("-aic-depth-first-mem 16", "write -aic-depth-first-mem=VALUE"),
        ("'-multicast-weights", "No closing quotation"),
        ("-multicast-weights\n-m=x", "control characters"),
        ("-v\0", "control characters"),
    ],
)
def test_everything_else_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        split_extra(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_either_allowed_flags_or_bad_input(text: str) -> None:
    try:
        flags = split_extra(text)
    except BadInput:
        return
    assert all(flag.startswith("-") and " " not in flag for flag in flags)
    assert split_extra(" ".join(flags)) == flags
