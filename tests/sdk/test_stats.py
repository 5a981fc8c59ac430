"""The Stats line, with the figures of published logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import StageFailed
from farm.sdk.stats import Stats, parse_stats

LOGGED = [(6517, 20215390, 8, 2579.025), (4252, 10001975, 1, 425.116), (21961, 20063118, 4, 4378.382)]


def line(count: int, duration: int, batch: int, rate: float) -> str:
    return f"InferenceCnt {count} TotalDuration {duration}us BatchSize {batch} Inf/Sec {rate:.3f}"


def log(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.log"
    path.write_text(text)
    return path


@pytest.mark.parametrize("figures", LOGGED)
def test_published_logs(tmp_path: Path, figures: tuple[int, int, int, float]) -> None:
    text = f"loading /opt/qti-aic/libQAic.so\n ---- Stats ----\n{line(*figures)}\nWriting file:x\n"
    assert parse_stats(log(tmp_path, text), figures[2]) == Stats(*figures)


def test_the_last_line_counts_and_newer_tables_do_not_collide(tmp_path: Path) -> None:
    table = (
        "BatchInfPerSec_Dev_2_Func_0, 9.0, 9.0\n--- Cumulative Device Metrics Report ---\nInf/Sec 12.000\n"
    )
    text = f"{line(*LOGGED[2])}\n{line(*LOGGED[0])}\n{table}"
    assert parse_stats(log(tmp_path, text), 8).inferences == 6517


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("all is well\n", "card", "no Stats line"),
        (" ---- Stats ----\nInferenceCnt 6517 TotalDuration 20215390us BatchSi", "card", "no Stats line"),
        (line(6517, 20215390, 8, 2579.128), "host", "line 1: .*make 2579.025"),
        (line(6517, 20215390, 8, 2579.025)[:-1], "host", "make 2579.025"),
        ("x\n" + line(0, 20215390, 8, 0), "card", "line 2: .*nothing ran"),
        (line(0, 0, 8, 0), "card", "nothing ran"),
        (line(4252, 10001975, 1, 425.116), "host", "compiled for batch 8"),
    ],
)
def test_what_cannot_be_believed_is_a_failure(tmp_path: Path, text: str, kind: str, says: str) -> None:
    path = log(tmp_path, text)
    with pytest.raises(StageFailed, match=says) as caught:
        parse_stats(path, 8)
    assert caught.value.kind == kind
    assert path.name in str(caught.value)
    assert caught.value.log == str(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 10**7), st.integers(1, 10**9), st.integers(1, 64))
def test_every_line_the_runner_can_print(tmp_path: Path, count: int, duration: int, batch: int) -> None:
    text = line(count, duration, batch, count * batch * 1e6 / duration)
    stats = parse_stats(log(tmp_path, text), batch)
    assert (stats.inferences, stats.duration_us) == (count, duration)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_no_text_breaks_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(StageFailed):
        parse_stats(log(tmp_path, text), 8)
