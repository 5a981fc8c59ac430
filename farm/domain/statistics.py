"""Latency statistics of one run, derived from every sample it kept, and the checks a sound run passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import floor, fsum

from farm.domain.job import CardConfiguration

#: Samples below which a percentile is not stated: those after which an early stop is sound at 99 %
#: confidence. Source: MLPerf inference rules, early stopping.
P99_SAMPLES = 662
P90_SAMPLES = 64

WARM_UP_S = 1.0
#: Host time between two requests that an activation with one request in flight shows, in ms.
_HOST_GAP_MS = 0.1


@dataclass(frozen=True)
class LatencySummary:
    """Latencies of one batched request in ms, after warm-up; p95_raw with warm-up, as published figures are.

    None where there are too few samples. samples counts those after warm-up. flags:
    `partial`       fewer activations have samples than instances ran
    `untrimmed`     the run was too short to leave warm-up out, so it is in
    `little_law`    the mean does not fit the throughput: samples missing, stale, or another set size
    `p95_range`     p95 lies outside what the throughput makes plausible
    `p95_long_tail` p95 is far above the mean, as large outputs make it
    """

    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p95_raw: float | None
    samples: int
    flags: tuple[str, ...] = field(default=())


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The percentile by linear interpolation between order statistics, of at least one sorted value."""
    place = (len(ordered) - 1) * fraction
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def warm_up(latencies_ms: Sequence[float], set_size: int) -> int:
    """How many leading requests of one activation are warm-up: those of the first max(1 s, 2 x set size).

    With set_size requests in flight the n-th completes after the sum of the first n latencies / set_size.
    """
    elapsed_ms = 0.0
    for n, latency in enumerate(latencies_ms):
        if n >= 2 * set_size and elapsed_ms >= WARM_UP_S * 1000 * set_size:
            return n
        elapsed_ms += latency
    return len(latencies_ms)


def summarise(
    latencies_ms: Sequence[Sequence[float]],
    config: CardConfiguration,
    throughput: float,
    *,
    large_outputs: bool = False,
) -> LatencySummary:
    """The statistics of a run.

    latencies_ms: per activation, in order of completion, each the time of one batched request in ms.
    throughput: samples per second over all activations. large_outputs: outputs of a vocabulary's width,
    whose transfer gives a long tail.
    """
    activations = [[float(value) for value in rows] for rows in latencies_ms if len(rows)]
    flags = [] if len(activations) >= config.instances else ["partial"]
    raw = sorted(chain.from_iterable(activations))
    if not raw:
        return LatencySummary(None, None, None, None, None, None, 0, tuple(flags))
    kept = [rows[warm_up(rows, config.set_size) :] for rows in activations]
    if all(kept):
        steady = sorted(chain.from_iterable(kept))
    else:
        steady = raw
        flags.append("untrimmed")
    p95_raw = percentile(raw, 0.95)
    flags += _gates(fsum(raw) / len(raw), p95_raw, config, throughput, large_outputs)
    return LatencySummary(
        mean=fsum(steady) / len(steady),
        p50=percentile(steady, 0.50),
        p90=percentile(steady, 0.90) if len(steady) >= P90_SAMPLES else None,
        p95=percentile(steady, 0.95),
        p99=percentile(steady, 0.99) if len(steady) >= P99_SAMPLES else None,
        p95_raw=p95_raw,
        samples=len(steady),
        flags=tuple(flags),
    )


def _gates(
    mean_ms: float, p95_ms: float, config: CardConfiguration, throughput: float, large_outputs: bool
) -> list[str]:
    """Little's law: with batch x instances x set size samples in flight, latency = that / throughput.

    Throughput counts the whole run, so the latencies here do too, warm-up included. With one request in
    flight the device waits for the host in between, so latencies may be shorter by that gap.
    Source: docs/sdk.md, latency and throughput.
    """
    if throughput <= 0:
        return ["little_law", "p95_range"]
    expected_ms = config.batch_size * config.instances * config.set_size / throughput * 1000
    gap_ms = _HOST_GAP_MS if config.set_size == 1 else 0.0
    flags = []
    if not 0.97 * expected_ms - gap_ms <= mean_ms <= 1.03 * expected_ms:
        flags.append("little_law")
    if not 0.95 * expected_ms - gap_ms <= p95_ms <= 1.3 * expected_ms:
        tail = large_outputs and 1.3 * expected_ms < p95_ms <= 1.7 * expected_ms
        flags.append("p95_long_tail" if tail else "p95_range")
    return flags
