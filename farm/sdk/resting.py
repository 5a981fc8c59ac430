"""The cards of a host, without disturbing those that measure: a card whose lock is held is not asked."""

from __future__ import annotations

import itertools

from farm.domain.errors import StageFailed
from farm.sdk.devices import Device, NoSuchCard, query
from farm.sdk.lock import HeldCard, held_cards, last_lock, lock_folder
from farm.sdk.root import Sdk


def resting_cards(sdk: Sdk) -> tuple[list[Device], list[HeldCard]]:
    """The cards nobody holds, as qaic-util tells them, and those that are held, as their holders noted them.

    While one is held, the others are asked one at a time, from QID 0 to the first that qaic-util does not
    know. Where a holder noted no QID nobody is asked: any card could be the one that measures.
    Raises StageFailed where qaic-util fails, as `farm.sdk.devices.query` does.
    """
    held = held_cards(lock_folder(sdk.root))
    if not held:
        return query(sdk), []
    taken = {card.qid for card in held if card.qid is not None}
    if len(taken) < len(held):
        return [], held
    asked: list[Device] = []
    for qid in itertools.count():
        if qid in taken:
            continue
        try:
            asked += query(sdk, [qid])
        except NoSuchCard:
            if qid > max(taken):
                break
    return asked, held


def resting_card(sdk: Sdk, qid: int) -> Device | HeldCard:
    """One card as qaic-util tells it, or, while somebody holds it, as its holder noted it.

    The card is held while it is asked, so that nobody begins to measure on it meanwhile; one that was never
    held is not known before it was asked. Raises StageFailed as `farm.sdk.devices.query` does, and "busy"
    where a holder noted no QID: it could be any card.
    """
    folder = lock_folder(sdk.root)
    while True:
        for card in held_cards(folder):
            if card.qid is None:
                pids = ", ".join(map(str, card.pids)) or "not visible to this user"
                message = f"card {card.pci_address} is held (pid {pids}), and its holder noted no QID"
                raise StageFailed("busy", f"{message}: device.{qid} is not asked, it may be that one")
            if card.qid == qid:
                return card
        lock = last_lock(folder, qid)
        if lock is None:
            return query(sdk, [qid])[0]
        try:
            if lock.try_exclusive():
                return query(sdk, [qid])[0]
        finally:
            lock.release()
