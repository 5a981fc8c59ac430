"""Where a model's files come from: the hub at a resolved revision, or a local folder by its digest.

Nothing is executed here. safetensors files are taken where there are any; pickled weights run code when
they are loaded, so they are refused unless the user trusts the repository.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from farm.domain.errors import StageFailed

#: Seconds for one answer of the hub.
HUB_TIMEOUT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: A sentence-transformers repository keeps each of its modules in a numbered folder.
_MODULE_FOLDER = re.compile(r"\d+_\w+")
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_TEXT_SUFFIXES = {".json", ".txt", ".model", ".vocab"}


@dataclass(frozen=True)
class HubModel:
    """A repository at one commit; model is the id the hub answers with, which differs when it moved."""

    model: str
    revision: str


def resolve_hub(model: str, revision: str | None) -> HubModel:
    """The commit behind `revision` (default: the main branch). A full commit id is taken as it is.

    Honours HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE (then the cache's own reference counts).
    Raises StageFailed: "input" for an unknown or gated repository or revision, "host" for a hub that
    cannot be reached.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return HubModel(model, revision)
    with _hub_errors(model, revision):
        if _offline():
            return HubModel(model, _cached_folder(model, revision).name)
        from huggingface_hub import HfApi

        info = HfApi(endpoint=_endpoint()).model_info(model, revision=revision, timeout=HUB_TIMEOUT_S)
    if not info.sha:
        raise StageFailed(
            "host", f"{model}: the hub names no commit for revision {revision or 'main'}; try again"
        )
    return HubModel(info.id or model, info.sha)


def fetch_hub(source: HubModel, library: str, trust: bool) -> Path:
    """The local folder with what an export needs, downloaded where the cache lacks it. Errors as above."""
    with _hub_errors(source.model, source.revision):
        if _offline():
            folder = _cached_folder(source.model, source.revision)
            choose_files(_names(folder), source.model, library, trust)
            return folder
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        api = HfApi(endpoint=_endpoint())
        info = api.model_info(source.model, revision=source.revision, timeout=HUB_TIMEOUT_S)
        names = [sibling.rfilename for sibling in info.siblings or []]
        config = ""
        for name in choose_files(names, source.model, library, trust):
            path = hf_hub_download(
                source.model,
                name,
                revision=source.revision,
                endpoint=_endpoint(),
                cache_dir=_cache(),
                etag_timeout=HUB_TIMEOUT_S,
            )
            if name == "config.json" or not config:
                config = path.removesuffix(name)
    return Path(config)


def choose_files(names: Iterable[str], model: str, library: str, trust: bool) -> list[str]:
    """Those of a repository's files an export needs. Raises StageFailed("input") where it has no weights."""
    available = sorted(set(names))
    folders = [""]
    if library == "sentence_transformers" and "modules.json" in available:
        parents = {PurePosixPath(name).parent.as_posix() for name in available}
        folders += sorted(parent for parent in parents if _MODULE_FOLDER.fullmatch(parent))
    chosen: list[str] = []
    weights = 0
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        here = [
            name.removeprefix(prefix)
            for name in available
            if PurePosixPath(name).parent == PurePosixPath(folder)
        ]
        files = _weights(here, f"{model}/{folder}".rstrip("/"), trust)
        weights += len(files)
        files += [name for name in here if _is_wanted(name, library, trust)]
        chosen += [prefix + name for name in files if prefix + name not in chosen]
    if not any(PurePosixPath(name).name == "config.json" for name in chosen):
        raise StageFailed("input", f"{model} has no config.json; it is not a transformers checkpoint")
    if not weights:
        raise StageFailed("input", f"{model} has no safetensors or PyTorch weights to export")
    return chosen


def folder_digest(folder: Path, library: str, trust: bool) -> str:
    """A digest of the files of a local checkpoint that an export would read."""
    if not folder.is_dir():
        raise StageFailed(
            "input", f"{folder}: no such folder; give a hub id, a checkpoint folder or an .onnx file"
        )
    return files_digest(folder, choose_files(_names(folder), str(folder), library, trust))


def files_digest(folder: Path, names: Sequence[str]) -> str:
    """One SHA-256 over the names and contents of files below `folder`."""
    total = hashlib.sha256()
    for name in sorted(names):
        one = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                one.update(block)
        total.update(f"{one.hexdigest()} {name}\n".encode())
    return total.hexdigest()


def _weights(names: list[str], where: str, trust: bool) -> list[str]:
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole, index = f"{stem}.{suffix}", f"{stem}.{suffix}.index.json"
        found = [whole] if whole in names else []
        if not found and index in names:
            found = [index, *(name for name in names if _SHARD.fullmatch(name) and name.endswith(suffix))]
        if found and suffix == "bin" and not trust:
            raise StageFailed(
                "input",
                f"{where} has only pickled weights, which can run code; use a revision with safetensors "
                "or, if you trust it, --trust-remote-code",
            )
        if found:
            return found
    return []


def _is_wanted(name: str, library: str, trust: bool) -> bool:
    if name == "config.json" or (trust and name.endswith(".py")):
        return True
    is_text = PurePosixPath(name).suffix in _TEXT_SUFFIXES and not name.endswith(".index.json")
    return library == "sentence_transformers" and is_text


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _cache() -> str | None:
    if explicit := os.environ.get("HF_HUB_CACHE"):
        return explicit
    home = os.environ.get("HF_HOME")
    return str(Path(home).expanduser() / "hub") if home else None


def _cached_folder(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, cache_dir=_cache(), local_files_only=True))


@contextmanager
def _hub_errors(model: str, revision: str | None) -> Iterator[None]:
    """Turns what the hub's client raises into one line that names the model, the cause and the way out."""
    import requests
    from huggingface_hub import errors

    hub = _endpoint() or "the hub"
    try:
        yield
    except errors.GatedRepoError as error:
        raise StageFailed(
            "input", f"{model} is gated: accept its terms on {hub} and set HF_TOKEN for the CPU workers"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise StageFailed(
            "input", f"{model}: no such model on {hub}, or it is private; check the id or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise StageFailed(
            "input", f"{model} has no revision {revision}; name a branch, a tag or a commit"
        ) from error
    except errors.HFValidationError as error:
        raise StageFailed("input", f"{model!r} is not a hub id; write NAME or ORGANISATION/NAME") from error
    except errors.LocalEntryNotFoundError as error:
        if _offline():
            raise StageFailed(
                "input",
                f"{model} is not in the hub's cache and HF_HUB_OFFLINE is set; download it or unset that",
            ) from error
        raise StageFailed(
            "host", f"{model}: cannot reach {hub}; check the network and HF_ENDPOINT"
        ) from error
    except errors.EntryNotFoundError as error:
        raise StageFailed("input", f"{model}: a file its listing names is missing on {hub}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise StageFailed(
                "input", f"{model}: {hub} refuses access (HTTP {status}); check HF_TOKEN"
            ) from error
        raise StageFailed("host", f"{model}: {hub} answered HTTP {status}; try again later") from error
    except requests.RequestException as error:
        raise StageFailed(
            "host", f"{model}: cannot reach {hub} ({type(error).__name__}); check the network and HF_ENDPOINT"
        ) from error
    except OSError as error:
        raise StageFailed("host", f"{model}: download failed: {error}") from error
