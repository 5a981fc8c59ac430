"""What `farm doctor` looks at on this host: the farm's folder, what dead processes left, the model hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from farm.cli.check import Check
from farm.domain.errors import BadInput
from farm.domain.sizes import GIB, MIB, parse_size, show_size
from farm.records.connection import hide_password

if TYPE_CHECKING:
    from farm.worker.places import Places

#: Less is too little for any model's artifacts.
LEAST_FREE_BYTES = 2 * GIB
#: Less is too little for the outputs and logs of a run.
LEAST_FREE_WORK_BYTES = 64 * MIB


def host_checks(home: Path, store: Callable[[], Path]) -> Iterator[Check]:
    """The farm at `home` as this host's disk and processes tell it; nothing is changed."""
    from farm.worker.places import Places

    places = Places(home)
    yield _outbox(places.outbox)
    yield _orphans(home)
    yield from _folders(home, places)
    yield from _store(store())
    yield _hub()


def _outbox(folder: Path) -> Check:
    waiting = list(folder.glob("*.json"))
    if not waiting:
        return Check("outbox", "ok", "every outcome is reported")
    way_out = "they are when Redis is back, or when a worker starts on this host"
    return Check("outbox", "bad", f"{len(waiting)} outcomes in {folder} are not reported: {way_out}")


def _folders(home: Path, places: Places) -> Iterator[Check]:
    """Where attempts, outcomes and logs are written: each disk, and each folder that may only be read."""
    disks: dict[int, Path] = {}
    closed = []
    for folder in (home, places.work, places.outbox, places.process_logs, home / "golden"):
        if folder.is_dir():
            disks.setdefault(folder.stat().st_dev, folder)
            if not _writable(folder):
                closed.append(folder)
    for folder in closed:
        yield Check("folders", "bad", f"{folder} cannot be written: mount it to be written, or see its owner")
    for folder in disks.values():
        free = psutil.disk_usage(str(folder)).free
        state: Literal["ok", "bad"] = "ok" if free >= LEAST_FREE_WORK_BYTES else "bad"
        way_out = "" if state == "ok" else ": free some; runs there fail"
        yield Check("disk of the work", state, f"{show_size(free)} free at {folder}{way_out}")


def _writable(folder: Path) -> bool:
    """Whether this user may write there now."""
    return os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_RDONLY


def _orphans(home: Path) -> Check:
    from farm.worker.orphans import find_orphans

    found = find_orphans(home)
    if not found:
        return Check("orphans", "ok", "no process of a dead keeper is left")
    named = ", ".join(f"{process.pid} ({process.name()})" for process in found)
    return Check(
        "orphans", "bad", f"left by dead keepers: process {named}; the next worker to start ends them"
    )


def _store(root: Path) -> Iterator[Check]:
    from farm.artifacts.store import Store, left_behind
    from farm.worker.eviction import default_store_limit

    if not (root / "objects").is_dir():
        yield Check("store", "note", f"{root} is not there yet: the first CPU worker makes it")
        return
    left = left_behind(root)
    if left:
        way_out = "the next CPU worker to start removes them"
        yield Check("unfinished builds", "note", f"{len(left)} in {root / 'building'}: {way_out}")
    store = Store(root)
    asked = os.environ.get("FARM_STORE_LIMIT")
    try:
        limit = parse_size(asked, "FARM_STORE_LIMIT") if asked else default_store_limit(store)
    except BadInput as error:
        yield Check("store", "bad", str(error))
        return
    used, free = store.total(), psutil.disk_usage(str(root)).free
    seen = f"{show_size(used)} of {show_size(limit)} used, {show_size(free)} free on its disk, {root}"
    if free < LEAST_FREE_BYTES:
        yield Check("store", "bad", f"{seen}: free some, or farm up --store-limit less")
    elif limit - used > free:
        yield Check("store", "note", f"{seen}: the disk is full before the limit is reached")
    else:
        yield Check("store", "ok", seen)


def _hub() -> Check:
    """The settings a CPU worker started here would have; a token is never shown."""
    endpoint = hide_password(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    file = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    named = any(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")) or file.is_file()
    seen = f"{endpoint}, {'a token' if named else 'no token: gated models are refused'}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("model hub", "note", f"{seen}, offline: only what the cache has")
    return Check("model hub", "ok", seen)
