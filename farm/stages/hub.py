"""A model on the hub: the commit that a name means, and its files in the hub's own cache.

The settings are the hub client's: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE. A download is
a child process of the stage (farm.stages.hub_child): it can be ended, and its progress is in the stage's log.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.catalogue import Catalogue
from farm.domain.errors import StageFailed
from farm.sdk.child import ChildSpec
from farm.sdk.launcher import Launcher
from farm.stages.answers import no_answer, read_answer
from farm.stages.checkpoint import check_shards, choose_files, names_in
from farm.stages.hub_errors import endpoint, hub_errors, hub_name, offline

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

#: Seconds for one answer of the hub.
HUB_TIMEOUT_S = 10.0
#: Seconds without a byte after which a download is given up; its part is kept for the next try.
STALL_S = 90.0
#: Seconds between two lines of a download's progress.
PROGRESS_S = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubModel:
    """A repository at one commit; model is the id the hub answers with, which differs when it moved."""

    model: str
    revision: str


@dataclass(frozen=True)
class Fetched:
    """A checkpoint in the hub's cache: its folder, and the id the hub knows it by today."""

    folder: Path
    model: str


def resolve_hub(model: str, revision: str | None) -> HubModel:
    """The commit behind `revision` (default: the main branch). A full commit id is taken as it is.

    With HF_HUB_OFFLINE the cache's own reference counts. Raises StageFailed: "input" for an unknown or
    forbidden repository or revision, "host" for a hub that cannot be reached.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return HubModel(model, revision)
    with hub_errors(model, revision):
        if offline():
            found = _cached(model, revision)
            return HubModel(found.model, found.folder.name)
    info = _info(model, revision)
    if not info.sha:
        raise StageFailed(
            "host", f"{model}: {hub_name()} names no commit for revision {revision or 'main'}; try again"
        )
    return HubModel(info.id, info.sha)


def fetch_hub(
    source: HubModel, ref: str | None, library: str, trust: bool, launcher: Launcher, out: Path, log: Path
) -> Fetched:
    """The files an export needs, downloaded where the cache lacks them; notes go to `log`. Errors as above.

    ref: the branch or tag that was asked for, None for the main branch; it is noted in the cache, so that the
    same ask is answered offline. out: an existing folder for the child's request and answer.
    """
    if offline():
        with hub_errors(source.model, source.revision):
            found = _cached(source.model, source.revision)
        where = f"{found.model} in the hub's cache (HF_HUB_OFFLINE is set)"
        check_shards(found.folder, choose_files(names_in(found.folder), where, library, trust), where)
        return found
    from huggingface_hub.file_download import repo_folder_name

    info = _info(source.model, source.revision, sizes=True)
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    wanted = choose_files(files, info.id, library, trust)
    repository = _cache() / repo_folder_name(repo_id=info.id, repo_type="model")
    folder = repository / "snapshots" / source.revision
    lacking = {name: files[name] for name in wanted if not (folder / name).exists()}
    if lacking:
        source = HubModel(info.id, source.revision)
        _download(source, lacking, repository, launcher, out, log)
        if any(not (folder / name).exists() for name in wanted):
            raise StageFailed(
                "host", f"{info.id}: {hub_name()} serves another commit than {source.revision}; try again"
            )
    check_shards(folder, wanted, info.id)
    _note_ref(repository, ref or "main", source.revision)
    return Fetched(folder, info.id)


def _info(model: str, revision: str | None, sizes: bool = False) -> ModelInfo:
    from huggingface_hub import HfApi

    with hub_errors(model, revision):
        api = HfApi(endpoint=endpoint())
        try:
            return api.model_info(model, revision=revision, timeout=HUB_TIMEOUT_S, files_metadata=sizes)
        except (KeyError, TypeError, AttributeError) as error:  # JSON, but not what a hub says
            raise StageFailed(
                "host", f"{model}: {hub_name()} does not answer as a hub does; check HF_ENDPOINT"
            ) from error


def _download(
    source: HubModel,
    files: Mapping[str, RepoSibling],
    repository: Path,
    launcher: Launcher,
    out: Path,
    log: Path,
) -> None:
    sizes = {name: _bytes_lacking(file, repository / "blobs") for name, file in files.items()}
    _check_disk(source.model, sum(size or 0 for size in sizes.values()), repository.parent)
    request, answer = out / "download.json", out / "downloaded.json"
    request.write_text(
        json.dumps(
            {
                "model": source.model,
                "revision": source.revision,
                "files": sizes,
                "cache": str(repository.parent),
                "blobs": str(repository / "blobs"),
                "timeout_s": HUB_TIMEOUT_S,
                "progress_s": PROGRESS_S,
            }
        )
    )
    result = launcher.run(
        ChildSpec(
            argv=[sys.executable, "-m", "farm.stages.hub_child", str(request), str(answer)],
            cwd=out,
            log=log,
            limit_s=math.inf,  # how long it takes is the network's business, as long as bytes come
            env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
            idle_s=STALL_S,
        )
    )
    if result.ended == "idle":
        raise StageFailed(
            "host",
            f"{source.model}: no data from {hub_name()} for {STALL_S:.0f} s; the next try goes on from there",
            str(log),
        )
    told = read_answer(answer)
    if told is None:
        raise StageFailed("host", no_answer(f"the download of {source.model}", result), str(log))
    request.unlink()
    answer.unlink()
    if "error" in told:
        raise StageFailed(told["kind"], told["error"], str(log))


def _bytes_lacking(file: RepoSibling, blobs: Path) -> int | None:
    """What is still to come of a file: the cache may have a part, or all of it from another commit."""
    if file.size is None:
        return None
    name = file.lfs.sha256 if file.lfs else file.blob_id
    for path in (blobs / f"{name}", blobs / f"{name}.incomplete"):
        with contextlib.suppress(OSError):
            return max(0, file.size - path.stat().st_size)
    return file.size


def _check_disk(model: str, needed: int, cache: Path) -> None:
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StageFailed(
            "host",
            f"{model} needs {_gib(needed)}, {cache} has {_gib(free)} free; free some space or set HF_HOME to "
            "a larger disk",
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _note_ref(repository: Path, ref: str, commit: str) -> None:
    """As the client notes it for downloads by a branch's name; ours are by commit."""
    path = repository / "refs" / ref
    if _COMMIT.fullmatch(ref) or (path.is_file() and path.read_text() == commit):
        return
    with contextlib.suppress(OSError):  # a cache that may only be read: offline asks need a commit then
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)


def _cache() -> Path:
    from huggingface_hub import constants

    if explicit := os.environ.get("HF_HUB_CACHE"):
        return Path(explicit).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)


def _cached(model: str, revision: str | None) -> Fetched:
    """The model in the cache, under this name or the one it moved to or from."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    facts = Catalogue.load().get(model)
    names = dict.fromkeys([model, *((facts.model, facts.canonical) if facts else ())])
    for name in names:
        with contextlib.suppress(LocalEntryNotFoundError):
            path = snapshot_download(name, revision=revision, cache_dir=_cache(), local_files_only=True)
            return Fetched(Path(path), name)
    raise LocalEntryNotFoundError(f"none of {', '.join(names)} is in the cache")
