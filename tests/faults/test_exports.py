"""The worker dies while its exporter works: the exporter is ended, the export made once."""

from __future__ import annotations

from farm.domain.job import Job
from farm.domain.plan import plan
from tests.faults.bench import BUSY_S, CONFIG, Bench, ended


def test_a_killed_worker_hands_its_export_back_and_its_exporter_ends(bench: Bench) -> None:
    bench.env["FARM_STORE"] = str(bench.folder / "store")
    bench.coordinator()
    bench.worker("export", "cpu")
    job = Job("prajjwal1/bert-tiny", "fill-mask", "balanced", CONFIG, weights="random", seconds=1)
    campaign = bench.records.submit(plan([job]), label=None, priority=0, command=["test"])
    exporter = bench.child("farm.stages.export_child")
    bench.pool_process().kill()
    took = bench.until(lambda: bench.history(campaign, stage="export")[0].get("outcome"), 10, "hand-over")
    assert took < 2 + BUSY_S
    assert ended(exporter)
    bench.until(lambda: bench.records.status(campaign)["stages"]["export"]["done"], 60, "export")
    assert [a["outcome"] for a in bench.history(campaign, stage="export")] == ["worker lost", "done"]
