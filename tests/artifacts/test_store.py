"""The artifact store: whole or not there at all, whatever is done to its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import farm.artifacts.store as store_module
from farm.artifacts import Corrupt, Manifest, Store
from farm.domain.errors import BadInput
from farm.worker.building import StoreBuilder

KEY = "compile-0123456789abcdef"
CONTENT = b"a program" * 100


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def build(folder: Path) -> dict[str, int]:
    (folder / "qpc").mkdir()
    (folder / "qpc" / "programqpc.bin").write_bytes(CONTENT)
    (folder / "facts.json").write_text("{}")
    return {"cores": 2}


def publish(store: Store, key: str = KEY, token: str = "t") -> Manifest:
    folder = store.begin(key, token)
    return store.publish(key, folder, build(folder))


def test_what_is_published_is_opened_with_its_facts_and_is_read_only(store: Store) -> None:
    made = publish(store)
    found = store.open(KEY)
    assert found == made
    assert (found.key, found.facts) == (KEY, {"cores": 2})
    assert {name: size for name, (size, _) in found.files.items()} == {
        "facts.json": 2,
        "qpc/programqpc.bin": len(CONTENT),
    }
    modes = {p.stat().st_mode & 0o222 for p in store.path(KEY).rglob("*") if p.is_file()}
    assert modes == {0}
    assert list((store.root / "building").iterdir()) == []


def test_what_was_never_made_is_not_there(store: Store) -> None:
    assert store.open(KEY) is None


def truncate(folder: Path) -> None:
    rewrite(folder / "qpc" / "programqpc.bin", CONTENT[:-1])


def flip(folder: Path) -> None:
    rewrite(folder / "qpc" / "programqpc.bin", CONTENT[:50] + b"!" + CONTENT[51:])


def lose(folder: Path) -> None:
    (folder / "qpc" / "programqpc.bin").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def half_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_bytes()
    rewrite(folder / "manifest.json", text[: len(text) // 2])


def foreign_manifest(folder: Path) -> None:
    text = json.loads((folder / "manifest.json").read_text())
    rewrite(folder / "manifest.json", json.dumps({**text, "key": "compile-other"}).encode())


def shapeless_manifest(folder: Path) -> None:
    rewrite(folder / "manifest.json", b"[1, 2]")


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [truncate, flip, lose, lose_manifest, half_manifest, foreign_manifest, shapeless_manifest]
)
def test_a_spoilt_artifact_is_found_out_moved_away_and_made_again(
    store: Store, spoil: Callable[[Path], None]
) -> None:
    publish(store)
    spoil(store.path(KEY))
    with pytest.raises(Corrupt, match=KEY):
        Store(store.root).open(KEY)
    assert store.open(KEY) is None
    assert publish(store, token="again") == store.open(KEY)


def test_a_file_changed_after_it_was_verified_is_found_out(store: Store) -> None:
    publish(store)
    assert store.open(KEY) is not None
    flip(store.path(KEY))
    with pytest.raises(Corrupt, match=r"programqpc\.bin does not have the digest"):
        store.open(KEY)


def test_a_digest_is_computed_once_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)
    fresh, real = Store(store.root), store_module.file_digest
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(store_module, "file_digest", noted)
    assert fresh.open(KEY) == fresh.open(KEY)
    assert sorted(read) == ["facts.json", "programqpc.bin"]


def test_of_two_builders_the_first_stays_and_the_second_uses_it(store: Store) -> None:
    one, two = store.begin(KEY, "one"), store.begin(KEY, "two")
    first = store.publish(KEY, one, {**build(one), "by": "one"})
    second = store.publish(KEY, two, {**build(two), "by": "two"})
    assert first.facts["by"] == second.facts["by"] == "one"
    assert list((store.root / "building").iterdir()) == []


def test_a_builder_takes_the_place_of_a_spoilt_first(store: Store) -> None:
    two = store.begin(KEY, "two")
    facts = {**build(two), "by": "two"}
    publish(store)
    truncate(store.path(KEY))
    assert store.publish(KEY, two, facts).facts["by"] == "two"
    found = store.open(KEY)
    assert found is not None
    assert found.facts["by"] == "two"


def test_a_build_that_fails_leaves_nothing(store: Store) -> None:
    def fail(folder: Path) -> dict[str, int]:
        build(folder)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        StoreBuilder(store).get(KEY, fail)
    assert store.open(KEY) is None
    assert list((store.root / "building").iterdir()) == []


def test_a_builder_builds_once_and_then_finds(store: Store) -> None:
    builder = StoreBuilder(store)
    made, found = builder.get(KEY, build), builder.get(KEY, build)
    assert (made.cached, found.cached, found.seconds) == (False, True, None)
    truncate(store.path(KEY))
    assert not StoreBuilder(Store(store.root)).get(KEY, build).cached


def test_run_only_builds_nothing(store: Store) -> None:
    with pytest.raises(BadInput, match=f"artifact {KEY} is not in the store .*; leave --run-only out"):
        StoreBuilder(store).get(KEY, build, must_exist=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from farm.artifacts import Store
import farm.artifacts.store as store_module
from tests.artifacts.test_store import KEY, build
store = Store(Path(sys.argv[1]))
step, calls = int(sys.argv[2]), 0
real = store_module._sync
def sync(path):
    global calls
    calls += 1
    if calls > step:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path)
store_module._sync = sync
folder = store.begin(KEY, "killed")
store.publish(KEY, folder, build(folder))
"""


@pytest.mark.parametrize("step", range(5))
def test_a_builder_killed_at_any_step_leaves_nothing_visible(store: Store, step: int) -> None:
    """The steps: two files, the manifest, two folders; behind them comes the rename."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.root), str(step)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
    )
    assert done.returncode == -9
    assert store.open(KEY) is None
    assert publish(store, token="next") == store.open(KEY)
