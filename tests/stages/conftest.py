"""Emulated SDK roots and a small compiled model, shared by the stage tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farm.domain.job import CardConfiguration, Job
from farm.emulator import write_root
from farm.sdk.launcher import DirectLauncher
from farm.sdk.root import Sdk, open_sdk
from farm.stages.compile import build_compile, dim_names
from tests.stages.small_model import FACTS, write_model

CONFIG = CardConfiguration(batch_size=2, seq_length=16, cores=2, instances=3, set_size=2, ols=1)
MakeRoot = Callable[..., Sdk]


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model's ONNX file."""
    return write_model(tmp_path_factory.mktemp("onnx"))


@pytest.fixture
def make_root(tmp_path: Path) -> MakeRoot:
    """Writes an emulated root of two cards and opens it: make_root(sdk="1.21", ...)."""

    def make(profile: str = "1.21", **options: object) -> Sdk:
        root = tmp_path / f"root-{profile}"
        write_root(root, cards=2, sdk=profile, **options)  # type: ignore[arg-type]
        return open_sdk(root)

    return make


def ask(config: CardConfiguration = CONFIG) -> dict[str, object]:
    """A compile stage's ask for `config`."""
    return {
        "batch_size": config.batch_size,
        "seq_length": config.seq_length,
        "cores": config.cores,
        "ols": config.ols,
        "mos": config.mos,
        "extra": list(config.extra),
        "precision": "fp16",
    }


_programs: dict[tuple[str, Path], Path] = {}


def compiled(sdk: Sdk, onnx: Path, out: Path) -> Path:
    """The folder of the small model's program, compiled once per SDK version and test session."""
    key = (sdk.version, onnx)
    if key not in _programs or not _programs[key].is_dir():
        build_compile(ask(), onnx, dim_names(FACTS), out, DirectLauncher(), sdk, out.parent / "compile.log")
        _programs[key] = out / "qpc"
    return _programs[key]


def job(**changes: object) -> Job:
    """A one-second job of the small model."""
    values: dict[str, object] = {
        "model": "org/small",
        "task": "feature-extraction",
        "objective": "balanced",
        "config": CONFIG,
        "seconds": 1,
        **changes,
    }
    return Job(**values)  # type: ignore[arg-type]
