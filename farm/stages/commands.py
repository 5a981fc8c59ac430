"""The commands file: pasted into a clean shell in its folder it makes the result again.

It exports, compiles and runs into new `repro-*` folders, other ones each time it is pasted, and leaves the
files of the attempt alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import farm.sdk
from farm.domain.job import Job
from farm.sdk.argv import compile_argv, runner_argv
from farm.sdk.root import Sdk
from farm.stages.compile import dim_names
from farm.stages.workdir import Tree

#: Stands for the ending that makes the folders new: the one character that no argument can hold.
_FRESH = "\0"


def commands_text(
    job: Job, io: Mapping[str, Any], tree: Tree, input_files: Sequence[Path], sdk: Sdk, qid: int, python: Path
) -> str:
    """The file's text. python: the interpreter that has the farm and can export.

    Paths of the farm and the SDK are absolute, those of the job relative to the tree's folder.
    """
    model, qpc, outputs = (
        Path(f"repro-{name}-{tree.motif}-{_FRESH}")
        for name in ("model", "compiled-bin-fp16", "outputFiles-fp16")
    )
    compile_ = compile_argv(sdk, job.config, model / "model.onnx", dim_names(io), qpc)
    if job.route == "api":
        script = Path(farm.sdk.__file__).with_name("api_child.py")
        run = [str(sdk.python), str(script), _relative(tree, tree.api_request), str(qpc), str(outputs)]
    else:
        run = runner_argv(
            sdk,
            job.config,
            qpc=qpc,
            qid=qid,
            seconds=job.seconds,
            output_dir=outputs,
            batch_json=Path(_relative(tree, tree.batch_io)),
            input_files=[Path(_relative(tree, file)) for file in input_files],
            samples=output_samples(job),
        )
    make = _line(["mkdir", "-p", str(model), str(outputs)])
    lines = [make.replace('"$REPRO"', '"${REPRO:=$(mktemp -u XXXXXXXX)}"', 1)]
    if sdk.library_path is not None:
        library = shlex.quote(str(sdk.library_path))
        lines.append(f"export LD_LIBRARY_PATH={library}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}")
    lines += [_line(argv) for argv in (_export_argv(job, io, python, model), compile_, run)]
    return "\n".join([*lines, "unset REPRO"]) + "\n"


def output_samples(job: Job) -> int:
    """Inferences whose outputs the runner writes: one for each activation, so that each is verified.

    Of a fill-mask model, whose logits take up to 1 GB an inference, no more than two.
    """
    return min(job.config.instances, 2) if job.task == "fill-mask" else job.config.instances


def _line(argv: Sequence[str]) -> str:
    """The command as a shell reads it, with its fresh ending from the variable REPRO."""
    return " ".join(_word(argument) for argument in argv)


def _word(argument: str) -> str:
    before, fresh, after = argument.partition(_FRESH)
    if not fresh:
        return shlex.quote(argument)
    return shlex.quote(before) + '"$REPRO"' + (shlex.quote(after) if after else "")


def _export_argv(job: Job, io: Mapping[str, Any], python: Path, folder: Path) -> list[str]:
    revision = io.get("revision") or job.revision
    name = f"{job.model}@{revision}" if job.weights == "hub" and revision else job.model
    argv = [str(python), "-m", "farm", "export", "-m", name, "-t", job.task]
    argv += ["--opset", str(io.get("opset", job.opset)), "--seed", str(job.seed)]
    if job.weights == "random":
        argv += ["--weights", "random"]
    if job.trust_remote_code:
        argv.append("--trust-remote-code")
    return [*argv, str(folder)]


def _relative(tree: Tree, path: Path) -> str:
    return path.relative_to(tree.folder).as_posix()
