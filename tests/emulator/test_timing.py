"""The card model keeps the published figures' size and order, and its latencies their spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fit_card_model import Figure, inversions, predict, read_figures
from farm.emulator.runtime import timing
from farm.emulator.runtime.timing import COEFFICIENTS, Features, Setup


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    return read_figures()


def test_published_throughput_is_met_within_the_stated_error(figures: list[Figure]) -> None:
    error = np.abs(predict(figures, COEFFICIENTS) / [figure.published for figure in figures] - 1)
    assert len(error) == 417
    assert np.median(error) <= 0.075
    assert np.quantile(error, 0.9) <= 0.33


def test_objectives_keep_their_published_order(figures: list[Figure]) -> None:
    wrong = inversions(figures, predict(figures, COEFFICIENTS))
    assert len(wrong) == 3 * 136
    assert wrong.max() <= 0.0015


_FEATURES = st.builds(
    Features,
    macs=st.floats(1e6, 1e12),
    weight_bytes=st.floats(1e5, 1e10),
    output_bytes=st.floats(4, 1e8),
    tokens=st.integers(1, 512),
)
_SETUPS = st.builds(
    Setup,
    batch_size=st.integers(1, 64),
    cores=st.integers(1, 16),
    instances=st.integers(1, 16),
    set_size=st.integers(1, 10),
    multicast_weights=st.booleans(),
    mos=st.none() | st.integers(1, 16),
    ols=st.none() | st.integers(1, 4),
)


@given(_FEATURES, _SETUPS)
def test_littles_law_holds_exactly(features: Features, setup: Setup) -> None:
    in_flight = setup.batch_size * setup.instances * setup.set_size
    product = timing.throughput(features, setup) * timing.mean_latency(features, setup)
    assert product == pytest.approx(in_flight)


@pytest.mark.parametrize("set_size", [1, 4])
def test_no_network_is_small_enough_to_outrun_the_host(set_size: int) -> None:
    setup = Setup(batch_size=8, cores=1, instances=14, set_size=set_size)
    executions = timing.throughput(Features(1e3, 1e3, 4, 8), setup) / setup.batch_size
    assert executions <= 70_001


@given(_FEATURES, _SETUPS, st.floats(1.01, 100))
def test_a_larger_network_is_never_faster(features: Features, setup: Setup, factor: float) -> None:
    larger = Features(features.macs * factor, features.weight_bytes, features.output_bytes, features.tokens)
    assert timing.throughput(larger, setup) <= timing.throughput(features, setup)


@pytest.mark.parametrize(("output_bytes", "low", "high"), [(1024.0, 1.01, 1.03), (1.6e7, 1.05, 1.15)])
def test_p95_over_mean_is_that_of_the_published_rows(output_bytes: float, low: float, high: float) -> None:
    features, setup = Features(1.1e10, 2e8, output_bytes, 128), Setup(8, 2, 7, 2)
    drawn = timing.latencies(2.0, timing.spread(features, setup), 5000, seed=1)
    assert drawn.mean() == pytest.approx(2.0)
    assert low < np.percentile(drawn, 95) / 2.0 < high


def test_the_same_seed_draws_the_same_latencies() -> None:
    first, again, other = (timing.latencies(1.0, 0.1, 20, seed) for seed in (4, 4, 5))
    assert first.tolist() == again.tolist() != other.tolist()


def test_features_of_a_network_without_a_sequence() -> None:
    counts = {"macs_per_sample": 9, "weight_bytes": 8, "output_bytes_per_sample": 4}
    found = timing.features_of({"features": counts, "inputs": [{"dims": [5]}]})
    assert found == Features(9.0, 8.0, 4.0, 1)
