"""The jobs of a chaos campaign: tiny models, so that a second of time holds many stages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.emulator.emulated import encoder, save
from tests.hub.make_tiny import FAMILIES

ROOT = Path(__file__).parents[2]
#: Batch sizes and lengths each model is compiled for.
BATCHES, LENGTHS = (1, 2), (16, 32)
WIDTHS = (32, 64, 96)


def make(folder: Path) -> list[Path]:
    """Four tiny checkpoints, to be exported, and three graphs, which are only read."""
    folder.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "tests.hub.make_tiny", str(folder)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    graphs = [save(encoder(width=width), folder / f"encoder-{width}.onnx") for width in WIDTHS]
    return [*(folder / family for family in FAMILIES), *graphs]


def words(models: list[Path], jobs: int) -> list[str]:
    """The words of a `farm submit` of at least `jobs` jobs of a second each."""
    configurations = len(models) * len(BATCHES) * len(LENGTHS)
    return [
        *(word for model in models for word in ("-m", str(model))),
        "-b", ",".join(map(str, BATCHES)), "-s", ",".join(map(str, LENGTHS)),
        "-c", "2", "-i", "2", "--set-size", "1", "--time", "1",
        "--repeat", str(-(-jobs // configurations)),
    ]  # fmt: skip
