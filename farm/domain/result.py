"""The result of a job: one flat record composed of what its stages reported."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from farm.domain.job import Job

#: The names of a result record, in the order they are shown. A value that was not measured is None, never 0.
FIELDS: tuple[str, ...] = (
    "campaign", "job", "model", "revision", "task", "head", "objective", "precision",
    "batch_size", "seq_length", "cores", "instances", "set_size", "ols", "mos", "extra", "sources",
    "opset", "seed", "seconds", "repeat", "route", "platform", "timing", "weights",
    "node", "device", "device_serial", "pci_address", "sku", "nsp_total", "firmware", "sdk_version",
    "lut_digest",
    "state", "attempts", "error_kind", "error",
    "throughput_inf_s", "latency_ms_mean", "latency_ms_p50", "latency_ms_p90", "latency_ms_p95",
    "latency_ms_p99", "latency_ms_p95_raw", "latency_samples", "inferences", "duration_us",
    "cosine_min", "max_abs_diff", "accuracy", "published_inf_s", "published_latency_ms",
    "export_s", "reference_s", "compile_s", "prepare_s", "card_s", "run_s", "queued_s",
    "temperature_c", "power_w", "cards_busy", "host_busy", "onnx_key", "qpc_key", "workdir", "flags",
    "started", "finished", "farm_version",
)  # fmt: skip

#: What the run stage's outcome contributes under the record's own names.
_FROM_RUN = (
    "platform", "timing", "node", "device", "device_serial", "pci_address", "sku", "nsp_total", "firmware",
    "sdk_version", "throughput_inf_s", "latency_ms_mean", "latency_ms_p50", "latency_ms_p90",
    "latency_ms_p95", "latency_ms_p99", "latency_ms_p95_raw", "latency_samples", "inferences",
    "duration_us", "prepare_s",
    "card_s", "run_s", "temperature_c", "power_w", "cards_busy", "host_busy", "workdir", "started",
    "farm_version",
)  # fmt: skip


def iso(milliseconds: int | float | str | None) -> str | None:
    """Milliseconds since the epoch as ISO 8601 UTC, None for nothing."""
    if milliseconds in (None, ""):
        return None
    moment = datetime.fromtimestamp(float(milliseconds) / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compose(
    job: Job,
    outcomes: Mapping[str, Mapping[str, Any]],
    *,
    job_id: str | None,
    campaign: str | None,
    state: str,
    attempts: int = 0,
    error_kind: str | None = None,
    error: str | None = None,
    finished: str | None = None,
    failed_stages: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The result record of `job` from its stages' outcomes (by kind; a stage without one is left out).

    failed_stages: kinds that failed without failing the job (a reference, a compare); each becomes a flag.
    """
    export, run = outcomes.get("export", {}), outcomes.get("run", {})
    compare = outcomes.get("compare", {})
    record: dict[str, Any] = dict.fromkeys(FIELDS)
    config = job.config
    record.update(
        campaign=campaign, job=job_id, model=job.model, revision=export.get("revision") or job.revision,
        task=job.task, head=export.get("head"), objective=job.objective, precision=job.precision,
        batch_size=config.batch_size, seq_length=config.seq_length, cores=config.cores,
        instances=config.instances, set_size=config.set_size, ols=config.ols, mos=config.mos,
        extra=list(config.extra), sources=dict(job.sources), opset=export.get("opset", job.opset),
        seed=job.seed, seconds=job.seconds, repeat=job.repeat, route=job.route, weights=job.weights,
        lut_digest=job.lut_digest, state=state, attempts=attempts, error_kind=error_kind or None,
        error=error or None, finished=finished,
    )  # fmt: skip
    record.update({name: run.get(name) for name in _FROM_RUN})
    record.update({name: compare.get(name) for name in ("cosine_min", "max_abs_diff", "accuracy")})
    if job.published is not None:
        record.update(published_inf_s=job.published.inf_s, published_latency_ms=job.published.latency_ms)
    record.update(onnx_key=export.get("key"), qpc_key=outcomes.get("compile", {}).get("key"))
    flags = [*run.get("flags", ()), *compare.get("flags", ())]
    for kind in ("export", "reference", "compile"):
        outcome = outcomes.get(kind, {})
        record[f"{kind}_s"] = None if outcome.get("cached") else outcome.get("seconds")
        if outcome.get("cached"):
            flags.append(f"cached:{kind}")
    flags.extend(f"{kind}_failed" for kind in failed_stages)
    record["flags"] = flags
    record["queued_s"] = run.get("queued_s")
    return record
