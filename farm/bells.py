"""Bells: Celery messages that say "look for work for this queue" and name no stage.

The one place outside `tasks` that knows Celery. Settings are here so that every publisher and every
worker, a plain `celery -A tasks worker` included, has the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.exceptions import OperationalError

from farm.domain.queues import kind_of, task_name

#: Where bells go when nothing is said: the records' own Redis.
DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: A worker that lost Redis looks for it again this often, however long it was away. Stock Celery waits
#: longer each time, up to 30 s.
RECONNECT_S = 1.0


def records_url() -> str:
    """The Redis of the records, as the environment names it."""
    return os.environ.get("FARM_REDIS_URL", DEFAULT_URL)


def broker_url() -> str:
    """The Redis of the bells: FARM_BROKER_URL, else that of the records."""
    return os.environ.get("FARM_BROKER_URL") or records_url()


def celery_url(url: str) -> str:
    """A Redis URL in the spelling Celery's transport wants: unix:// becomes redis+socket://."""
    return url.replace("unix://", "redis+socket://", 1)


def _connection(*args: Any, **options: Any) -> Any:
    """A broker connection whose pauses between two tries to connect do not grow."""
    connection = AMQP.Connection(*args, **options)
    connection.ensure_connection = partial(
        connection.ensure_connection, interval_start=RECONNECT_S, interval_step=0, interval_max=RECONNECT_S
    )
    return connection


def make_app(url: str) -> Celery:
    """The Celery app: JSON only, no results, early acknowledgement, one message at a time."""
    app = Celery("tasks", broker=celery_url(url), set_as_current=False)
    app.amqp.Connection = _connection
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        # A busy worker that took a bell beforehand would keep it from an idle one.
        worker_disable_prefetch=True,
        worker_concurrency=1,
        worker_send_task_events=True,
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_retry=True,
        broker_transport_options={
            "max_retries": 3,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
        },
        task_publish_retry=True,
        task_publish_retry_policy={
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
    )
    return app


class Bells:
    """Rings queues."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, queues: Sequence[str]) -> Sequence[str]:
        """Ring each queue named, once per mention; the bells that could not be delivered."""
        for rung, queue in enumerate(queues):
            try:
                self._app.send_task(task_name(kind_of(queue)), queue=queue, ignore_result=True)
            except OperationalError:
                return queues[rung:]
        return ()
