"""Fit the coefficients of the emulated card's timing model to the published figures, and print the residuals.

Usage: python bench/fit_card_model.py

Reads lut_nlp_models.csv (samples per second of 417 configurations) and farm/data/models.csv (the networks'
sizes), and prints `COEFFICIENTS` as farm/emulator/runtime/timing.py holds them. Robust least squares on the
logarithm of the throughput; a published order between the objectives of one model that the model turns
round is penalised.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from farm.emulator.runtime.timing import Coefficients, Features, Setup, throughput

ROOT = Path(__file__).resolve().parents[1]
#: Coefficients that may be negative; the others are fitted by their logarithm.
SIGNED = ("multicast", "mos", "ols")
FLOAT32 = 4
#: Round figures of a first fit by hand.
START = Coefficients(
    compute=7.6e-4,
    compute_power=0.77,
    memory=7e11,
    memory_norm=1.2,
    multicast=0.3,
    mos=0.001,
    ols=0.001,
    sync=4.5e-5,
    sync_power=0.9,
    sync_cores=0.4,
    link=1.08e10,
    serial=0.12,
    serial_transfer=1.6,
    host=1.8e-4,
)
#: Weight of an inverted order, step by step: at once it would lead into a poor minimum.
PENALTIES = (20.0, 50.0, 100.0, 200.0, 400.0, 1000.0)


@dataclass(frozen=True)
class Figure:
    """One row of the published table, with the network's features."""

    model: str
    task: str
    objective: str
    features: Features
    setup: Setup
    published: float  # samples per second


def network_features(facts: dict[str, str], task: str, length: int) -> Features:
    """Count the MACs, fp16 weight bytes and float32 output bytes of one sample of `length` tokens."""
    layers, hidden, inner, vocab = (int(facts[key]) for key in ("layers", "hidden", "intermediate", "vocab"))
    embedding = int(facts["embedding"] or hidden)
    labels = int(facts["labels"] or 2)
    per_token = 4 * hidden * hidden + 2 * hidden * inner
    macs = layers * (per_token * length + 2 * length * length * hidden)
    outputs = {
        "fill-mask": length * vocab,
        "question-answering": 2 * length,
        "text-classification": labels,
        "token-classification": length * labels,
        "sentence-similarity": length * hidden + hidden,
    }.get(task, length * hidden)
    if task == "fill-mask":
        macs += length * embedding * (hidden + vocab)
    return Features(macs, 2 * float(facts["params"]), FLOAT32 * outputs, length)


