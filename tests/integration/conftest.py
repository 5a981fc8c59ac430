"""Two farms of eight emulated cards: one that measures, one whose times are modelled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.checkpoints import MINILM, minilm_folder
from tests.hub.server import HubServer, serving
from tests.integration.local_farm import LocalFarm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def listed_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with a tiny stand-in for every model of the table."""
    root = tmp_path_factory.mktemp("listed-hub")
    subprocess.run(
        [sys.executable, "-m", "tests.integration.listed_hub", str(root)],
        check=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    with serving(root) as server:
        yield server


@pytest.fixture(scope="session")
def minilm_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with the real all-MiniLM-L6-v2."""
    root = tmp_path_factory.mktemp("minilm-hub")
    (root / MINILM).parent.mkdir(parents=True)
    (root / MINILM).symlink_to(minilm_folder())
    with serving(root) as server:
        yield server


#: The hubs need no token; whoever has one set finds it nowhere in what the farm writes.
HF_TOKEN = "hf_a-token-nobody-may-read"


def _up(factory: pytest.TempPathFactory, hub: HubServer, name: str, *options: str) -> Iterator[LocalFarm]:
    farm = LocalFarm(
        home=factory.mktemp(name) / "home",
        cwd=factory.mktemp(f"{name}-cwd"),
        env={
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(factory.mktemp(f"{name}-hf")),
            "HF_TOKEN": HF_TOKEN,
        },
    )
    farm.run("up", "--emulate", "8", "--detach", *options)
    try:
        farm.wait_for_cards()
        yield farm
    finally:
        farm.run("down")
        assert farm.left_behind() == [], "`farm down` leaves no process behind"


@pytest.fixture(scope="session")
def measured_farm(tmp_path_factory: pytest.TempPathFactory, minilm_hub: HubServer) -> Iterator[LocalFarm]:
    """Eight cards, two workers each, real measurements, the real MiniLM on its hub."""
    yield from _up(tmp_path_factory, minilm_hub, "measured", "--workers-per-device", "2")


@pytest.fixture(scope="session")
def modelled_farm(tmp_path_factory: pytest.TempPathFactory, listed_hub: HubServer) -> Iterator[LocalFarm]:
    """Eight cards with modelled times, one worker each, and the whole list on its hub."""
    yield from _up(
        tmp_path_factory, listed_hub, "modelled",
        "--timing", "modelled", "--workers-per-device", "1", "--cpu-workers", "2",
    )  # fmt: skip
