"""What `farm submit --run-only` runs: artifacts of this host's store, looked up as the stages would."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farm.domain.errors import BadInput, StageFailed
from farm.domain.plan import Plan
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer
from farm.worker.single import performer_alone

#: A look-up builds nothing, so there is nothing to log.
_NO_LOG = Path(os.devnull)


@contextmanager
def with_existing(plan: Plan, store: Path, sdk_root: Path | None) -> Iterator[Plan]:
    """The plan with the exports and compiles of its `--run-only` jobs found; submit it within the block.

    Raises BadInput naming the first job that lacks one, StageFailed where a hub or an SDK does not answer.
    """
    with performer_alone(store, sdk_root) as performer:
        yield plan.with_found(_look_up(plan, performer))


def _look_up(plan: Plan, performer: Performer) -> dict[str, Mapping[str, Any]]:
    """The outcomes of what `--run-only` jobs need, by name of stage. Raises BadInput where one is missing."""
    stages = {stage.name: stage for stage in plan.stages}
    builder = StoreBuilder(performer.store)
    found: dict[str, Mapping[str, Any]] = {}
    lacking: list[str] = []
    for planned in plan.jobs:
        job = planned.job
        if not job.run_only:
            continue
        export, compiled = (stages[planned.stages[kind]] for kind in ("export", "compile"))
        try:
            if export.name not in found:
                found[export.name] = performer.export(export.ask, builder, _NO_LOG)
            if compiled.name not in found:
                found[compiled.name] = performer.compile(compiled.ask, found[export.name], builder, _NO_LOG)
        except (BadInput, StageFailed) as error:
            if isinstance(error, StageFailed) and error.kind != "input":
                raise
            lacking.append(f"{job.model} ({job.task}): {error}")
    if lacking:
        others = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise BadInput(lacking[0] + others)
    return found
