"""Which files of a checkpoint an export needs, and the digest of a local one.

Nothing is executed here. safetensors files are taken where there are any; pickled weights run code when
they are loaded, so they are refused unless the user trusts the repository (--trust-remote-code).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from farm.domain.errors import StageFailed

#: A sentence-transformers repository keeps each of its modules in a numbered folder.
_MODULE_FOLDER = re.compile(r"\d+_\w+")
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
_TEXT_SUFFIXES = {".json", ".txt", ".model", ".vocab"}


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
    names = choose_files(names_in(folder), str(folder), library, trust)
    check_shards(folder, names, str(folder))
    return files_digest(folder, names)


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


def names_in(folder: Path) -> list[str]:
    """The files below a folder, relative to it."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def check_shards(folder: Path, names: Iterable[str], where: str) -> None:
    """Raises StageFailed("input") naming the first file of weights that an index lists and `folder` lacks."""
    for name in names:
        if not name.endswith(".index.json"):
            continue
        index = folder / name
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StageFailed("input", f"{where}: {name} is not an index of weights") from error
        lacking = sorted(shard for shard in shards if not (index.parent / str(shard)).is_file())
        if lacking:
            raise StageFailed(
                "input", f"{where} lacks {lacking[0]}, which {name} lists; download the model again"
            )
