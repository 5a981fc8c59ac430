"""Workers of this node that died together with their keeper: nobody is left to hand their stages back.

Their leases would lapse. Whoever starts next on the node sees that the keeper is gone and does not wait.
"""

from __future__ import annotations

import logging
from pathlib import Path

from farm.records import Records
from farm.worker.orphans import keeper_died

log = logging.getLogger(__name__)


def hand_back_fallen(records: Records, node: str, home: Path) -> list[str]:
    """Hand back what the fallen workers of the node had, and forget them; their names.

    Call it when their orphans have been ended: a stage must not start again while its child still runs.
    """
    fallen = []
    for worker in records.fleet.workers():
        if worker["node"] != node or not keeper_died(worker.get("keeper", ""), home):
            continue
        name = worker["worker"]
        stage = records.fleet.stage_of(name)
        if stage is not None:
            token, failures = records.claims.fence(stage)
            answer = records.claims.lost(stage, token, failures, error="worker and keeper died together")
            log.warning("%s, left by %s: %s", stage, name, answer, extra={"action": "fallen"})
        records.fleet.leave(name)
        fallen.append(name)
    return fallen
