"""The compile stage: an ONNX file becomes a compiled program (QPC), or one clear error with its log."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.digest import digest
from farm.domain.errors import StageFailed
from farm.domain.job import CardConfiguration
from farm.sdk.argv import compile_argv
from farm.sdk.child import ChildSpec
from farm.sdk.errors_text import compiler_failure
from farm.sdk.launcher import Launcher
from farm.sdk.qpc import BadQpc, check_qpc
from farm.sdk.root import Sdk
from farm.stages.host import host_memory

#: What of a compile stage's ask shapes the program.
_KEYED = ("batch_size", "seq_length", "cores", "ols", "mos", "precision")
#: An encoder compiles in seconds to minutes; the longest seen takes eleven minutes (docs/sdk.md, "Cost").
LIMIT_S = 3600.0
IDLE_S = 600.0
#: The share of the host's memory one compiler may take before it is ended.
_MEMORY_SHARE = 0.8


def dim_names(io: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The graph's symbols of the batch and sequence axes, from its first input; None where one is fixed."""
    dims = [*io["inputs"][0]["dims"], None, None]
    batch, sequence = (dim if isinstance(dim, str) else None for dim in dims[:2])
    return batch, sequence


def compile_key(ask: Mapping[str, Any], onnx_digest: str, sdk: Sdk) -> str:
    """The artifact key: all that determines the program's bytes. Order of the extra flags does not."""
    asked = {name: ask[name] for name in _KEYED}
    tools = {
        "platform": sdk.platform,
        "program": sdk.compiler_program,
        "hw_version": sdk.hw_version,
        "version": sdk.version,
    }
    return "compile-" + digest(
        {"ask": {**asked, "extra": sorted(ask["extra"])}, "onnx": onnx_digest, **tools}
    )


def build_compile(
    ask: Mapping[str, Any],
    onnx: Path,
    dims: tuple[str | None, str | None],
    out: Path,
    launcher: Launcher,
    sdk: Sdk,
    log: Path,
    *,
    memory_bytes: int | None = None,
    limit_s: float | None = None,
) -> dict[str, Any]:
    """Compile into `out`/qpc, which must not exist, and return the facts of the artifact.

    memory_bytes, limit_s: what the compiler may take; None: most of the host's memory, LIMIT_S seconds.
    The compiler's temporary files stay below `out` and are removed. Raises StageFailed.
    """
    out.mkdir(parents=True, exist_ok=True)
    qpc, scratch = out / "qpc", out / "tmp"
    if qpc.exists():
        raise StageFailed("host", f"{qpc} exists already; the compiler needs a new folder", str(log))
    scratch.mkdir(exist_ok=True)
    config = CardConfiguration(
        batch_size=ask["batch_size"],
        seq_length=ask["seq_length"],
        cores=ask["cores"],
        instances=1,
        set_size=1,
        ols=ask["ols"],
        mos=ask["mos"],
        extra=tuple(ask["extra"]),
    )
    spec = ChildSpec(
        argv=compile_argv(sdk, config, onnx.absolute(), dims, qpc.absolute()),
        cwd=scratch,
        log=log,
        limit_s=limit_s or LIMIT_S,
        env=sdk.environment(TMPDIR=str(scratch.absolute())),
        idle_s=IDLE_S,
        memory_bytes=memory_bytes or int(host_memory() * _MEMORY_SHARE),
    )
    try:
        result = launcher.run(spec)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not result.ok:
        raise compiler_failure(result)
    try:
        size = check_qpc(qpc)
    except BadQpc as error:
        raise StageFailed(
            "host", f"the compiler ended well but left no program: {error}", str(log)
        ) from error
    return {
        "program": sdk.compiler_program,
        "seconds": result.seconds,
        "peak_rss_bytes": result.peak_rss_bytes,
        "sdk_version": sdk.version,
        "platform": sdk.platform,
        "qpc_bytes": size,
    }
