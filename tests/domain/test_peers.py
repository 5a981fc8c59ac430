"""Which card is slow among its peers, and which is only different."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.peers import is_slow, slow_cards


def result(card: int, rate: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "node": "n", "device": str(card), "pci_address": f"0000:0{card}:00.0", "model": "m",
        "qpc_key": "compile-a", "instances": 2, "set_size": 2, "route": "runner",
        "platform": "aic100", "timing": "measured",
        "nsp_total": 14, "throughput_inf_s": rate, "flags": [], **changes,
    }  # fmt: skip


def slow(records: list[dict[str, Any]]) -> list[str]:
    return [found.device for found in slow_cards(records)]


EIGHT = [1000.0, 1004.0, 996.0, 1010.0, 990.0, 1002.0, 998.0]


def test_the_one_that_lags_is_named_with_its_share_and_its_records() -> None:
    records = [result(card, rate) for card, rate in enumerate(EIGHT)]
    records += [result(7, 700.0), result(7, 720.0)]
    [found] = slow_cards(records)
    assert (found.device, found.peers, found.records) == ("7", 7, (7, 8))
    assert found.share == pytest.approx(0.71)


@pytest.mark.parametrize(
    ("rate", "peers", "verdict"),
    [
        (899, [1000, 1000, 1000], True),
        (901, [1000, 1000, 1000], False),
        (500, [1000, 1000], False),  # too few
        (700, [800, 1000, 1200], False),  # the others lie as far apart
        (100, [800, 1000, 1200], True),
        (500, [1000, 1000, 1000, 510], True),  # another slow one does not hide it
        (2000, [1000, 1000, 1000], False),
    ],
)
def test_where_the_line_is(rate: float, peers: list[float], verdict: bool) -> None:
    assert is_slow(rate, peers) is verdict


@pytest.mark.parametrize(
    "changes",
    [
        {"qpc_key": "compile-b"}, {"instances": 1}, {"set_size": 1}, {"route": "api"},
        {"platform": "emulated"}, {"timing": "modelled"}, {"nsp_total": 16}, {"qpc_key": None},
        {"flags": ["foreign_tenant"]},
        {"flags": ["shared_card"]}, {"throughput_inf_s": None},
    ],
)  # fmt: skip
def test_what_is_not_the_same_work_is_not_compared(changes: dict[str, Any]) -> None:
    records = [result(card, rate) for card, rate in enumerate(EIGHT)]
    assert slow([*records, {**result(7, 500.0), **changes}]) == []


def test_one_bad_repeat_does_not_make_a_card_slow() -> None:
    records = [result(card, rate) for card, rate in enumerate(EIGHT)]
    assert slow([*records, *(result(7, rate) for rate in (400.0, 1000.0, 1001.0))]) == []


@given(st.lists(st.floats(1, 1e6), min_size=3, max_size=12), st.floats(0.5, 2))
def test_the_unit_does_not_matter_and_at_most_half_are_slow(rates: list[float], factor: float) -> None:
    records = [result(card, rate) for card, rate in enumerate(rates)]
    found = slow(records)
    assert len(found) <= len(rates) / 2
    scaled = [result(card, rate * 2 ** round(factor)) for card, rate in enumerate(rates)]
    assert slow(scaled) == found
