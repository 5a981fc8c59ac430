"""Attempts' private folders that nobody needs any more: ended, compared, and shown by no model's view."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from farm.artifacts.store import tree_bytes
from farm.records import Records
from farm.worker.places import Places


@dataclass(frozen=True)
class Leftover:
    """An attempt's folder, its stage `<campaign>/<name>`, and the bytes below it."""

    folder: Path
    stage: str
    size: int

    def remove(self) -> None:
        """Remove the folder; artifacts that it links to stay."""
        shutil.rmtree(self.folder, ignore_errors=True)


def leftovers(places: Places, records: Records) -> list[Leftover]:
    """The attempts' folders of this host that may go, oldest campaign first.

    What the records do not know stays: they may be another farm's, or older than the disk.
    """
    folders = {
        f"{campaign.name}/{stage.name}": stage
        for campaign in _folders(places.work)
        for stage in _folders(campaign)
    }
    ended = records.queries.ended(folders)
    shown = {part for view in _views(places.models) for part in (view, *view.parents)}
    return [
        Leftover(attempt, name, tree_bytes(attempt))
        for name, stage in folders.items()
        if name in ended
        for attempt in _folders(stage)
        if attempt.resolve() not in shown
    ]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _views(models: Path) -> Iterator[Path]:
    """What the models' views point at."""
    for path in models.rglob("*") if models.is_dir() else ():
        if path.is_symlink():
            yield path.resolve()
