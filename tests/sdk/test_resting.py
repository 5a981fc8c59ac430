"""Looking at a host's cards while some of them measure."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.domain.errors import StageFailed
from farm.emulator import write_root
from farm.sdk.devices import Device, query
from farm.sdk.launcher import CardLockRequest, DirectLauncher
from farm.sdk.lock import CardLock, HeldCard, held_cards, lock_folder
from farm.sdk.resting import resting_card, resting_cards
from farm.sdk.root import Sdk, open_sdk


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Sdk:
    root = tmp_path_factory.mktemp("resting") / "root"
    write_root(root, cards=3)
    return open_sdk(root)


def asked(sdk: Sdk) -> list[list[str]]:
    """The arguments of each call of qaic-util so far."""
    calls = (sdk.root / "state/calls.log").read_text().splitlines()
    return [call["argv"] for call in map(json.loads, calls) if call["program"] == "qaic-util"]


def request(sdk: Sdk, qid: int, *, cores: int | None = None, noted: bool = True) -> CardLockRequest:
    address = query(sdk, [qid])[0].pci_address or ""
    return CardLockRequest(lock_folder(sdk.root), address, 14, cores, qid if noted else None)


def test_with_no_card_held_all_are_asked_at_once(sdk: Sdk) -> None:
    before = len(asked(sdk))
    cards, held = resting_cards(sdk)
    assert ([card.qid for card in cards], held) == ([0, 1, 2], [])
    assert asked(sdk)[before:] == [["-q"]]


@pytest.mark.parametrize(("qid", "cores"), [(0, None), (1, None), (1, 2), (2, None)])
def test_a_held_card_is_not_asked(sdk: Sdk, qid: int, cores: int | None) -> None:
    hold = request(sdk, qid, cores=cores)
    with DirectLauncher().hold(hold, 1.0):
        before = len(asked(sdk))
        cards, [held] = resting_cards(sdk)
        assert [card.qid for card in cards] == [other for other in range(3) if other != qid]
        assert (held.qid, held.pci_address, held.nsp_total) == (qid, hold.pci_address, 14)
        assert ["-q", "-d", str(qid)] not in asked(sdk)[before:]
        assert ["-q"] not in asked(sdk)[before:]
    assert resting_cards(sdk)[1] == []


def test_a_holder_that_noted_nothing_keeps_everybody_from_asking(sdk: Sdk, tmp_path: Path) -> None:
    lock = CardLock(tmp_path, "0000:99:00.0", 14)
    assert held_cards(tmp_path) == []
    assert lock.try_exclusive()
    [held] = held_cards(tmp_path)
    assert (held.qid, held.nsp_total) == (None, None)
    lock.release()
    hold = request(sdk, 1)
    (hold.folder / f"{hold.pci_address}.lock").write_text("")  # as made by a farm that wrote no notes
    with DirectLauncher().hold(request(sdk, 1, noted=False), 1.0):
        before = len(asked(sdk))
        cards, [other] = resting_cards(sdk)
        assert cards == []
        assert isinstance(other, HeldCard)
        assert len(asked(sdk)) == before


def test_a_shorter_note_replaces_a_longer_one(tmp_path: Path) -> None:
    lock = CardLock(tmp_path, "0000:99:00.0", 14)
    lock.note(123456)
    lock.note(7)
    assert lock.try_share(1) is not None
    assert [card.qid for card in held_cards(tmp_path)] == [7]
    lock.release()


def test_one_card_is_held_while_it_is_asked(sdk: Sdk) -> None:
    with DirectLauncher().hold(request(sdk, 2), 1.0):
        pass
    scenario = sdk.root / "scenario.json"
    scenario.write_text('{"rules": [{"tool": "qaic-util", "fault": "slow", "seconds": 0.3}]}')
    try:
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(resting_card, sdk, 2)
            seen = set()
            while not answer.done():
                seen |= {card.qid for card in held_cards(lock_folder(sdk.root))}
    finally:
        scenario.unlink()
    assert seen == {2}
    found = answer.result()
    assert isinstance(found, Device)
    assert (found.qid, found.ready) == (2, True)
    assert held_cards(lock_folder(sdk.root)) == []


def test_one_card_that_is_held_is_not_asked(sdk: Sdk) -> None:
    with DirectLauncher().hold(request(sdk, 1), 1.0):
        before = len(asked(sdk))
        found = resting_card(sdk, 1)
        assert isinstance(found, HeldCard)
        assert (found.qid, found.nsp_total) == (1, 14)
        assert len(asked(sdk)) == before
        assert isinstance(resting_card(sdk, 0), Device), "another is"


def test_one_card_is_not_asked_while_an_unnamed_one_is_held(sdk: Sdk) -> None:
    hold = request(sdk, 1, noted=False)
    (hold.folder / f"{hold.pci_address}.lock").write_text("")
    with DirectLauncher().hold(hold, 1.0):
        before = len(asked(sdk))
        with pytest.raises(StageFailed, match=f"card {hold.pci_address} is held.*noted no QID"):
            resting_card(sdk, 0)
        assert len(asked(sdk)) == before
