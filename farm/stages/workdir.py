"""A model's working directory: where each file of an attempt lies, and the view of the newest finished job.

The layout is a contract (docs/user-guide.md, "The working directory").
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import FarmError
from farm.domain.job import Job
from farm.domain.names import folder_name, motif


@dataclass(frozen=True)
class Tree:
    """The paths of one job below a working directory; `make` creates the folders."""

    folder: Path
    motif: str
    shape: str

    @property
    def model(self) -> Path:
        """The ONNX file the program was compiled from."""
        return self.folder / "model" / "model.onnx"

    @property
    def inputs(self) -> Path:
        """The raw input files and their description for the runner."""
        return self.folder / "inputFiles"

    @property
    def batch_io(self) -> Path:
        """The runner's description of the inputs."""
        return self.inputs / f"aic_batch_io_{self.shape}.json"

    @property
    def api_request(self) -> Path:
        """The API child's description of the run."""
        return self.inputs / f"api_request_{self.motif}.json"

    @property
    def outputs(self) -> Path:
        """What the card's run writes: outputs and latency profile."""
        return self.folder / "outputFiles" / f"fp16-{self.motif}"

    @property
    def qpc(self) -> Path:
        """The compiled program."""
        return self.folder / f"compiled-bin-fp16-{self.motif}"

    @property
    def input_list(self) -> Path:
        """The input files, comma-separated, one inference a line."""
        return self.folder / f"list_{self.shape}.txt"

    @property
    def commands(self) -> Path:
        """The commands that reproduce the result."""
        return self.folder / f"commands-{self.motif}.txt"

    def make(self) -> None:
        """Make the folders. The outputs' folder must be new: files of another run are never mixed in."""
        for folder in (self.model.parent, self.inputs, self.outputs.parent, self.qpc):
            folder.mkdir(parents=True, exist_ok=True)
        self.outputs.mkdir()


def tree(workdir: Path, job: Job) -> Tree:
    """The paths of `job` below `workdir`."""
    config = job.config
    folder = workdir / folder_name(job.model) / job.task
    return Tree(folder, motif(job), f"{config.batch_size}x{config.seq_length}")


def link_files(source: Path, target: Path, prefix: str = "") -> None:
    """Symbolic links in `target` to the files of `source` whose names start with `prefix`."""
    for file in sorted(source.iterdir()):
        if file.name.startswith(prefix) and file.is_file():
            (target / file.name).symlink_to(file.absolute())


def publish_view(attempt_dir: Path, view_root: Path, model: str, task: str) -> Path:
    """Point `<view_root>/<model>/<task>` at the attempt's tree, in one step, and return that path.

    Raises FarmError where something that is not such a view is in the way: it is never removed.
    """
    attempt = attempt_dir.absolute() / folder_name(model) / task
    view = view_root.absolute() / folder_name(model) / task
    if view == attempt:
        return view  # `farm run` works in the view itself
    if view.exists() and not view.is_symlink():
        raise FarmError(
            f"{view}: not a view made by the farm; move it away or choose another working directory"
        )
    aside = view.parent / f".{task}.{uuid.uuid4().hex}"
    try:
        view.parent.mkdir(parents=True, exist_ok=True)
        aside.symlink_to(os.path.relpath(attempt, view.parent.resolve()))
        aside.replace(view)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise FarmError(f"{view}: {error.strerror}") from error
    return view
