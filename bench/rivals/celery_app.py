"""Plain Celery on Redis as one would set it up for long jobs: late acknowledgement, one at a time.

BENCH_REDIS names the broker. BENCH_VISIBILITY_S: a visibility timeout, with sweeps each second; else the
transport's default of an hour.
"""

from __future__ import annotations

import os

from celery import Celery

from bench.rivals.job import perform
from farm.bells import celery_url

app = Celery("bench", broker=celery_url(os.environ["BENCH_REDIS"]), set_as_current=False)
_short = os.environ.get("BENCH_VISIBILITY_S")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": float(_short),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    if _short
    else {},
)
job = app.task(perform, name="job")
