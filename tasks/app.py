"""The app, its five tasks, and the life of a worker process. A task answers one bell; nothing more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from celery import Task
from celery.signals import celeryd_after_setup, worker_process_init, worker_ready, worker_shutting_down

from farm.bells import Bells, broker_url, make_app
from farm.domain.errors import BadInput
from farm.domain.job import STAGE_KINDS
from farm.domain.queues import kind_of, task_name
from farm.worker.process import WorkerProcess

app = make_app(broker_url())

#: Pools whose processes stay alive during a stage and answer control messages meanwhile.
POOLS = ("celery.concurrency.prefork", "celery.concurrency.thread")


class _Life:
    """What this process knows of itself: the queues it was given, and the pipe whose end means "stop"."""

    queues: Sequence[str] = ()
    stop_read: int | None = None
    stop_write: int | None = None
    worker: WorkerProcess | None = None


def _set_up(instance: Any, **_: Any) -> None:
    """In the main process, before the pool: check the queues and the pool, make the stop pipe."""
    pool = instance.pool_cls if isinstance(instance.pool_cls, str) else instance.pool_cls.__module__
    if pool not in POOLS:
        raise SystemExit(f"farm: pool {pool!r} cannot run stages: use prefork (the default) or threads")
    if instance.concurrency != 1:
        raise SystemExit(
            f"farm: concurrency {instance.concurrency}: a farm worker does one stage at a time; leave -c out"
        )
    _Life.queues = sorted(instance.app.amqp.queues.consume_from)
    try:
        kinds = {"card" if kind_of(queue) == "run" else "cpu" for queue in _Life.queues}
    except BadInput as error:
        raise SystemExit(f"farm: {error}; name the queues with -Q") from error
    if kinds == {"card", "cpu"} or (kinds == {"card"} and len(_Life.queues) > 1):
        raise SystemExit(
            f"farm: queues {', '.join(_Life.queues)}: a card's worker consumes its card's queue only"
        )
    _Life.stop_read, _Life.stop_write = os.pipe()


def _start() -> None:
    _Life.worker = WorkerProcess(_Life.queues, Bells(app), _Life.stop_read)
    _Life.worker.start()


def _pool_process(**_: Any) -> None:
    """In a pool process: the keeper and the card, ready before the first bell."""
    if _Life.stop_write is not None:
        # Only the main process may hold this end, so that its death is seen as a stop too.
        os.close(_Life.stop_write)
        _Life.stop_write = None
    _start()


def _ready(sender: Any, **_: Any) -> None:
    """With threads the main process is the pool's process."""
    if sender.pool.__class__.__module__ == "celery.concurrency.thread":
        _start()


def _stopping(**_: Any) -> None:
    """In the main process: every keeper sees the pipe end and gives its attempt the grace period."""
    if _Life.stop_write is not None:
        os.close(_Life.stop_write)
        _Life.stop_write = None


def _answer(task: Task) -> None:
    if _Life.worker is None:
        raise RuntimeError("this process was not started as a worker")
    _Life.worker.answer(task.request.delivery_info["routing_key"])


for _kind in STAGE_KINDS:
    app.task(_answer, name=task_name(_kind), bind=True, ignore_result=True, acks_late=False)

celeryd_after_setup.connect(_set_up)
worker_process_init.connect(_pool_process)
worker_ready.connect(_ready)
worker_shutting_down.connect(_stopping)
