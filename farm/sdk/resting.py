"""The cards of a host, without disturbing those that measure: a card whose lock is held is not asked."""

from __future__ import annotations

import itertools

from farm.sdk.devices import Device, NoSuchCard, query
from farm.sdk.lock import HeldCard, held_cards, lock_folder
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
