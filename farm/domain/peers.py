"""Cards that are slower than the others on the same work: an outlier is flagged, never hidden or left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: A card is slow when its throughput is below this share of its peers' median ...
SLOW_SHARE = 0.9
#: ... and further below it than so many robust standard deviations of the peers themselves ...
_DEVIATIONS = 3.0
#: ... of which there are at least so many.
FEWEST_PEERS = 3
#: The median absolute deviation of a normal distribution times this is its standard deviation.
_MAD_TO_SIGMA = 1.4826
#: The same work: the same program, run in the same way on a card of as many cores. The program's key stands
#: for model, revision, task, shapes, compiler flags, SDK and platform.
_SAME = ("qpc_key", "instances", "set_size", "route", "platform", "timing", "nsp_total")
#: Figures that somebody else's work on the card explains.
_EXPLAINED = {"foreign_tenant", "shared_card"}


@dataclass(frozen=True)
class SlowCard:
    """A card on one kind of work. share: of its peers' median throughput. records: the places of its own."""

    node: str | None
    device: str
    model: str
    share: float
    peers: int
    records: tuple[int, ...]


def slow_cards(records: Sequence[Mapping[str, Any]]) -> list[SlowCard]:
    """The slow cards among result records, slowest first.

    A card stands for itself with the median of its repeats, and is judged by the median of the other cards
    on the same work. Records without a throughput, or with another tenant on the card, do not count.
    """
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, record in enumerate(records):
        explained = _EXPLAINED & set(record.get("flags") or ())
        if record.get("throughput_inf_s") and record.get("qpc_key") and not explained:
            card = (record["node"], record["pci_address"] or record["device"])
            groups[tuple(record[name] for name in _SAME)][card].append(place)
    found = []
    for cards in groups.values():
        rates = {
            card: median(records[n]["throughput_inf_s"] for n in places) for card, places in cards.items()
        }
        for card, rate in rates.items():
            peers = [other for name, other in rates.items() if name != card]
            if is_slow(rate, peers):
                first = records[cards[card][0]]
                share = rate / median(peers)
                found.append(
                    SlowCard(
                        first["node"], first["device"], first["model"], share, len(peers), tuple(cards[card])
                    )
                )
    return sorted(found, key=lambda slow: slow.share)


def is_slow(rate: float, peers: Sequence[float]) -> bool:
    """Whether a throughput is an outlier below those of its peers."""
    if len(peers) < FEWEST_PEERS:
        return False
    middle = median(peers)
    sigma = _MAD_TO_SIGMA * median(abs(peer - middle) for peer in peers)
    return rate < SLOW_SHARE * middle and middle - rate > _DEVIATIONS * sigma
