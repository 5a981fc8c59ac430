"""Names that become paths or arguments: model names, their folders, and the motif of a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from farm.domain.digest import digest
from farm.domain.errors import BadInput
from farm.domain.job import DEFAULT_OPSET, Job

#: hub: an id on the hub; folder: a local checkpoint; onnx: a local .onnx file.
ModelKind = Literal["hub", "folder", "onnx"]

MULTICAST = "-multicast-weights"

# A hub id is [organisation/]name; no part may look like an option, a hidden file or a way up.
_ORGANISATION = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_ORGANISATION}(?:/[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_SHELL = frozenset("`$&|;<>()[]{}*?!~#'\"\\")
_LONGEST_PART = 96
_LONGEST_REVISION = 128
_LONGEST_PATH = 1024
_LONGEST_LABEL = 100


def show(value: object) -> str:
    """A value quoted for a one-line message, however long or strange it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


def why(error: Exception) -> str:
    """Why a file cannot be read, for a message that names the file already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def split_model(name: str) -> tuple[ModelKind, str, str | None]:
    """What a model's name means: (kind, model, revision).

    A name that starts with `/` or `./`, or ends with `.onnx`, is a local path and comes back absolute;
    everything else is a hub id `[organisation/]name[@revision]`. The form alone decides, never what lies in
    the current folder: a working directory named after a model must not be taken for the model.
    Raises BadInput for a name that could leave the working directory, reach a shell or pass for an option.
    """
    if name.startswith(("/", "./")) or name.endswith(".onnx"):
        return _local(name)
    model, at, revision = name.partition("@")
    _check_hub_id(name, model)
    if not at:
        return "hub", model, None
    if not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > _LONGEST_REVISION:
        raise BadInput(f"{show(name)}: {show(revision)} is no revision; use a branch, tag or commit")
    return "hub", model, revision


def _check_hub_id(name: str, model: str) -> None:
    if (
        not _HUB_ID.fullmatch(model)
        or ".." in model
        or "--" in model
        or model.endswith(".git")
        or any(len(part) > _LONGEST_PART for part in model.split("/"))
    ):
        raise BadInput(
            f"{show(name)} is not a model name; use a hub id such as bert-base-cased or org/name[@revision], "
            "or a path that starts with / or ./"
        )


def _local(name: str) -> tuple[ModelKind, str, None]:
    path = Path(name).absolute()
    whole = str(path)
    if len(whole) > _LONGEST_PATH:
        raise BadInput(f"{show(name)}: a path of more than {_LONGEST_PATH} characters")
    if bad := [c for c in whole if c in _SHELL or not c.isprintable()]:
        raise BadInput(f"{show(whole)}: a path with {show(bad[0])} in it; rename the folder")
    if ".." in path.parts or any(part.startswith("-") for part in path.parts):
        raise BadInput(f"{show(name)}: no part of a model's path may be `..` or start with `-`")
    if whole != whole.rstrip():
        raise BadInput(f"{show(name)}: a path that ends with a blank; rename the folder")
    if path == Path(path.anchor):
        raise BadInput(f"{show(name)} is not a checkpoint folder")
    return ("onnx" if name.endswith(".onnx") else "folder"), whole, None


def check_label(label: str) -> None:
    """Refuse a campaign's label that would not be one line of a table."""
    if not label.isprintable() or len(label) > _LONGEST_LABEL:
        raise BadInput(
            f"--label {show(label)}: at most {_LONGEST_LABEL} characters, none of them a control character"
        )


def require_local(kind: ModelKind, model: str) -> None:
    """Refuse a local model that is not there. A hub id passes: the hub is asked later, by a worker."""
    path = Path(model)
    if kind == "folder" and not path.is_dir():
        raise BadInput(f"{show(model)}: no such folder; give a checkpoint folder, a .onnx file or a hub id")
    if kind == "onnx" and not path.is_file():
        raise BadInput(f"{show(model)}: no such file")


def folder_name(model: str) -> str:
    """The folder below the working directory that belongs to `Job.model`, relative, with `/` between parts.

    A hub id is its own folder. A local model gets `_local/<name>-<digest of its path>`: no hub id starts
    with an underscore, and two checkpoints of one name stay apart.
    """
    if not model.startswith("/"):
        _check_hub_id(model, model)
        return model
    base = re.sub(r"[^A-Za-z0-9._-]", "-", PurePosixPath(model).name).lstrip(".-") or "model"
    return f"_local/{base[:_LONGEST_PART]}-{digest(model, 8)}"


def motif(job: Job) -> str:
    """The part of folder names that tells a job's configuration from another's of the same model and task.

    `B<batch>-S<seq>-C<cores>-A<instances>-Z<set size>[-OLS<n>][-MOS<n>][-MW][-X<digest>]-<objective>`:
    X digests what else shapes the artifacts and is not the default (further compiler flags, opset,
    revision, random weights, seed, route).
    """
    c = job.config
    parts = [f"B{c.batch_size}", f"S{c.seq_length}", f"C{c.cores}", f"A{c.instances}", f"Z{c.set_size}"]
    if c.ols is not None:
        parts.append(f"OLS{c.ols}")
    if c.mos is not None:
        parts.append(f"MOS{c.mos}")
    if MULTICAST in c.extra:
        parts.append("MW")
    if rest := _unusual(job):
        parts.append(f"X{digest(rest, 8)}")
    return "-".join([*parts, job.objective])


def _unusual(job: Job) -> Mapping[str, Any]:
    values: dict[str, tuple[Any, Any]] = {
        "extra": ([flag for flag in job.config.extra if flag != MULTICAST], []),
        "opset": (job.opset, DEFAULT_OPSET),
        "revision": (job.revision, None),
        "random": (job.weights == "random", False),
        "seed": (job.seed, 0),
        "route": (job.route, "runner"),
    }
    return {name: value for name, (value, default) in values.items() if value != default}
