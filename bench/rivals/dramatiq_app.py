"""Plain Dramatiq on Redis. BENCH_REDIS names the broker."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.rivals.job import perform

broker = RedisBroker(url=os.environ["BENCH_REDIS"])  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)
job = dramatiq.actor(actor_name="job")(perform)
