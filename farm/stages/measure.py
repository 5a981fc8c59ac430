"""What a run measured: the figures of its result record, derived from the files it left."""

from __future__ import annotations

import filecmp
import glob
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

import farm
from farm.domain.errors import StageFailed
from farm.domain.statistics import LatencySummary, summarise
from farm.sdk.api_child import ANSWER
from farm.sdk.devices import Device
from farm.sdk.latency import Milliseconds, read_latency
from farm.sdk.stats import Stats, parse_stats
from farm.stages.run import PreparedRun, RawRun


@dataclass(frozen=True)
class _Figures:
    stats: Stats
    latencies_ms: tuple[Milliseconds, ...]
    flags: tuple[str, ...]


def measure(prepared: PreparedRun, raw: RawRun) -> dict[str, Any]:
    """The run's part of the result record (docs/user-guide.md, "A result"), and `telemetry` beside it.

    Raises StageFailed where the Stats line, a latency file or an output is missing or contradicts itself.
    flags: those of farm.domain.statistics, and
    `foreign_tenant`   another process used the card before or after the run
    `latency_by_place` the latency column was not found by its name
    `outputs_disagree` inferences of the same input gave different outputs (the files that differ are kept)
    """
    for name, path in prepared.outputs.items():
        if not path.is_file() or path.stat().st_size == 0:
            raise StageFailed("host", f"the run wrote no output {name!r} ({path.name})", str(raw.result.log))
    job = prepared.job
    figures = _api_figures(prepared, raw) if job.route == "api" else _runner_figures(prepared, raw)
    stats = figures.stats
    summary = summarise(
        [values.tolist() for values in figures.latencies_ms],
        job.config,
        stats.inf_s,
        large_outputs=job.task == "fill-mask",
    )
    flags = [*summary.flags, *figures.flags, *(["foreign_tenant"] if raw.foreign_tenant else [])]
    return {
        "platform": raw.sdk.platform,
        "timing": raw.sdk.timing,
        "sdk_version": raw.sdk.version,
        **_card(raw.before, raw.after),
        "throughput_inf_s": stats.inf_s,
        "inferences": stats.inferences,
        "duration_us": stats.duration_us,
        **_latency(summary),
        "prepare_s": prepared.seconds,
        "card_s": raw.card_s,
        "run_s": raw.result.seconds,
        "peak_rss_bytes": raw.result.peak_rss_bytes,
        "host_busy": raw.host_busy,
        "started": raw.started,
        "finished": raw.finished,
        "workdir": str(prepared.workdir),
        "flags": flags,
        "farm_version": farm.__version__,
        "telemetry": {"before": _telemetry(raw.before), "after": _telemetry(raw.after)},
    }


def _runner_figures(prepared: PreparedRun, raw: RawRun) -> _Figures:
    config = prepared.job.config
    stats = parse_stats(raw.result.log, config.batch_size)
    profile = read_latency(prepared.tree.outputs, config.instances, prepared.since_ns)
    flags = ["latency_by_place"] if profile.by_place else []
    if not _outputs_agree(prepared):
        flags.append("outputs_disagree")
    return _Figures(stats, profile.per_activation, tuple(flags))


def _outputs_agree(prepared: PreparedRun) -> bool:
    """Whether all written inferences equal the first, byte for byte: every activation had the same input.

    The runner's documents do not say which activations write (docs/sdk.md); every file there is is compared.
    Those that agree are removed, the first one tells all.
    """
    agree = True
    for first in prepared.outputs.values():
        stem = first.name.removesuffix("-activation-0-inf-0.bin")
        for other in sorted(first.parent.glob(f"{glob.escape(stem)}-activation-*-inf-*.bin")):
            if other == first:
                continue
            if filecmp.cmp(first, other, shallow=False):
                other.unlink()
            else:
                agree = False
    return agree


def _api_figures(prepared: PreparedRun, raw: RawRun) -> _Figures:
    folder, job = prepared.tree.outputs, prepared.job
    try:
        answer = json.loads((folder / ANSWER).read_text())
        latencies = tuple(
            np.load(folder / f"latency-activation-{number}.npy", allow_pickle=False)
            for number in range(job.config.instances)
        )
        stats = Stats(
            inferences=int(answer["inferences"]),
            duration_us=int(answer["duration_us"]),
            batch_size=job.config.batch_size,
            inf_s=float(answer["throughput_inf_s"]),
        )
        agree = bool(answer["outputs_agree"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageFailed(
            "host", f"the api run left no whole answer: {error}", str(raw.result.log)
        ) from error
    return _Figures(stats, latencies, () if agree else ("outputs_disagree",))


def _latency(summary: LatencySummary) -> dict[str, Any]:
    return {
        "latency_ms_mean": summary.mean,
        "latency_ms_p50": summary.p50,
        "latency_ms_p90": summary.p90,
        "latency_ms_p95": summary.p95,
        "latency_ms_p99": summary.p99,
        "latency_ms_p95_raw": summary.p95_raw,
        "latency_samples": summary.samples,
    }


def _card(before: Device, after: Device) -> dict[str, Any]:
    """The card, with temperature and power as they were when the run ended, warm."""
    return {
        "device_serial": before.serial,
        "pci_address": before.pci_address,
        "sku": before.sku,
        "nsp_total": before.nsp_total,
        "firmware": before.firmware,
        "temperature_c": after.temperature_c,
        "power_w": after.power_w,
    }


def _telemetry(card: Device) -> dict[str, Any]:
    return {
        "temperature_c": card.temperature_c,
        "power_w": card.power_w,
        "tdp_w": card.tdp_w,
        "nsp_mhz": card.nsp_mhz,
        "nsp_free": card.nsp_free,
        "networks_active": card.networks_active,
    }
