"""What `farm submit --run-only` runs: artifacts of this host's store, looked up as the stages would."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farm.domain.errors import BadInput, StageFailed
from farm.domain.plan import Plan, PlannedJob, Stage
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer
from farm.worker.single import performer_alone

#: A look-up builds nothing, so there is nothing to log.
_NO_LOG = Path(os.devnull)


@contextmanager
def with_existing(plan: Plan, store: Path, sdk_root: Path | None) -> Iterator[Plan]:
    """The plan with the exports and compiles of its `--run-only` jobs found; submit it within the block.

    Raises BadInput for the first that is missing, StageFailed where a hub or an SDK does not answer.
    """
    wanted = [planned for planned in plan.jobs if planned.job.run_only]
    if not wanted:
        yield plan
        return
    stages = {stage.name: stage for stage in plan.stages}
    found: dict[str, Mapping[str, Any]] = {}
    with performer_alone(store, sdk_root) as performer:
        for planned in wanted:
            _find(planned, stages, performer, found)
        yield plan.with_found(found)


def _find(
    planned: PlannedJob,
    stages: Mapping[str, Stage],
    performer: Performer,
    found: dict[str, Mapping[str, Any]],
) -> None:
    """Add the job's export and compile to what was found, by name of stage."""
    builder = StoreBuilder(performer.store)
    export, compiled = (stages[planned.stages[kind]] for kind in ("export", "compile"))
    who = f"{planned.job.model} ({planned.job.task})"
    try:
        if export.name not in found:
            found[export.name] = performer.export(export.ask, builder, _NO_LOG)
        if compiled.name not in found:
            found[compiled.name] = performer.compile(compiled.ask, found[export.name], builder, _NO_LOG)
    except BadInput as error:
        raise BadInput(f"{who}: {error}") from error
    except StageFailed as error:
        if error.kind == "input":
            raise BadInput(f"{who}: {error}") from error
        raise
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--run-only is looked up as a CPU worker does it, and {error.name} is not installed here:"
            " submit on the CPU workers' host, or leave --run-only out"
        ) from error
