"""Room on a host's disk: eviction to a limit, `farm prune`, and what neither may take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.artifacts import Store
from farm.domain.errors import BadInput
from farm.records import Records
from farm.worker.attempts import leftovers
from farm.worker.building import SharedBuilder
from farm.worker.eviction import Eviction
from farm.worker.places import Places
from farm.worker.pruning import Pruning
from tests.records import scene

SIZE = 100_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def fill(size: int) -> Callable[[Path], dict[str, Any]]:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "content").write_bytes(os.urandom(size))
        return {}

    return build


def export(records: Records, store: Store, worker: str, key: str, limit: int | None = None) -> None:
    """Claim an export and give it the artifact `key` of SIZE bytes."""
    claim = scene.must_claim(records, worker, "export")
    eviction = Eviction(store, records.artifacts, limit)
    built = SharedBuilder(store, records.claims, claim, eviction).get(key, fill(SIZE))
    assert records.claims.done(claim.stage, claim.token, built.outcome()) == "ok"


def ended_campaign(records: Records, store: Store, worker: str, key: str) -> None:
    """A job whose export is in the store and that is cancelled afterwards: nobody needs the artifact."""
    campaign = scene.submit(records, scene.job(key))
    export(records, store, worker, key)
    records.cancel([campaign])


def test_a_builder_makes_room_before_it_builds(records: Records, home: Path) -> None:
    store, worker = Store(home / "store"), scene.cpu(records)
    for key in ("export-a", "export-b"):
        ended_campaign(records, store, worker, key)
    scene.submit(records, scene.job("c"))
    export(records, store, worker, "export-c", limit=int(2.5 * SIZE))
    assert store.keys() == ["export-c"], "what is being built counts as the estimate says: much"
    assert records.artifacts.stored() == store.size("export-c")
    assert records.artifacts.unknown(store.keys()) == []


def test_an_artifact_condemned_by_one_who_died_is_removed_and_made_again(
    records: Records, home: Path
) -> None:
    store, worker = Store(home / "store"), scene.cpu(records)
    ended_campaign(records, store, worker, "export-a")
    assert records.artifacts.condemn(["export-a"]) == ["export-a"]
    made = (store.path("export-a") / "content").read_bytes()
    scene.submit(records, scene.job("again"))
    export(records, store, worker, "export-a")
    assert (store.path("export-a") / "content").read_bytes() != made
    assert records.artifacts.stored() == store.size("export-a")


def test_prune_shows_all_and_frees_what_nobody_needs(records: Records, home: Path) -> None:
    store, worker = Store(home / "store"), scene.cpu(records)
    ended_campaign(records, store, worker, "export-a")
    scene.submit(records, scene.job("b"))
    export(records, store, worker, "export-b")
    pruning = Pruning(home, Places(home).store, records)
    kinds = pruning.overview()["kinds"]
    assert (kinds["export"]["artifacts"], kinds["export"]["unneeded"]) == (2, 1)
    assert kinds["export"]["bytes"] == 2 * kinds["export"]["unneeded_bytes"]
    (removed,) = pruning.free(None)
    assert (removed["name"], removed["bytes"]) == ("export-a", kinds["export"]["unneeded_bytes"])
    assert store.keys() == ["export-b"]
    assert pruning.free(None) == []


def test_what_the_records_do_not_know_goes_only_when_asked_and_never_from_under_a_run(
    records: Records, home: Path
) -> None:
    store = Store(home / "store")
    folder = store.begin("export-alone", "t")
    store.publish("export-alone", folder, fill(SIZE)(folder))
    pruning = Pruning(home, Places(home).store, records)
    assert pruning.overview()["unknown"]["artifacts"] == 1
    assert pruning.free(None) == []
    with store.in_use(), pytest.raises(BadInput, match="a `farm run` or `farm export` uses the store"):
        pruning.free_unknown()
    assert [piece["name"] for piece in pruning.free_unknown()] == ["export-alone"]
    assert store.keys() == []


def run_folder(places: Places, stage: str, attempt: int) -> Path:
    folder = places.attempt(stage, attempt)
    (folder / "model" / "task").mkdir(parents=True)
    (folder / "model" / "task" / "output.bin").write_bytes(bytes(SIZE))
    return folder


def test_attempts_go_once_they_are_compared_and_no_model_shows_them(records: Records, home: Path) -> None:
    places, worker, card = Places(home), scene.cpu(records), scene.card(records)
    scene.submit(records, scene.job())
    scene.until_run(records, worker)
    run = scene.do(records, card, "run", "device.0")
    first, shown = run_folder(places, run.stage, 1), run_folder(places, run.stage, 2)
    strange = run_folder(places, "another/run-1", 1)
    view = places.models / "model" / "task"
    view.parent.mkdir(parents=True)
    view.symlink_to(shown / "model" / "task")
    assert leftovers(places, records) == [], "its outputs are still to be compared"
    scene.do(records, worker, "reference")
    scene.do(records, worker, "compare")
    assert [left.folder for left in leftovers(places, records)] == [first]
    assert [piece["name"] for piece in Pruning(home, Places(home).store, records).free(None)] == [str(first)]
    assert shown.exists()
    assert strange.exists()
    assert not first.exists()


def test_the_document_is_json(records: Records, home: Path) -> None:
    json.dumps(Pruning(home, Places(home).store, records).overview())
