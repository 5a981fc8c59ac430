"""Fixtures: a hub with the real all-MiniLM-L6-v2 and tiny checkpoints, and a client cache of its own.

A test module uses them with `pytest_plugins = ["tests.hub.fixtures"]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.checkpoints import MINILM, minilm_folder
from tests.hub.server import HubServer, serving


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny checkpoint a family: bert, albert, electra, distilbert."""
    root = tmp_path_factory.mktemp("tiny")
    subprocess.run(
        [sys.executable, "-m", "tests.hub.make_tiny", str(root)],
        check=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    return root


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoints: Path) -> Path:
    """The folder the hub serves: `tiny/<family>`, MINILM, and the short name `tiny-bert`."""
    root = tmp_path_factory.mktemp("hub")
    (root / "sentence-transformers").mkdir()
    (root / MINILM).symlink_to(minilm_folder())
    (root / "tiny").symlink_to(tiny_checkpoints)
    (root / "tiny-bert").symlink_to(tiny_checkpoints / "bert")
    return root


@pytest.fixture(scope="session")
def hub_server(hub_root: Path) -> Iterator[HubServer]:
    """The running hub."""
    with serving(hub_root) as server:
        yield server


@pytest.fixture
def hub(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The hub, with HF_ENDPOINT pointing at it and an empty HF_HOME."""
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    hub_server.requests.clear()
    return hub_server
