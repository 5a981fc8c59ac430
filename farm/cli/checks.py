"""What `farm doctor` looks at. A check never raises: what goes wrong is its answer."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from farm.cli.check import Check
from farm.cli.context import Farm
from farm.cli.extras import PACKAGES
from farm.cli.fleet_checks import fleet_checks, strangers
from farm.cli.host_checks import host_checks
from farm.cli.redis_checks import redis_checks
from farm.cli.sdk_checks import sdk_checks
from farm.cli.trouble_checks import trouble_checks
from farm.domain.errors import FarmError
from farm.records.connection import connect

if TYPE_CHECKING:
    from farm.records import Records


def all_checks(farm: Farm) -> Iterator[Check]:
    """Every check, in an order in which a later one builds on the earlier ones."""
    yield Check("python", "ok", platform.python_version())
    yield from _guarded("packages", _packages())
    yield from _guarded("SDK", sdk_checks(farm.find_sdk))
    yield from _guarded("this host", host_checks(farm.home, farm.store))
    yield from _guarded("Redis", _farm_checks(farm))


def _guarded(what: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks, and what kept the rest of them from being made."""
    try:
        yield from checks
    except FarmError as error:
        yield Check(what, "bad", str(error))
    except Exception as error:
        yield Check(what, "bad", f"looking at it failed: {type(error).__name__}: {error}")


def _farm_checks(farm: Farm) -> Iterator[Check]:
    """The farm's Redis servers and what the records tell. Raises Unreachable where there are none."""
    records = farm.records()
    yield from redis_checks("Redis", records.client, durable=True)
    if (bells := farm.broker_url()) != farm.url():
        yield from _guarded(
            "Redis of the bells", redis_checks("Redis of the bells", connect(bells), durable=False)
        )
    node = os.environ.get("FARM_NODE") or os.uname().nodename
    yield from fleet_checks(records, node)
    yield from _guarded("troubles", trouble_checks(records))
    yield from _guarded("card locks", _strangers(farm, records, node))


def _strangers(farm: Farm, records: Records, node: str) -> Iterator[Check]:
    from farm.sdk.lock import held_cards, lock_folder

    try:
        root = farm.find_sdk()
    except FarmError:
        return  # no SDK here, so no card: said already
    yield from strangers(records, held_cards(lock_folder(root)), node)


def _packages() -> Iterator[Check]:
    for extra, names in PACKAGES.items():
        found, missing = [], []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        if missing:
            way_out = f"pip install 'aic-farm[{extra}]' where this role is wanted"
            yield Check(f"packages for {extra}", "note", f"{', '.join(missing)} not installed: {way_out}")
        else:
            yield Check(f"packages for {extra}", "ok", ", ".join(found))
