"""The latency profile files in all their numberings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import StageFailed
from farm.sdk.latency import read_latency

NAMES = (
    "Sample, devInfPerSec, devExecUs, devInWaitTimeUs, devOutWaitTimeUs, hostRoundTripUs, enqTimeUs, "
    "preProcTimeUs, submitTimeUs, execTotalUs, exectoVcUs, execToCompleteUs, postProcUs, "
    "totalRoundtripTimeUs, queueDepth, numInfInQueue"
)


def row(number: int, total_us: object) -> str:
    return f"{number}, N/A, N/A, N/A, N/A, 2181, 2.1, 5.0, 1.5, 2232.1, 6.1, 2175, 2.0, {total_us}, 4, 5"


def write(folder: Path, number: int, totals: list[object], header: str = NAMES, preamble: int = 4) -> Path:
    path = folder / f"aic-profiling-program-{number}-latency.txt"
    lines = [f"preamble, {n}" for n in range(preamble)] + [header]
    path.write_text("\n".join([*lines, *(row(n, total) for n, total in enumerate(totals))]) + "\n")
    return path


@pytest.mark.parametrize("first", [0, 1])
def test_one_file_an_activation_in_their_order(tmp_path: Path, first: int) -> None:
    for number in range(11):
        write(tmp_path, first + number, [1000.0 * (number + 1), "2500.123"])
    profile = read_latency(tmp_path, 11, 0)
    assert [list(values) for values in profile.per_activation] == [[n + 1.0, 2.500123] for n in range(11)]
    assert not profile.by_place


def test_fewer_files_than_activations_are_read_for_what_they_are(tmp_path: Path) -> None:
    write(tmp_path, 0, [1000])
    assert len(read_latency(tmp_path, 7, 0).per_activation) == 1


def test_padded_names_and_columns_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "aic-profiling-program-0-latency.txt"
    path.write_text("a\nb\nc\nd\n  Sample ,  totalRoundtripTimeUs  , queueDepth\n 0 ,  2285.5 , 3\n")
    profile = read_latency(tmp_path, 1, 0)
    assert list(profile.per_activation[0]) == [2.2855]
    assert not profile.by_place


@pytest.mark.parametrize("preamble", [0, 3, 5])
def test_the_header_is_found_by_its_name(tmp_path: Path, preamble: int) -> None:
    write(tmp_path, 0, [1000], preamble=preamble)
    assert list(read_latency(tmp_path, 1, 0).per_activation[0]) == [1.0]


def test_a_renamed_column_is_taken_by_its_place_and_said(tmp_path: Path) -> None:
    write(tmp_path, 0, [1000], header=NAMES.replace("totalRoundtripTimeUs", "totalUs"))
    profile = read_latency(tmp_path, 1, 0)
    assert list(profile.per_activation[0]) == [1.0]
    assert profile.by_place


def test_files_of_an_earlier_run_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 0, [1000])
    os.utime(path, ns=(10**18, 10**18))
    with pytest.raises(StageFailed, match="older than the run"):
        read_latency(tmp_path, 1, 10**18 + 1)
    assert read_latency(tmp_path, 1, 10**18).files == (path,)


@pytest.mark.parametrize(
    ("totals", "says"),
    [
        ([], "no sample recorded"),
        ([1000, "N/A"], "line 7: 'N/A' is no latency"),
        ([1000, "nan"], "line 7"),
        ([1000, "0"], "line 7"),
        ([1000, "-3"], "line 7"),
        ([1000, "1_000"], "line 7"),
        ([1000, "٣"], "line 7"),
        (["1000, 7"], "line 6: 17 cells, not 16"),
    ],
)
def test_rows_that_cannot_be_believed(tmp_path: Path, totals: list[object], says: str) -> None:
    write(tmp_path, 0, totals)
    with pytest.raises(StageFailed, match=says) as caught:
        read_latency(tmp_path, 1, 0)
    assert caught.value.kind == "host"


def test_a_torn_last_line(tmp_path: Path) -> None:
    path = write(tmp_path, 0, [1000, 1000])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(StageFailed, match="line 7: 10 cells"):
        read_latency(tmp_path, 1, 0)


def test_no_files_an_empty_file_and_too_many_files(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="wrote no"):
        read_latency(tmp_path, 1, 0)
    (tmp_path / "aic-profiling-program-0-latency.txt").write_text("")
    with pytest.raises(StageFailed, match="no header"):
        read_latency(tmp_path, 1, 0)
    write(tmp_path, 1, [1000])
    with pytest.raises(StageFailed, match="2 latency files of 1 activations"):
        read_latency(tmp_path, 1, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0.001, 1e9), min_size=1))
def test_every_value_comes_back_in_ms(tmp_path: Path, values: list[float]) -> None:
    write(tmp_path, 0, list(values))
    np.testing.assert_allclose(read_latency(tmp_path, 1, 0).per_activation[0], np.array(values) / 1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_no_text_breaks_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "aic-profiling-program-0-latency.txt").write_text(text)
    with pytest.raises(StageFailed):
        read_latency(tmp_path, 1, 0)
