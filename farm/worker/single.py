"""One job in this process, without Redis: the same stages on the same store, one after the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from farm.artifacts import Store
from farm.domain.errors import BadInput, StageFailed
from farm.domain.job import STAGE_KINDS, Job, StageKind
from farm.domain.plan import plan
from farm.domain.result import compose
from farm.sdk.launcher import DirectLauncher
from farm.sdk.lock import held_cards, lock_folder
from farm.sdk.resting import resting_cards
from farm.stages.exporter import Exporter
from farm.stages.run import Card, NotedCard
from farm.stages.workdir import publish_view
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer

Progress = Callable[[str], None]


@contextmanager
def performer_alone(store: Path, sdk_root: Path | None) -> Iterator[Performer]:
    """The stages in this process, over a store from which nobody removes what no records know meanwhile."""
    artifacts = Store(store)
    with artifacts.in_use(), Exporter() as exporter:
        yield Performer(artifacts, DirectLauncher(), exporter, sdk_root)


def run_job(
    job: Job, *, sdk_root: Path | None, workdir: Path, store: Path, progress: Progress
) -> dict[str, Any]:
    """Export, reference, compile, run and compare `job`; its result record.

    Files of the attempt go to `<workdir>/.farm-runs/<time>/`, and `<workdir>/<model>/<task>` shows them.
    Raises StageFailed when the job fails, BadInput when its card is not there.
    """
    asks: dict[StageKind, Mapping[str, Any]] = {stage.kind: stage.ask for stage in plan([job]).stages}
    started = datetime.now(timezone.utc)
    attempt = workdir / ".farm-runs" / started.strftime("%Y%m%d-%H%M%S-%f")
    outcomes: dict[str, Mapping[str, Any]] = {}
    failed: list[str] = []
    with performer_alone(store, sdk_root) as performer:
        builder = StoreBuilder(performer.store)
        cards = _cards(performer, job)
        attempt.parent.mkdir(parents=True, exist_ok=True)
        log = Path(tempfile.mkdtemp(prefix="logs-", dir=attempt.parent))

        def step(kind: StageKind, action: Callable[[], Mapping[str, Any]]) -> None:
            progress(f"{kind}: {job.model}")
            try:
                outcomes[kind] = action()
            except StageFailed as error:
                if kind not in ("reference", "compare"):
                    raise
                # The measured number stands without them, with a flag.
                progress(f"{kind} failed: {error}")
                failed.append(kind)

        logs = {kind: log / f"{kind}.log" for kind in STAGE_KINDS}
        step("export", lambda: performer.export(asks["export"], builder, logs["export"]))
        export = outcomes["export"]
        step("compile", lambda: performer.compile(asks["compile"], export, builder, logs["compile"]))

        def on_card() -> Mapping[str, Any]:
            prepared = performer.prepare(job, export, outcomes["compile"], attempt)
            card = _idle(performer, cards)
            return {**performer.run(prepared, card), "device": str(card.qid)}

        step("run", on_card)
        step("reference", lambda: performer.reference(asks["reference"], export, builder, logs["reference"]))
        if "reference" in outcomes:
            step(
                "compare",
                lambda: performer.compare(
                    asks["compare"], job, export, outcomes["reference"], outcomes["run"]
                ),
            )
    log.rename(attempt / "logs")
    publish_view(attempt, workdir, job.model, job.task)
    return compose(
        job,
        outcomes,
        job_id=None,
        campaign=None,
        state="done",
        attempts=1,
        finished=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        failed_stages=tuple(failed),
    )


def _cards(performer: Performer, job: Job) -> list[Card]:
    """The cards that can take the job: of those it names, else of all. One that is held is not asked."""
    needed = job.config.cores_needed
    wanted = {int(device.rpartition(".")[2]) for device in job.devices or ()}
    asked, held = resting_cards(performer.sdk)
    seen = {card.qid: card.status or "no status" for card in asked}
    fit: list[Card] = [card for card in asked if card.ready and (card.nsp_total or 0) >= needed]
    for other in held:
        if other.qid is not None:
            seen[other.qid] = "held"
            if (other.nsp_total or 0) >= needed:
                fit.append(NotedCard(other.qid, other.pci_address, other.nsp_total))
    chosen = [card for card in fit if not wanted or card.qid in wanted]
    if not chosen:
        told = ", ".join(f"{qid}: {seen[qid]}" for qid in sorted(seen)) or "none"
        raise BadInput(f"no card with {needed} NSPs is Ready (seen: {told}); `farm doctor` tells more")
    return chosen


def _idle(performer: Performer, cards: list[Card]) -> Card:
    """The first card whose lock is free now, minutes after they were looked at; else the first."""
    held = {card.pci_address for card in held_cards(lock_folder(performer.sdk.root))}
    return next((card for card in cards if card.pci_address not in held), cards[0])


def export_to(ask: Mapping[str, Any], directory: Path, *, store: Path, progress: Progress) -> Path:
    """Export what `ask` says and copy the clipped graph to `directory`; the path of its model.onnx."""
    with performer_alone(store, None) as performer:
        progress(f"export: {ask['model']}")
        directory.mkdir(parents=True, exist_ok=True)
        log = directory / "export.log"
        outcome = performer.export(ask, StoreBuilder(performer.store), log)
        source = performer.store.path(outcome["key"]) / "clipped"
        for file in sorted(source.iterdir()):
            target = directory / file.name
            target.unlink(missing_ok=True)
            shutil.copyfile(file, target)
    return directory / "model.onnx"
