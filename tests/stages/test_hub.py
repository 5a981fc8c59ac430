"""A model's files from the hub: names, permissions, broken hubs, downloads, the cache, what is written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import StageFailed
from farm.sdk.launcher import DirectLauncher
from farm.stages import hub as hub_module
from farm.stages.hub import Fetched, fetch_hub, resolve_hub
from tests.hub.server import HubServer, serving

MODEL = "org/model"
TOKEN = "hf_a-token-nobody-may-read"
WEIGHTS = "model.safetensors"
WEIGHTS_BYTES = 5 * 1024 * 1024 + 7
Fetch = Callable[..., Fetched]


@dataclass
class Hub:
    """A hub with org/model, whose weights are 5 MiB of noise."""

    server: HubServer
    root: Path

    def behaves(self, **settings: Any) -> None:
        """From now on it does as tests/hub/server.py says of `settings`."""
        (self.root / "hub.json").write_text(json.dumps(settings))

    def add(self, model: str, files: dict[str, bytes]) -> Path:
        """A repository with a config.json and the files given."""
        folder = self.root / model
        folder.mkdir(parents=True)
        for name, content in {"config.json": b"{}", **files}.items():
            (folder / name).write_bytes(content)
        return folder

    def asked(self, method: str, file: str) -> int:
        return sum(line.startswith(f'"{method} ') and file in line for line in self.server.requests)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    root = tmp_path / "hub"
    with serving(root) as server:
        hub = Hub(server, root)
        hub.add(MODEL, {WEIGHTS: os.urandom(WEIGHTS_BYTES)})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        monkeypatch.setattr(hub_module, "HUB_TIMEOUT_S", 0.5)
        yield hub


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """fetch(model, revision=None, library=..., trust=..., out=...): resolve and fetch, as an export does."""

    def fetch(
        model: str = MODEL,
        revision: str | None = None,
        library: str = "transformers",
        trust: bool = False,
        out: str = "out",
    ) -> Fetched:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        found = resolve_hub(model, revision)
        return fetch_hub(found, revision, library, trust, DirectLauncher(), folder, tmp_path / f"{out}.log")

    return fetch


def refused(action: Callable[[], object]) -> StageFailed:
    """The failure of the action, one line long."""
    with pytest.raises(StageFailed) as caught:
        action()
    assert "\n" not in str(caught.value)
    return caught.value


class TestNames:
    def test_a_branch_a_tag_and_a_commit(self, hub: Hub) -> None:
        hub.add("org/old", {WEIGHTS: b"old"})
        hub.behaves(branches={MODEL: {"v1": "org/old", "refs/pr/1": "org/old"}})
        main, old = resolve_hub(MODEL, None), resolve_hub(MODEL, "v1")
        assert main != old
        assert resolve_hub(MODEL, "main") == resolve_hub(MODEL, main.revision) == main
        assert resolve_hub(MODEL, "refs/pr/1") == resolve_hub(MODEL, old.revision) == old

    def test_a_branch_that_moved_is_another_commit_and_both_stay(self, hub: Hub, fetch: Fetch) -> None:
        before = fetch()
        (hub.root / MODEL / WEIGHTS).write_bytes(b"new weights")
        after = fetch()
        assert after.folder != before.folder
        assert (before.folder / WEIGHTS).stat().st_size == WEIGHTS_BYTES
        assert (after.folder / WEIGHTS).read_bytes() == b"new weights"

    def test_an_id_that_moved_is_followed(self, hub: Hub, fetch: Fetch) -> None:
        hub.behaves(moved={"old-name": MODEL})
        found = resolve_hub("old-name", None)
        assert found.model == MODEL
        assert fetch("old-name", found.revision).model == MODEL, "also where the commit needs no hub"

    @pytest.mark.parametrize(
        ("model", "revision", "says"),
        [
            ("org/nothing", None, "org/nothing: no such model"),
            (MODEL, "no-such-branch", f"{MODEL} has no revision no-such-branch"),
            (MODEL, "0" * 40, f"{MODEL} has no revision 0000"),
            ("not a name", None, "not a hub id"),
        ],
    )
    def test_what_is_not_there(
        self, hub: Hub, fetch: Fetch, model: str, revision: str | None, says: str
    ) -> None:
        failure = refused(lambda: fetch(model, revision))
        assert failure.kind == "input"
        assert says in str(failure)

    def test_a_mirror_below_a_path(self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.behaves(prefix="/mirrors/hf", moved={"old-name": MODEL})
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.server.url}/mirrors/hf/")
        assert (fetch("old-name").folder / WEIGHTS).stat().st_size == WEIGHTS_BYTES
        monkeypatch.setenv("HF_ENDPOINT", hub.server.url)
        failure = refused(fetch)
        assert (failure.kind, "check the id and HF_ENDPOINT" in str(failure)) == ("input", True)


class TestPermission:
    def test_gated(self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.behaves(gated=[MODEL], token=TOKEN)
        assert resolve_hub(MODEL, None).revision, "the listing is open"
        failure = refused(fetch)
        assert failure.kind == "input"
        assert f"gated and HF_TOKEN is not set: accept its terms at {hub.server.url}/{MODEL}" in str(failure)
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        assert "gated and HF_TOKEN's account has no access" in str(refused(fetch))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert (fetch().folder / WEIGHTS).is_file()

    def test_private(self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.behaves(private=[MODEL], token=TOKEN)
        for token in ("", "hf_other"):
            monkeypatch.setenv("HF_TOKEN", token)
            failure = refused(fetch)
            assert (failure.kind, "or it is private" in str(failure)) == ("input", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert (fetch().folder / WEIGHTS).is_file()

    def test_no_secret_is_written(
        self, hub: Hub, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_ENDPOINT", hub.server.url.replace("//", "//user:p4ssword@"))
        hub.behaves(gated=[MODEL])
        told = [str(refused(fetch))]
        hub.behaves(broken_files={MODEL: 429})
        told.append(str(refused(fetch)))
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        monkeypatch.setattr(hub_module, "STALL_S", 1.4)
        hub.behaves(stall_after=1024 * 1024)
        told.append(str(refused(fetch)))
        assert "Trying to resume" in (tmp_path / "out.log").read_text(), "the client names the URL"
        told += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
        assert len(told) > 5
        assert not [text for text in told if TOKEN in text or "p4ssword" in text]


class TestBrokenHubs:
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"broken": {MODEL: 503}}, "answered HTTP 503; try again later"),
            ({"broken": {MODEL: 429}}, "too many requests"),
            ({"broken_files": {MODEL: 429}}, "too many requests"),
            ({"stalled": [MODEL]}, r"cannot reach http.* \(ReadTimeout\)"),
            ({"commit": "f" * 40}, "serves another commit than"),
            ({"not_a_hub": True}, "does not answer as a hub does; check HF_ENDPOINT"),
        ],
    )
    def test_the_host_is_to_blame(self, hub: Hub, fetch: Fetch, settings: Any, says: str) -> None:
        hub.behaves(**settings)
        failure = refused(fetch)
        assert failure.kind == "host"
        assert re.search(says, str(failure))
        hub.behaves()
        assert fetch().model == MODEL

    def test_a_file_that_is_forbidden(self, hub: Hub, fetch: Fetch) -> None:
        hub.behaves(broken_files={MODEL: 403})
        failure = refused(fetch)
        assert (failure.kind, "HTTP 403" in str(failure)) == ("input", True)


class TestDownload:
    def test_it_says_what_comes(
        self, hub: Hub, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub_module, "PROGRESS_S", 0.05)
        monkeypatch.setattr(hub_module, "STALL_S", 1.0)
        hub.behaves(stall_after=3 * 1024 * 1024)
        failure = refused(fetch)
        assert failure.kind == "host"
        assert "no data from" in str(failure)
        lines = (tmp_path / "out.log").read_text().splitlines()
        assert re.fullmatch(
            rf"downloading {MODEL} at [0-9a-f]{{40}} from {hub.server.url}: 2 files, 5.0 MiB to come",
            lines[0],
        )
        assert re.fullmatch(r"model\.safetensors: [23]\.0 of 5\.0 MiB", lines[-1])

    def test_a_broken_one_goes_on_where_it_broke(self, hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
        hub.behaves(cut_after=2 * 1024 * 1024)
        weights = fetch().folder / WEIGHTS
        assert weights.read_bytes() == (hub.root / MODEL / WEIGHTS).read_bytes()
        assert hub.server.ranges == ["bytes=2097152-", "bytes=4194304-"]
        assert "the connection broke" in (tmp_path / "out.log").read_text()

    def test_the_next_try_goes_on_from_what_is_there(
        self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub_module, "STALL_S", 1.0)
        hub.behaves(stall_after=2 * 1024 * 1024)
        refused(fetch)
        hub.behaves()
        weights = fetch().folder / WEIGHTS
        assert weights.read_bytes() == (hub.root / MODEL / WEIGHTS).read_bytes()
        assert hub.server.ranges == ["bytes=2097152-"]

    def test_it_can_be_ended(self, hub: Hub, tmp_path: Path) -> None:
        hub.behaves(stall_after=1)
        launcher = DirectLauncher(cancelled=lambda: hub.asked("GET", WEIGHTS) > 0)
        found = resolve_hub(MODEL, None)
        log = tmp_path / "log"
        failure = refused(lambda: fetch_hub(found, None, "transformers", False, launcher, tmp_path, log))
        assert (failure.kind, "signal 15" in str(failure)) == ("host", True)

    def test_a_connection_that_brings_nothing_is_given_up(self, hub: Hub, fetch: Fetch) -> None:
        hub.behaves(cut_after=0)
        failure = refused(fetch)
        assert (failure.kind, "ChunkedEncodingError" in str(failure)) == ("host", True)
        assert hub.asked("GET", WEIGHTS) == 1

    def test_a_disk_too_small(self, hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
        hub.behaves(claimed_sizes={WEIGHTS: 10**16})
        failure = refused(fetch)
        assert failure.kind == "host"
        assert re.fullmatch(
            rf"{MODEL} needs 9313225\.\d GiB, {tmp_path}/hf-home/hub has [\d.]+ [GM]iB free; "
            "free some space or set HF_HOME to a larger disk",
            str(failure),
        )
        assert hub.asked("GET", "resolve") == 0, "refused before the first byte"

    def test_a_part_that_is_there_needs_no_room(self, hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
        claimed = shutil.disk_usage(tmp_path).free + 2**30
        hub.behaves(claimed_sizes={WEIGHTS: claimed})
        assert "free some space" in str(refused(fetch))
        blobs = tmp_path / "hf-home/hub/models--org--model/blobs"
        blobs.mkdir(parents=True)
        part = blobs / f"{hub.server.digest(hub.root / MODEL / WEIGHTS)}.incomplete"
        part.touch()
        os.truncate(part, claimed - 1000)  # sparse
        assert (fetch().folder / WEIGHTS).stat().st_size == WEIGHTS_BYTES

    def test_two_at_once_download_once(self, hub: Hub, fetch: Fetch) -> None:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda out: fetch(out=out), ("one", "two")))
        assert both[0] == both[1]
        assert hub.asked("GET", WEIGHTS) == 1

    def test_what_is_there_is_not_asked_for_again(self, hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
        fetch()
        hub.server.requests.clear()
        (tmp_path / "out.log").unlink()
        fetch()
        assert hub.asked("GET", "resolve") == hub.asked("HEAD", "resolve") == 0
        assert not (tmp_path / "out.log").exists(), "no child was started"
        assert list((tmp_path / "out").iterdir()) == []

    def test_safetensors_are_preferred_and_pickles_refused(self, hub: Hub, fetch: Fetch) -> None:
        (hub.root / MODEL / "pytorch_model.bin").write_bytes(b"pickled")
        fetch(trust=True)
        assert hub.asked("HEAD", "pytorch_model.bin") == 0
        hub.add("org/pickled", {"pytorch_model.bin": b"pickled"})
        failure = refused(lambda: fetch("org/pickled"))
        assert failure.kind == "input"
        assert "only pickled weights" in str(failure)
        assert "--trust-remote-code" in str(failure)
        assert fetch("org/pickled", trust=True).model == "org/pickled"


class TestOffline:
    def test_with_a_filled_cache_and_an_empty_one(
        self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("org/old", {WEIGHTS: b"old"})
        hub.behaves(branches={MODEL: {"v1": "org/old"}})
        online = [fetch(), fetch(revision="v1")]
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        hub.server.requests.clear()
        assert [fetch(), fetch(revision="v1")] == online
        assert hub.server.requests == []
        failure = refused(lambda: fetch(revision="v2"))
        assert failure.kind == "input"
        assert str(failure).startswith(f"{MODEL} at v2 is not in the hub's cache and HF_HUB_OFFLINE is set")
        monkeypatch.setenv("HF_HOME", os.environ["HF_HOME"] + "-empty")
        failure = refused(fetch)
        assert failure.kind == "input"
        assert str(failure).startswith(f"{MODEL} is not in the hub's cache and HF_HUB_OFFLINE is set")

    def test_a_listed_name_finds_what_was_downloaded_under_its_new_one(
        self, hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("google-bert/bert-base-cased", {WEIGHTS: b"weights"})
        hub.behaves(moved={"bert-base-cased": "google-bert/bert-base-cased"})
        online = fetch("bert-base-cased")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert fetch("bert-base-cased") == fetch("google-bert/bert-base-cased") == online

    def test_a_cache_that_lacks_a_part(
        self, hub: Hub, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = hub.root / MODEL
        (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model-00002-of-00002.safetensors").write_bytes(b"more")
        shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        found = fetch()
        (folder / shards["b"]).rename(tmp_path / "kept")
        assert f"{MODEL} lacks {shards['b']}" in str(refused(fetch))
        (tmp_path / "kept").rename(folder / shards["b"])
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert fetch() == found
        (found.folder / shards["b"]).unlink()
        failure = refused(fetch)
        assert failure.kind == "input"
        assert f"HF_HUB_OFFLINE is set) lacks {shards['b']}" in str(failure)
        (found.folder / "model.safetensors.index.json").unlink()
        assert "has no safetensors" in str(refused(fetch))
