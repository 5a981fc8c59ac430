"""The app, its five tasks, and the life of a worker process. A task answers one bell; nothing more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
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
    pooled: bool = False


def _set_up(instance: Any, **_: Any) -> None:
    """In the main process, before the pool: check the queues and the pool, make the stop pipe."""
    pool = instance.pool_cls if isinstance(instance.pool_cls, str) else instance.pool_cls.__module__
    if pool not in POOLS:
        raise SystemExit(f"farm: pool {pool!r} cannot run stages: use prefork (the default) or threads")
    if instance.concurrency != 1 or instance.autoscale:
        many = instance.autoscale or instance.concurrency
        raise SystemExit(
            f"farm: concurrency {many}: a farm worker does one stage at a time; leave -c and --autoscale out"
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
    celery_pid = os.getppid() if _Life.pooled else os.getpid()
    _Life.worker = WorkerProcess(_Life.queues, Bells(app), _Life.stop_read, celery_pid)
    _Life.worker.start()


@contextmanager
def _term_waits() -> Iterator[None]:
    """Put TERM off for the length of the block.

    TERM to a worker's whole process group (systemd's default) reaches the pool process too, whose stage is to
    end within the grace period that its keeper gives it.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            # The main process ends this one once it has the task's answer; if it does not, TERM does.
            again = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
            again.daemon = True
            again.start()


def _pool_process(**_: Any) -> None:
    """In a pool process: the keeper and the card, ready before the first bell."""
    _Life.pooled = True
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
    queue = task.request.delivery_info["routing_key"]
    if not _Life.pooled:
        _Life.worker.answer(queue)
        return
    with _term_waits():
        _Life.worker.answer(queue)


for _kind in STAGE_KINDS:
    app.task(_answer, name=task_name(_kind), bind=True, ignore_result=True, acks_late=False)

celeryd_after_setup.connect(_set_up)
worker_process_init.connect(_pool_process)
worker_ready.connect(_ready)
worker_shutting_down.connect(_stopping)
