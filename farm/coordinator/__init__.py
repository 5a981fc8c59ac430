"""The coordinator: keeps the farm clock, frees what lapsed, rings the queues."""

from __future__ import annotations

from farm.coordinator.loop import Coordinator, main

__all__ = ["Coordinator", "main"]
