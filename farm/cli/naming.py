"""Which campaign or jobs a command means when the user names none: the latest campaign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.domain.errors import BadInput

if TYPE_CHECKING:
    from farm.records import Records


def latest(records: Records) -> str:
    """The newest campaign. Raises BadInput where there is none."""
    campaign = records.latest()
    if campaign is None:
        raise BadInput("no campaign has been submitted yet; farm submit -m MODEL makes one")
    return campaign


def names_or_latest(records: Records, names: Sequence[str]) -> list[str]:
    """The names as given, else the latest campaign's."""
    return list(names) or [latest(records)]
