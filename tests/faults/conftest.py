"""One emulated root and one compiled model for all tests of faults; a farm in parts for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.emulator import write_root
from tests.faults.bench import Bench, Made

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("sdk") / "root"
    write_root(root, cards=2)
    return Made(root, tmp_path_factory.mktemp("made"))


@pytest.fixture
def make_bench(tmp_path: Path, made: Made) -> Iterator[MakeBench]:
    """Makes benches with settings of their own: make_bench(FARM_RUN_LIMIT_S="3")."""
    benches: list[Bench] = []

    def make(**settings: str) -> Bench:
        benches.append(Bench(tmp_path / f"bench{len(benches)}", made, **settings))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench()
