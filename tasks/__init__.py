"""The Celery app of the farm: `celery -A tasks worker -Q device.3` starts a worker of card 3."""

from __future__ import annotations

from tasks.app import app

__all__ = ["app"]
