"""What `farm submit --run-only` runs: artifacts of this host's store, looked up as the stages would."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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

    Raises BadInput naming the first job that lacks one, or for an SDK or a store that cannot be looked at;
    StageFailed where a hub or an SDK's tool does not answer.
    """
    with ExitStack() as stack:
        try:
            performer = stack.enter_context(performer_alone(store, sdk_root))
            outcomes = _look_up(plan, performer)
        except OSError as error:
            raise BadInput(f"--run-only cannot look into the store {store}: {error}") from error
        yield plan.with_found(outcomes)


def _look_up(plan: Plan, performer: Performer) -> dict[str, Mapping[str, Any]]:
    """The outcomes of what `--run-only` jobs need, by name of stage. Raises BadInput where one is missing."""
    _ = performer.sdk  # Without it nothing can be found: said once, and of no job.
    builder = StoreBuilder(performer.store)
    found: dict[str, Mapping[str, Any]] = {}
    missing: dict[str, str] = {}
    for stage in (each for each in plan.stages if each.ask.get("must_exist")):
        try:
            if stage.kind == "export":
                found[stage.name] = performer.export(stage.ask, builder, _NO_LOG)
            elif stage.needs[0] in found:
                found[stage.name] = performer.compile(stage.ask, found[stage.needs[0]], builder, _NO_LOG)
        except (BadInput, StageFailed) as error:
            if isinstance(error, StageFailed) and error.kind != "input":
                raise
            missing[stage.name] = str(error)
    lacking = [
        f"{planned.job.model} ({planned.job.task}): {missing[stage]}"
        for planned in plan.jobs
        for stage in planned.stages.values()
        if stage in missing
    ]
    if lacking:
        others = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise BadInput(lacking[0] + others)
    return found
