"""The commands file of a job on hostile ground, read by a real shell: each argument arrives as meant."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.domain.job import CardConfiguration
from farm.domain.names import split_model
from farm.domain.options import split_extra
from farm.sdk.extra import check_extra
from farm.sdk.root import Sdk
from farm.stages.commands import commands_text
from farm.stages.workdir import tree
from tests.hostile import CONTROLS, SYNTAX, TEXTS, damaged
from tests.stages.conftest import job
from tests.stages.small_model import FACTS

#: Says what it was called with, a NUL after each word and two after the last.
TOOL = '#!/bin/sh\nprintf \'%s\\0\' "$0" "$@" \'\' >> "$CALLS"\n'
#: A folder's name: whatever a file system takes that can be said in UTF-8.
FOLDERS = (
    st.lists(CONTROLS | SYNTAX | st.sampled_from(["a", "$HOME", "\\\n", "!!", "é"]), max_size=5)
    .map("".join)
    .map(lambda name: "x" + re.sub(r"[/\x00\udcff]", "_", name))
)
EXTRAS = TEXTS | damaged("-mxfp6-matmul -stats-level=70 -vtcm-working-set-limit-ratio=0.25")


def sdk_at(root: Path, library: bool) -> Sdk:
    """An SDK whose tools only say what they were called with."""
    tools = {
        name: root / name for name in ("exec/qaic-exec", "exec/qaic-runner", "tools/qaic-util", "python")
    }
    for tool in tools.values():
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(TOOL)
        tool.chmod(0o755)
    lib = root / "lib"
    lib.mkdir()
    if library:
        (lib / "libQAic.so").touch()
    program: Literal["qaic-exec"] = "qaic-exec"
    return Sdk(
        root=root, platform="emulated", timing="measured", version="1", versions={},
        compiler=tools["exec/qaic-exec"], compiler_program=program, hw_version="2.0",
        runner=tools["exec/qaic-runner"], batch_json=True, util=tools["tools/qaic-util"], lib_dir=lib,
        python=tools["python"], python_reason=None,
    )  # fmt: skip


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=settings().max_examples // 4,
)
@given(
    folder=FOLDERS, extra=EXTRAS, name=TEXTS, route=st.sampled_from(["runner", "api"]), library=st.booleans()
)
def test_every_argument_arrives_and_nothing_else_is_run(
    tmp_path: Path, folder: str, extra: str, name: str, route: Any, library: bool
) -> None:
    ground = tmp_path / "ground"
    shutil.rmtree(ground, ignore_errors=True)
    try:
        flags = check_extra(split_extra(extra))
    except BadInput:
        flags = ("-v",)
    try:
        model = split_model(name)[1]
    except BadInput:
        model = "/data/a model, 50%"
    sdk = sdk_at(ground / folder / "sdk", library)
    work = tree(ground / folder / "work", job(model=model))
    asked = job(model=model, route=route, config=CardConfiguration(2, 16, 2, 1, 1, extra=flags))
    work.folder.mkdir(parents=True)
    files = [work.inputs / "input_ids_2x16.raw"]
    assert sdk.python is not None
    text = commands_text(asked, FACTS, work, files, sdk, 3, sdk.python)
    calls = ground / "calls"
    done = subprocess.run(
        ["/bin/sh", "-eu"], input=text.encode(), cwd=work.folder, capture_output=True, timeout=30,
        check=False, env={"PATH": "/usr/bin:/bin", "CALLS": str(calls), "HOME": "/"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    said = [call.split("\0") for call in calls.read_bytes().decode().removesuffix("\0\0").split("\0\0")]
    exporter, compiler, run = said
    assert exporter[:6] == [str(sdk.python), "-m", "farm", "export", "-m", model]
    assert compiler[0] == str(sdk.compiler)
    assert compiler[len(compiler) - len(flags) :] == list(flags)
    assert run[0] == str(sdk.python if route == "api" else sdk.runner)
    # What there is now is what the commands were to make: two folders of their own, and nothing besides.
    made = {re.sub(r"-[^-]+$", "", path.name) for path in work.folder.iterdir()}
    assert made == {f"repro-model-{work.motif}", f"repro-outputFiles-fp16-{work.motif}"}
    assert sorted(path.name for path in ground.iterdir()) == sorted(["calls", folder])
