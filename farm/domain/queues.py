"""Names of queues and Celery tasks, and which stage a queue is about."""

from __future__ import annotations

import re

from farm.domain.errors import BadInput
from farm.domain.job import STAGE_KINDS, StageKind

CPU_QUEUES: tuple[StageKind, ...] = ("export", "reference", "compile", "compare")
_DEVICE = re.compile(r"device\.(?:(?P<node>[A-Za-z0-9_-]+)\.)?(?P<qid>[0-9]{1,4})")


def device_queue(qid: int, node: str | None = None) -> str:
    """The queue of a card: `device.<QID>`, or `device.<node>.<QID>` once a node is named."""
    return f"device.{node}.{qid}" if node else f"device.{qid}"


def qid_of(queue: str) -> int:
    """The QID a card's queue names. Raises BadInput for another queue."""
    match = _DEVICE.fullmatch(queue)
    if not match:
        raise BadInput(f"queue {queue!r} is not a card's: expected device.<QID> or device.<node>.<QID>")
    return int(match["qid"])


def kind_of(queue: str) -> StageKind:
    """The stage that bells of a queue are about. Raises BadInput for an unknown queue."""
    if _DEVICE.fullmatch(queue):
        return "run"
    if queue in CPU_QUEUES:
        return queue
    raise BadInput(f"queue {queue!r} is not one of the farm's: {', '.join(CPU_QUEUES)} or device.<QID>")


def task_name(kind: StageKind) -> str:
    """The Celery task that answers bells of a stage kind."""
    if kind not in STAGE_KINDS:
        raise BadInput(f"{kind!r} is not a stage: {', '.join(STAGE_KINDS)}")
    return f"tasks.{kind}"
