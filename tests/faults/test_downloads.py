"""A hub that refuses and then stalls, a worker that dies while it downloads: what has come is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.domain.job import Job
from tests.faults.bench import BUSY_S, CONFIG, Bench, ended
from tests.faults.conftest import MakeBench
from tests.hub.server import HubServer, serving

MODEL = "org/model"
MIB = 1024 * 1024


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A hub with org/model, whose weights are 5 MiB of noise."""
    folder = tmp_path / "hub" / MODEL
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(5 * MIB))
    with serving(tmp_path / "hub") as server:
        yield server


def behaves(hub: HubServer, **settings: Any) -> None:
    (hub.root / "hub.json").write_text(json.dumps(settings))


def export(bench: Bench) -> tuple[str, Path]:
    """A campaign that downloads the model, and the folder of its attempts' logs."""
    bench.coordinator()
    bench.worker("export", "cpu")
    job = Job(MODEL, "fill-mask", "balanced", CONFIG, weights="hub", seconds=1)
    campaign = bench.campaign(job)
    return campaign, bench.home / "logs" / "stages" / campaign


def says(logs: Path, attempt: int, text: str) -> bool:
    return any(text in log.read_text() for log in logs.glob(f"export-*-{attempt}.log"))


def on(hub: HubServer, tmp_path: Path, **more: str) -> dict[str, str]:
    """Settings of a farm on that hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "FARM_STORE": str(tmp_path / "s"),
        **more,
    }


def test_a_hub_that_refuses_is_asked_again_and_one_that_stalls_is_gone_on_with(
    make_bench: MakeBench, hub: HubServer, tmp_path: Path
) -> None:
    behaves(hub, broken={MODEL: 503})
    bench = make_bench(**on(hub, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="3"))
    campaign, logs = export(bench)
    bench.until(lambda: bench.ends(campaign, stage="export"), 20, "refusal")
    behaves(hub, stall_after=2 * MIB)
    [first] = bench.history(campaign, stage="export")
    assert (first["error_kind"], "answered HTTP 503; try again later" in first["error"]) == ("host", True)
    bench.files(lambda: says(logs, 2, "downloaded 5.0 MiB"), 30, "download")
    assert hub.ranges == ["bytes=2097152-", "bytes=4194304-"], "nothing comes twice"
    assert len(bench.history(campaign, stage="export")) == 2


def test_after_a_worker_died_in_a_download_the_next_attempt_goes_on_from_there(
    make_bench: MakeBench, hub: HubServer, tmp_path: Path
) -> None:
    behaves(hub, stall_after=3 * MIB)
    bench = make_bench(**on(hub, tmp_path))
    campaign, logs = export(bench)
    blobs = tmp_path / "hf" / "hub" / "models--org--model" / "blobs"
    bench.files(lambda: any(p.stat().st_size == 3 * MIB for p in blobs.glob("*.incomplete")), 20, "3 MiB")
    [download] = bench.processes("farm.stages.hub_child")
    bench.pool_process().kill()
    assert bench.until(lambda: bench.ends(campaign, stage="export"), 10, "hand-over") < 2 + BUSY_S
    assert ended(download)
    behaves(hub)
    bench.files(lambda: says(logs, 2, "downloaded 2.0 MiB"), 20, "the rest")
    assert hub.ranges == [f"bytes={3 * MIB}-"]
    assert bench.ends(campaign, stage="export")[0] == "worker lost"
