"""How long a card would take: a small model of one AIC100, fitted to the SDK's published encoder figures.

The published table gives samples per second for 417 encoder configurations on a 14-core card (docs/sdk.md).
The model explains them by four times: the arithmetic of one batch on the cores of an instance, its weights
streamed over a memory that all instances share, the synchronisation of its cores, and its outputs on the
link to the host. With one inference in flight these follow one another; with more, the link and the host
work while the cores do.

Fitted by bench/fit_card_model.py, which prints the residuals. Over the 417 rows the absolute error of the
throughput has a median of 7.0 %, a 90th percentile of 32 % and a maximum of 105 %; the worst rows are
networks whose features tell too little: ALBERT, DeBERTa and ELECTRA-small layers, length 512, two-layer
models. In all 136 (model, task) pairs best-throughput is at least as fast as balanced and best-latency, and
best-latency answers at least as soon as balanced, to within 0.1 %. A modelled figure is no measurement of a
card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FP16_BYTES = 2
#: Inferences a card is given in a second at most: the published table goes to 68 062 (bert-tiny, batch 1),
#: and networks smaller than its smallest are not extrapolated beyond.
_MOST_PER_SECOND = 7e4
#: Requests in flight beyond this do not change the model: the cores never wait for input.
_PIPELINE_NORM = 6.0


@dataclass(frozen=True)
class Features:
    """What the model knows of a network: MACs and output bytes per sample, weights, sequence length."""

    macs: float
    weight_bytes: float
    output_bytes: float
    tokens: int


@dataclass(frozen=True)
class Setup:
    """The card configuration; cores are NSPs per instance, set_size inferences in flight per instance."""

    batch_size: int
    cores: int
    instances: int
    set_size: int
    multicast_weights: bool = False
    mos: int | None = None
    ols: int | None = None


@dataclass(frozen=True)
class Coefficients:
    """The fitted constants. Times in seconds, rates in bytes per second, work in units of 10^9 MACs."""

    compute: float  # core-seconds for a sample of 10^9 MACs
    compute_power: float  # below 1: wide networks use the matrix unit better
    memory: float  # effective bandwidth of streamed weights, shared by the instances
    memory_norm: float  # how far streaming hides behind arithmetic: 1 not at all, large entirely
    multicast: float  # relative change of the streaming time with -multicast-weights
    mos: float  # relative change of the arithmetic with mos above 1
    ols: float  # the same for ols
    sync: float  # synchronising the cores of an instance
    sync_power: float
    sync_cores: float
    link: float  # output bytes per second to the host
    serial: float  # share of an inference that a second one in flight would hide
    serial_transfer: float  # the same for output transfers, which the host then also converts
    host: float  # the host's own time between two inferences when one is in flight


COEFFICIENTS = Coefficients(
    compute=0.0007111,
    compute_power=0.841,
    memory=1.506e12,
    memory_norm=1.263,
    multicast=0.4667,
    mos=-0.1114,
    ols=0.081,
    sync=1.488e-05,
    sync_power=0.9412,
    sync_cores=0.8082,
    link=1.054e10,
    serial=0.1934,
    serial_transfer=1.564,
    host=0.0002418,
)


def features_of(description: Mapping[str, Any]) -> Features:
    """The features a compiler left in a QPC's networkdesc.json."""
    found = description["features"]
    ranks = [entry["dims"] for entry in description["inputs"] if len(entry["dims"]) > 1]
    return Features(
        macs=float(found["macs_per_sample"]),
        weight_bytes=float(found["weight_bytes"]),
        output_bytes=float(found["output_bytes_per_sample"]),
        tokens=int(ranks[0][1]) if ranks else 1,
    )


def _transfer(features: Features, setup: Setup, k: Coefficients) -> float:
    return setup.batch_size * setup.instances * features.output_bytes / k.link


def cycle_seconds(features: Features, setup: Setup, k: Coefficients = COEFFICIENTS) -> float:
    """Seconds between two completions of one instance that is kept busy."""
    work = max(features.macs, 1.0) / 1e9
    tuning = 1 + k.mos * ((setup.mos or 1) > 1) + k.ols * ((setup.ols or 1) > 1)
    arithmetic = setup.batch_size * k.compute * work**k.compute_power * tuning / setup.cores
    streamed = min(FP16_BYTES * features.macs / features.tokens, features.weight_bytes)
    memory = setup.instances * streamed / k.memory * (1 + k.multicast * setup.multicast_weights)
    execution = (arithmetic**k.memory_norm + memory**k.memory_norm) ** (1 / k.memory_norm)
    if setup.cores > 1:
        execution += k.sync * work**k.sync_power * (setup.cores - 1) ** k.sync_cores
    transfer = _transfer(features, setup, k)
    overlapped = (execution**_PIPELINE_NORM + transfer**_PIPELINE_NORM) ** (1 / _PIPELINE_NORM)
    overlapped = max(overlapped, setup.instances / _MOST_PER_SECOND)
    if setup.set_size > 1:
        return float(overlapped)
    in_turn = execution * (1 + k.serial) + transfer * k.serial_transfer + k.host
    return float(max(overlapped, in_turn))


def throughput(features: Features, setup: Setup, k: Coefficients = COEFFICIENTS) -> float:
    """Samples per second over all instances."""
    return setup.batch_size * setup.instances / cycle_seconds(features, setup, k)


def mean_latency(features: Features, setup: Setup, k: Coefficients = COEFFICIENTS) -> float:
    """Mean seconds from submitting a batch to its result, by Little's law."""
    return setup.set_size * cycle_seconds(features, setup, k)


def spread(features: Features, setup: Setup, k: Coefficients = COEFFICIENTS) -> float:
    """Standard deviation of the logarithm of a latency.

    0.012 gives the published median p95/mean of 1.02; outputs that fill the link (fill-mask) bring it to
    about 1.1.
    """
    share = min(1.0, _transfer(features, setup, k) / cycle_seconds(features, setup, k))
    return 0.012 + 0.05 * share


def latencies(mean: float, sigma: float, count: int, seed: int) -> NDArray[np.float64]:
    """`count` log-normal latencies whose mean is exactly `mean`, the same for the same seed."""
    drawn = np.random.default_rng(seed).lognormal(0.0, sigma, count)
    return np.asarray(drawn * (mean / drawn.mean()), dtype=np.float64)