def read_figures(root: Path = ROOT) -> list[Figure]:
    """The published rows in file order."""
    with (root / "farm/data/models.csv").open(newline="") as file:
        facts = {row["model"]: row for row in csv.DictReader(file)}
    with (root / "lut_nlp_models.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row["MODEL_NAME"]]
    return [
        Figure(
            row["MODEL_NAME"],
            row["TASK"],
            row["OBJECTIVE"],
            network_features(facts[row["MODEL_NAME"]], row["TASK"], int(row["SEQUENCE_LENGTH"])),
            Setup(
                int(row["BATCH_SIZE"]),
                int(row["CORES"]),
                int(row["INSTANCES"]),
                int(row["SET_SIZE"]),
                multicast_weights="-multicast-weights" in row["EXTRA"],
                mos=int(row["MOS"]) if row["MOS"].strip() else None,
                ols=int(row["OLS"]) if row["OLS"].strip() else None,
            ),
            float(row["THPS"]),
        )
        for row in rows
    ]


def predict(figures: list[Figure], k: Coefficients) -> NDArray[np.float64]:
    """Samples per second of each figure's configuration."""
    return np.array([throughput(figure.features, figure.setup, k) for figure in figures])


def ordered_pairs(figures: list[Figure]) -> Iterator[tuple[int, int, float]]:
    """(slower, faster, shift) rows of one model and task: orders that hold in all of the published table.

    Throughput: best-throughput is at least balanced and best-latency. Latency, which is the samples in flight
    over the throughput: best-latency is at most balanced; `shift` is the logarithm of their in-flight ratio.
    """
    groups: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for index, figure in enumerate(figures):
        groups[figure.model, figure.task][figure.objective] = index
    for group in groups.values():
        if len(group) == 3:
            fast, even, quick = (group[name] for name in ("best-throughput", "balanced", "best-latency"))
            yield even, fast, 0.0
            yield quick, fast, 0.0
            yield even, quick, np.log(in_flight(figures[even]) / in_flight(figures[quick]))


def in_flight(figure: Figure) -> int:
    """Samples in flight on the card."""
    return figure.setup.batch_size * figure.setup.instances * figure.setup.set_size


def inversions(figures: list[Figure], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much (relative) each published order is turned round; at most 0 where it is kept."""
    logs = np.log(predicted)
    return np.array([logs[low] - logs[high] - shift for low, high, shift in ordered_pairs(figures)])


def unpack(vector: NDArray[np.float64]) -> Coefficients:
    """Coefficients from the fit's vector."""
    names = [field.name for field in fields(Coefficients)]
    return Coefficients(
        **{
            name: float(value if name in SIGNED else np.exp(value))
            for name, value in zip(names, vector, strict=True)
        }
    )


def pack(k: Coefficients) -> NDArray[np.float64]:
    """The fit's vector from coefficients."""
    return np.array(
        [
            getattr(k, field.name) if field.name in SIGNED else np.log(getattr(k, field.name))
            for field in fields(k)
        ]
    )


def fit(figures: list[Figure], start: Coefficients, penalties: tuple[float, ...] = PENALTIES) -> Coefficients:
    """Fit from `start`, with ever dearer inversions."""
    published = np.log([figure.published for figure in figures])
    vector = pack(start)
    for penalty in penalties:

        def residuals(at: NDArray[np.float64], penalty: float = penalty) -> NDArray[np.float64]:
            predicted = predict(figures, unpack(at))
            wrong = np.maximum(0, inversions(figures, predicted) + 0.0005)
            return np.concatenate([np.log(predicted) - published, penalty * wrong])

        vector = least_squares(residuals, vector, loss="soft_l1", f_scale=0.1, x_scale=0.1, max_nfev=300).x
    return unpack(vector)


def report(figures: list[Figure], k: Coefficients) -> str:
    """The residuals in words, worst rows last."""
    predicted = predict(figures, k)
    error = np.abs(predicted / np.array([figure.published for figure in figures]) - 1)
    lines = [f"rows {len(figures)}: absolute error median {np.median(error):.1%}"]
    lines[0] += f", p90 {np.quantile(error, 0.9):.1%}, max {error.max():.1%}"
    for objective in ("best-throughput", "balanced", "best-latency"):
        part = error[[figure.objective == objective for figure in figures]]
        lines.append(f"  {objective}: median {np.median(part):.1%}, p90 {np.quantile(part, 0.9):.1%}")
    wrong = inversions(figures, predicted)
    lines.append(
        f"orders {wrong.size}: {(wrong > 0.001).sum()} inverted by more than 0.1 %, worst {wrong.max():.2%}"
    )
    for index in np.argsort(error)[-8:]:
        row = figures[index]
        name = f"{row.model} {row.task} {row.objective}"
        lines.append(f"  {error[index]:.0%} {name}: {row.published} -> {predicted[index]:.1f}")
    return "\n".join(lines)


def main() -> None:
    """Fit, print the coefficients and what they leave unexplained."""
    figures = read_figures()
    fitted = fit(figures, START)
    print("COEFFICIENTS = Coefficients(")
    for field in fields(fitted):
        print(f"    {field.name}={getattr(fitted, field.name):.4g},")
    print(")")
    print(report(figures, fitted))


if __name__ == "__main__":
    main()
