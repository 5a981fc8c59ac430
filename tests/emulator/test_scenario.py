"""A scenario's rules act on the calls they name, counted over all processes; a malformed one is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from farm.emulator import write_root
from farm.emulator.runtime import faults, scenario
from tests.emulator.emulated import call, write_scenario


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("root")
    write_root(directory, cards=2)
    return directory


def load(root: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> scenario.Scenario:
    monkeypatch.setenv(scenario.VARIABLE, str(path))
    return scenario.load(root)


@pytest.mark.parametrize(
    ("limits", "acting"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"nth": 2}, [2]),
        ({"nth": [1, 4]}, [1, 4]),
        ({"after": 3}, [4, 5]),
        ({"times": 2}, [1, 2]),
        ({"after": 1, "times": 2}, [2, 3]),
    ],
)
def test_which_calls_a_rule_acts_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], acting: list[int]
) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-util", "fault": "hang", **limits})
    found = []
    for number in range(1, 6):
        # Loaded afresh each time, as each process does.
        if load(root, path, monkeypatch).fault("qaic-util", "hang") is not None:
            found.append(number)
    assert found == acting


def test_a_rule_for_a_card_leaves_other_cards_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-runner", "fault": "hang", "qid": 1, "nth": 1})
    loaded = load(root, path, monkeypatch)
    assert loaded.fault("qaic-runner", "hang", qid=0) is None
    assert loaded.fault("qaic-runner", "hang") is None
    assert loaded.fault("qaic-runner", "slow", qid=1) is None
    assert loaded.fault("qaic-runner", "hang", qid=1) is not None


def test_rules_of_the_compiler_hold_for_both_of_its_programs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "compiler", "fault": "fail", "nth": 2, "status": 9})
    loaded = load(root, path, monkeypatch)
    assert loaded.fault("qaic-exec", "fail") is None
    rule = loaded.fault("qaic-compile", "fail")
    assert rule is not None
    assert rule["status"] == 9


def test_processes_share_the_count(root: Path, tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path / "s.json", {"tool": "qaic-util", "fault": "fail", "times": 3, "status": 7, "text": "no"}
    )
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda _: call(root / "tools/qaic-util", scenario=path), range(10)))
    assert sorted(process.returncode for process in ran) == [0] * 7 + [7] * 3
    assert {process.stderr for process in ran if process.returncode} == {"no\n"}


@pytest.mark.parametrize(
    ("contents", "named"),
    [
        ([], "object"),
        ({"rule": []}, "'rule'"),
        ({"rules": [{"tool": "qaic-utill", "fault": "hang"}]}, "'qaic-utill'"),
        ({"rules": [{"tool": "qaic-util", "fault": "sleep"}]}, "'sleep'"),
        ({"rules": [{"tool": "qaic-util", "fault": "hang", "second": 1}]}, "'second'"),
        ({"rules": [{"tool": "qaic-util", "fault": "hang", "qid": "1"}]}, "qid"),
        ({"rules": [{"tool": "qaic-util", "fault": "hang", "nth": "1"}]}, "nth"),
        ({"options": {"dram": "KB"}}, "'dram'"),
        ({"options": {"telemetry": 1}}, "telemetry=1"),
        ({"cards": [{"nsp_total": 16}]}, "qid"),
    ],
)
def test_a_malformed_scenario_is_refused_by_name(
    root: Path, tmp_path: Path, contents: Any, named: str
) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(contents))
    with pytest.raises(faults.BadScenario, match=named):
        scenario.parse(path)
    ran = call(root / "tools/qaic-util", scenario=path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert str(path) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_missing_scenario_is_an_error_not_silence(root: Path, tmp_path: Path) -> None:
    ran = call(root / "tools/qaic-util", scenario=tmp_path / "none.json")
    assert ran.returncode == 2
    assert "none.json" in ran.stderr
