"""Flower beside a farm: it sees the workers and their queues."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from urllib.error import URLError

import pytest

from tests.integration.local_farm import LocalFarm


@pytest.fixture
def flower(measured_farm: LocalFarm) -> Iterator[str]:
    """Flower on a free port of the loopback; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    state = measured_farm.state()
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"],
        env={
            **measured_farm.environment(),
            "FARM_REDIS_URL": state["redis_url"],
            "FARM_BROKER_URL": state["broker_url"],
            "FLOWER_UNAUTHENTICATED_API": "true",
        },
        cwd=measured_farm.cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Visit me at" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_flower_lists_a_worker_for_each_queue(flower: str) -> None:
    queues: set[str] = set()
    wanted = {"export", "reference", "compile", "compare", *(f"device.{n}" for n in range(8))}
    for _ in range(20):
        try:
            with urllib.request.urlopen(f"{flower}/api/workers?refresh=1", timeout=30) as answer:
                workers = json.load(answer)
        except URLError:
            continue
        queues = {queue["name"] for worker in workers.values() for queue in worker.get("active_queues", [])}
        if wanted <= queues:
            break
    assert wanted <= queues
