"""The engine keeps every instance's queue full, computes one at a time on each, and times what happened."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from farm.emulator import write_root
from farm.emulator.runtime import engine, program, timing
from farm.emulator.runtime.engine import STAMPS, Until, Window
from tests.emulator.programs import compile_to, element, two_outputs

CALLED, SUBMITTED, COMPLETED, RETURNED = (
    STAMPS.index(name) for name in ("called", "submitted", "completed", "returned")
)
DEPTH, IN_QUEUE = len(STAMPS), len(STAMPS) + 1
ALL = Window(0, 10**9)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> program.Program:
    """A program of some 20 µs."""
    root = tmp_path_factory.mktemp("engine") / "root"
    write_root(root, cards=1)
    return program.load(compile_to(root, root.parent / "small", two_outputs()))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> program.Program:
    """A program of about a millisecond."""
    root = tmp_path_factory.mktemp("engine") / "root"
    write_root(root, cards=1)
    return program.load(compile_to(root, root.parent / "large", two_outputs(1024)))


@pytest.mark.parametrize(
    ("instances", "per_instance", "expected"), [(3, False, 20), (3, True, 60), (1, False, 20)]
)
def test_a_count_is_run_exactly(
    small: program.Program, instances: int, per_instance: bool, expected: int
) -> None:
    until = Until(count=20, per_instance=per_instance)
    result = engine.run(small, instances, 4, until, [element(0)], profile=ALL)
    assert result.inferences == sum(result.counts) == expected
    assert [len(rows) for rows in result.rows] == result.counts


def test_fewer_inferences_than_slots(small: program.Program) -> None:
    assert engine.run(small, 4, 10, Until(count=2), [element(0)]).inferences == 2


def test_seconds_really_pass(small: program.Program) -> None:
    started = time.monotonic()
    result = engine.run(small, 2, 2, Until(seconds=0.3), [element(0)])
    assert 0.3 <= result.duration_us / 1e6 <= time.monotonic() - started


def test_inference_k_takes_element_k_and_computes_it(small: program.Program) -> None:
    elements = [element(seed) for seed in range(3)]
    result = engine.run(small, 2, 2, Until(count=8, per_instance=True), elements, keep=Window(1, 4))
    assert sorted(result.outputs) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    for (_, number), outputs in result.outputs.items():
        expected = small.compute(elements[number % 3])
        assert {name: value.tobytes() for name, value in outputs.items()} == {
            name: value.tobytes() for name, value in expected.items()
        }


def test_only_the_window_leaves_rows(small: program.Program) -> None:
    result = engine.run(small, 1, 2, Until(count=50), [element(0)], profile=Window(10, 15))
    assert len(result.rows[0]) == 15


def intervals(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """When an instance with one inference in flight was computing."""
    return [(int(row[SUBMITTED]), int(row[COMPLETED])) for row in rows]


def overlap_ns(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int:
    return sum(max(0, min(end, stop) - max(start, begin)) for start, end in one for begin, stop in other)


def test_instances_compute_at_the_same_time_and_each_one_at_a_time(large: program.Program) -> None:
    result = engine.run(large, 2, 1, Until(count=30, per_instance=True), [element(0)], profile=ALL)
    first, second = (intervals(rows) for rows in result.rows)
    busy = sum(end - start for start, end in first)
    assert overlap_ns(first, second) > busy / 3
    for own in (first, second):
        assert all(end <= start for (_, end), (start, _) in pairwise(own))


def test_stamps_are_in_order_and_queues_within_the_set_size(small: program.Program) -> None:
    result = engine.run(small, 2, 5, Until(count=100), [element(0)], profile=ALL)
    for rows in result.rows:
        assert (np.diff(rows[:, : len(STAMPS)], axis=1) >= 0).all()
        assert rows[:, IN_QUEUE].max() <= 5
        assert (rows[:, IN_QUEUE] - rows[:, DEPTH] == 1).all()


@pytest.mark.parametrize(("instances", "set_size"), [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_littles_law_holds_for_measured_rows(large: program.Program, instances: int, set_size: int) -> None:
    result = engine.run(large, instances, set_size, Until(seconds=0.8), [element(0)], profile=ALL)
    latency_ns = np.concatenate([rows[:, RETURNED] - rows[:, CALLED] for rows in result.rows]).mean()
    in_flight = result.inferences / result.duration_us * latency_ns / 1e3
    assert in_flight / (instances * set_size) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("set_size", [1, 3])
def test_modelled_time_is_reported_and_taken(small: program.Program, set_size: int) -> None:
    cycle = timing.cycle_seconds(small.features, engine.setup_of(small, 2, set_size))
    started = time.monotonic()
    result = engine.run(
        small, 2, set_size, Until(seconds=0.4), [element(0)], profile=ALL, keep=Window(0, 1), modelled=True
    )
    wall = time.monotonic() - started
    assert 0.4 <= result.duration_us / 1e6 <= wall
    assert result.inferences == pytest.approx(2 * 0.4 / cycle, rel=0.05)
    latencies = np.concatenate([rows[:, RETURNED] - rows[:, CALLED] for rows in result.rows]) / 1e9
    assert latencies.mean() == pytest.approx(set_size * cycle, rel=0.01)
    assert result.outputs[0, 0]["tokens"].tobytes() == small.compute(element(0))["tokens"].tobytes()


def test_a_modelled_run_computes_what_is_kept_once_for_each_input(
    small: program.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    turns: list[str] = []
    compute = program.Program.compute_apart

    def noted(self: program.Program, inputs: Sequence[Mapping[str, program.Array]]) -> Any:
        asked.append(len(inputs))
        assert turns == ["begun"]
        return compute(self, inputs)

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append("begun")
        yield
        turns.append("ended")

    monkeypatch.setattr(program.Program, "compute_apart", noted)
    elements = [element(seed) for seed in range(3)]
    until, keep = Until(count=20), Window(1, 7)
    result = engine.run(small, 2, 2, until, elements, keep=keep, modelled=True, turn=turn())
    assert (asked, turns) == ([3], ["begun", "ended"])
    assert sorted(result.outputs) == [(0, number) for number in range(1, 8)]
    for (_, number), outputs in result.outputs.items():
        for name, value in small.compute(elements[number % 3]).items():
            np.testing.assert_array_equal(outputs[name], value)


def test_modelled_rows_are_the_same_each_time(small: program.Program) -> None:
    first, again = (
        engine.run(small, 2, 2, Until(count=50), [element(0)], profile=ALL, modelled=True) for _ in range(2)
    )
    assert all((one == other).all() for one, other in zip(first.rows, again.rows, strict=True))


def test_seconds_and_count_together_are_refused(small: program.Program) -> None:
    with pytest.raises(ValueError, match="seconds or count"):
        engine.run(small, 1, 1, Until(seconds=1, count=1), [element(0)])


@pytest.mark.parametrize("modelled", [False, True])
def test_a_slow_card_gives_that_much_less(large: program.Program, modelled: bool) -> None:
    def ratio() -> float:
        usual, slow = (
            engine.run(large, 1, 2, Until(seconds=0.5), [element(0)], modelled=modelled, slowness=slowness)
            for slowness in (1.0, 3.0)
        )
        return (usual.inferences / usual.duration_us) / (slow.inferences / slow.duration_us)

    # What else the machine does may fall on one of two measured runs: then they are no pair.
    tries = 1 if modelled else 8
    assert any(ratio() == pytest.approx(3, rel=0.3) for _ in range(tries))
