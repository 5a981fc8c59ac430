"""Latency statistics: percentiles, warm-up, and the checks of a run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.job import CardConfiguration
from farm.domain.statistics import percentile, summarise, warm_up

SINGLE = CardConfiguration(1, 128, 14, 1, 1)
SAMPLES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=80)


def sound(config: CardConfiguration, latency_ms: float) -> float:
    """The throughput that fits a mean latency."""
    return config.batch_size * config.instances * config.set_size / latency_ms * 1000


@given(SAMPLES, st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_percentiles_interpolate_linearly(values: list[float], fraction: float) -> None:
    assert percentile(sorted(values), fraction) == pytest.approx(np.quantile(values, fraction), rel=1e-9)


@pytest.mark.parametrize(
    ("samples", "set_size", "expected"),
    [
        ([10.0] * 200, 1, 100),
        ([10.0] * 200, 4, 400 // 2),
        ([10.0] * 500, 4, 400),
        ([1500.0] * 5, 1, 2),
        ([1500.0] * 30, 10, 20),
        ([2.0] * 10, 1, 10),
        ([], 1, 0),
    ],
)
def test_warm_up_is_a_second_or_twice_the_set_size(
    samples: list[float], set_size: int, expected: int
) -> None:
    assert warm_up(samples, set_size) == expected


def test_warm_up_is_left_out_of_all_but_the_raw_p95() -> None:
    rows = [100.0] * 10 + [2.0] * 1000
    summary = summarise([rows], SINGLE, sound(SINGLE, sum(rows) / len(rows)))
    assert (summary.mean, summary.p50, summary.p95, summary.p99) == (2.0, 2.0, 2.0, 2.0)
    assert summary.samples == 1000
    assert summary.p95_raw == percentile(sorted(rows), 0.95)
    assert "untrimmed" not in summary.flags


def test_a_short_run_keeps_its_warm_up_and_says_so() -> None:
    summary = summarise([[2.0] * 100], SINGLE, 500)
    assert summary.samples == 100
    assert summary.flags == ("untrimmed",)


@pytest.mark.parametrize(
    ("samples", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_percentiles_need_enough_samples(samples: int, p90: bool, p99: bool) -> None:
    summary = summarise([[1000.0] * (samples + 2)], SINGLE, 1.0)
    assert summary.samples == samples
    assert (summary.p90 is not None, summary.p99 is not None) == (p90, p99)
    assert summary.p50 == summary.p95 == 1000.0


def test_activations_are_pooled_after_each_lost_its_own_warm_up() -> None:
    config = CardConfiguration(4, 128, 7, 2, 1)
    rows = [[50.0] * 20 + [10.0] * 300, [50.0] * 20 + [12.0] * 300]
    mean = sum(map(sum, rows)) / sum(map(len, rows))
    summary = summarise(rows, config, sound(config, mean))
    assert summary.samples == 600
    assert summary.mean == pytest.approx(11.0)
    assert summary.p50 == pytest.approx(11.0)


def test_arrays_are_taken() -> None:
    rows = np.full((2, 300), 10.0)
    config = CardConfiguration(4, 128, 7, 2, 1)
    summary = summarise(list(rows), config, sound(config, 10.0))
    assert summary.mean == 10.0
    assert summary.flags == ()
    assert type(summary.p95) is float


def test_fewer_files_than_instances_is_partial() -> None:
    config = CardConfiguration(1, 128, 7, 2, 1)
    assert "partial" in summarise([[10.0] * 300], config, sound(config, 10.0)).flags
    assert "partial" in summarise([[10.0] * 300, []], config, sound(config, 10.0)).flags
    assert "partial" not in summarise([[10.0] * 300] * 2, config, sound(config, 10.0)).flags


def test_nothing_measured_is_none() -> None:
    summary = summarise([], SINGLE, 100.0)
    assert (summary.mean, summary.p50, summary.p95, summary.p95_raw, summary.samples) == (
        None,
        None,
        None,
        None,
        0,
    )
    assert summary.flags == ("partial",)


class TestGates:
    config = CardConfiguration(8, 128, 2, 7, 4)

    def flags(self, ratio: float) -> tuple[str, ...]:
        """The flags of a run whose mean latency is `ratio` of what the throughput makes of it."""
        return summarise([[40.0] * 200] * 7, self.config, sound(self.config, 40.0) * ratio).flags

    @pytest.mark.parametrize("ratio", [0.971, 1.0, 1.029])
    def test_a_mean_that_fits_the_throughput_passes(self, ratio: float) -> None:
        assert self.flags(ratio) == ()

    @pytest.mark.parametrize("ratio", [0.75, 0.969, 1.031, 4 / 3])
    def test_a_mean_that_does_not_fit_is_flagged(self, ratio: float) -> None:
        assert "little_law" in self.flags(ratio)

    def test_one_request_in_flight_leaves_the_host_a_gap(self) -> None:
        def law(config: CardConfiguration, gap_ms: float) -> tuple[str, ...]:
            rows = [[1.0] * 2000] * config.instances
            return summarise(rows, config, sound(config, 1.0 + gap_ms)).flags

        assert law(SINGLE, 0.1) == ()
        assert law(SINGLE, 0.2) == ("little_law", "p95_range")
        assert "little_law" in law(CardConfiguration(1, 128, 14, 1, 2), 0.1)

    @pytest.mark.parametrize(
        ("p95", "large", "flag"),
        [
            (1.25, False, None),
            (1.5, False, "p95_range"),
            (1.5, True, "p95_long_tail"),
            (1.9, True, "p95_range"),
        ],
    )
    def test_a_p95_far_from_the_mean(self, p95: float, large: bool, flag: str | None) -> None:
        low = (10 - p95) / 9
        rows = ([10.0 * low] * 9 + [10.0 * p95]) * 100
        summary = summarise([rows], SINGLE, sound(SINGLE, 10.0), large_outputs=large)
        assert summary.flags == (() if flag is None else (flag,))

    def test_no_throughput_fits_nothing(self) -> None:
        assert set(summarise([[1.0] * 2000], SINGLE, 0.0).flags) == {"little_law", "p95_range"}


@given(st.lists(SAMPLES, min_size=1, max_size=4), st.floats(0.01, 1e6))
def test_a_summary_is_ordered_and_bounded(rows: list[list[float]], throughput: float) -> None:
    summary = summarise(rows, CardConfiguration(1, 128, 1, len(rows), 1), throughput)
    values = [value for row in rows for value in row]
    assert summary.p50 is not None
    assert summary.p95 is not None
    assert min(values) <= summary.p50 <= summary.p95 <= max(values)
    assert summary.p90 is None or summary.p50 <= summary.p90 <= summary.p95
    assert (summary.p90 is None) == (summary.samples < 64)
    assert 0 < summary.samples <= len(values)
