"""The emulated driver gives out what is free, refuses what is not, and gets it back whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.emulator import write_root
from farm.emulator.runtime import card, scenario
from tests.emulator.emulated import call, record_of, write_scenario

# Holds cores of card 0 until it is told to end.
HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1] + "/lib")
from emulator.card import ActivateError, Cards
try:
    with Cards(Path(sys.argv[1])).activate(0, int(sys.argv[2]), int(sys.argv[3]), "held", 100 * 2**20):
        print("held", flush=True)
        sys.stdin.readline()
except ActivateError as error:
    print(error.text, flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    write_root(directory, cards=3)
    return directory


@pytest.fixture
def holder(root: Path) -> Iterator[Callable[[int, int], subprocess.Popen[str]]]:
    """Start a process that activates cores x instances on card 0; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(cores: int, instances: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", HOLDER, str(root), str(cores), str(instances)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def device(root: Path, qid: int = 0) -> card.Device:
    found = card.Cards(root).device(qid)
    assert found is not None
    return found


def wait_until(condition: Callable[[], bool], limit: float = 10.0) -> float:
    """Seconds until the condition held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit
        time.sleep(0.01)
    return time.monotonic() - started


def test_of_two_processes_that_want_all_cores_one_is_refused(
    root: Path, holder: Callable[[int, int], subprocess.Popen[str]]
) -> None:
    both = [holder(2, 7), holder(2, 7)]
    answers = [answer(process) for process in both]
    assert answers.count("held") == 1
    refused = next(text for text in answers if text != "held")
    assert "activate failed: Failed to allocate NSP resources" in refused
    assert device(root).nsp_free == 0


def test_two_processes_share_a_card_when_their_cores_fit(
    root: Path, holder: Callable[[int, int], subprocess.Popen[str]]
) -> None:
    assert answer(holder(2, 4)) == "held"
    assert answer(holder(3, 2)) == "held"
    found = device(root)
    assert (found.nsp_free, found.networks_loaded, found.networks_active) == (0, 2, 6)
    assert found.dram_free_mb == found.dram_total_mb - 200
    assert found.vc_free == found.vc_total - 6
    assert device(root, 1).nsp_free == 14


def test_kill_minus_nine_frees_the_cores(
    root: Path, holder: Callable[[int, int], subprocess.Popen[str]]
) -> None:
    process = holder(14, 1)
    assert answer(process) == "held"
    assert device(root).nsp_free == 0
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert device(root).nsp_free == 14
    with card.Cards(root).activate(0, 14, 1, "next"):
        assert device(root).nsp_free == 0
    assert device(root).nsp_free == 14


def test_instances_get_cores_of_their_own(root: Path) -> None:
    with (
        card.Cards(root).activate(0, 3, 2, "one") as one,
        card.Cards(root).activate(0, 4, 2, "two") as two,
    ):
        taken = [core for group in one.cores + two.cores for core in group]
        assert [len(group) for group in one.cores + two.cores] == [3, 3, 4, 4]
        assert sorted(taken) == list(range(14))
    assert device(root).nsp_free == 14


@pytest.mark.parametrize(
    ("cores", "instances", "megabytes", "reason"),
    [
        (5, 3, 0, "Failed to allocate NSP resources"),
        (1, 1, 20_000, "Memory resource exhausted"),
    ],
)
def test_too_much_is_refused_and_takes_nothing(
    root: Path, cores: int, instances: int, megabytes: int, reason: str
) -> None:
    with pytest.raises(card.ActivateError) as refused:
        card.Cards(root).activate(0, cores, instances, "big", megabytes * 2**20)
    assert refused.value.status == 300
    assert reason in refused.value.text
    assert "Failed to Activate program" in refused.value.text
    found = device(root)
    assert (found.nsp_free, found.vc_free, found.networks_active) == (14, 16, 0)
    assert found.dram_free_mb == found.dram_total_mb


def test_virtual_channels_run_out_before_cores_on_a_wide_card(root: Path, tmp_path: Path) -> None:
    wide = write_scenario(tmp_path / "s.json", cards=[{"qid": 0, "nsp_total": 20, "sku": "PCIe Pro"}])
    loaded = scenario.Scenario(scenario.parse(wide), root / "state", "wide")
    with pytest.raises(card.ActivateError, match="virtual channel"):
        card.Cards(root, loaded).activate(0, 1, 17, "many")


def test_the_log_tells_who_held_which_cores_and_when(root: Path) -> None:
    before = time.monotonic()
    cards = card.Cards(root)
    cards.activate(1, 2, 3, "program").close()
    lines = [json.loads(line) for line in cards.log_path(1).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["activate", "deactivate"]
    assert all(line["cores"] == [0, 1, 2, 3, 4, 5] and line["program"] == "program" for line in lines)
    assert before <= lines[0]["monotonic"] <= lines[1]["monotonic"] <= time.monotonic()


def test_a_card_that_is_gone_or_not_ready_is_refused(root: Path, tmp_path: Path) -> None:
    broken = write_scenario(tmp_path / "s.json", {"tool": "card", "fault": "status", "qid": 1})
    cards = card.Cards(root, scenario.Scenario(scenario.parse(broken), root / "state", "broken"))
    with pytest.raises(card.ActivateError, match="Device:1 not in ready state"):
        cards.activate(1, 1, 1, "x")
    with pytest.raises(card.ActivateError, match="Invalid device:9"):
        cards.activate(9, 1, 1, "x")


def test_when_a_card_vanishes_later_qids_move_down(root: Path, tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "card", "fault": "vanish", "qid": 1})
    whole = call(root / "tools/qaic-util")
    less = call(root / "tools/qaic-util", scenario=path)
    assert "Number of devices: 2" in less.stdout
    assert record_of(less.stdout, 0) == record_of(whole.stdout, 0)
    assert record_of(less.stdout, 1)["Board serial"] == record_of(whole.stdout, 2)["Board serial"]
    cards = card.Cards(root, scenario.Scenario(scenario.parse(path), root / "state", "vanish"))
    with cards.activate(1, 5, 1, "x"):
        assert device(root, 2).nsp_free == 9
        assert device(root, 1).nsp_free == 14


def test_cores_come_back_late_after_a_death(root: Path, tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "card", "fault": "nsp-lag", "seconds": 0.4})
    cards = card.Cards(root, scenario.Scenario(scenario.parse(path), root / "state", "lag"))
    cards.activate(0, 14, 1, "x").close()
    assert device(root).nsp_free == 0
    assert wait_until(lambda: device(root).nsp_free == 14) > 0.2


def test_a_tenant_appears_between_the_look_and_the_activation(root: Path, tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "card", "fault": "tenant", "nsp": 6, "after": 1})
    cards = card.Cards(root, scenario.Scenario(scenario.parse(path), root / "state", "tenant"))
    seen = cards.device(0)
    assert seen is not None
    assert seen.nsp_free == 14
    with pytest.raises(card.ActivateError, match="NSP"):
        cards.activate(0, 14, 1, "x")
