"""How long a campaign will take still."""

from __future__ import annotations

import pytest

from farm.domain.progress import time_left


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"jobs": 0}, 0.0),
        ({"jobs": 8, "cpu_stages": 0}, 20.0),
        ({"jobs": 8, "cpu_stages": 0, "pace_s": 60.0}, 20.0),
        ({"jobs": 8, "cpu_stages": 3, "pace_s": 10.0}, 80.0),
        ({"jobs": 8, "cpu_stages": 3, "pace_s": 1.0}, 20.0),
        ({"jobs": 8, "cpu_stages": 3}, None),
        ({"jobs": 8, "cards": 0}, None),
    ],
)
def test_time_left_is_the_cards_need_and_no_less_than_the_pace(
    asked: dict[str, float], left: float | None
) -> None:
    base = {"jobs": 1, "runs_s": 160.0, "cards": 8, "pace_s": None, "cpu_stages": 0}
    assert time_left(**{**base, **asked}) == left  # type: ignore[arg-type]
