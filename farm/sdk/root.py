"""Find an SDK root and probe, once, what its tools can do."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform as machine
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from farm.domain.errors import BadInput, StageFailed
from farm.sdk.ask import ask
from farm.sdk.versions import PARTS, parse_version_util, parse_version_xml

DEFAULT_ROOT = Path("/opt/qti-aic")
#: The file that marks an emulated root.
MARKER = "emulator.json"

Platform = Literal["aic100", "emulated"]
Timing = Literal["measured", "modelled"]

_HELP_S = 30.0
_MAX_SAID = 200
#: Options of which a tool's help names at least one, whatever the SDK's version.
_COMPILER_OPTIONS = ("-aic-hw", "-aic-binary-dir", "-aic-num-cores")
_RUNNER_OPTIONS = ("--test-data", "--input-file", "--set-size", "--aic-batch-json-input")
_TAG = re.compile(r"\.cpython-(\d)(\d+)-")
#: Never handed to a tool: tokens, and the addresses of Redis, which may carry a password.
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "FARM_REDIS_URL", "FARM_BROKER_URL")


@dataclass(frozen=True)
class Sdk:
    """An SDK root and what its tools can do.

    versions: of the parts "apps" and "platform", as far as known. hw_version: how this compiler spells the
    card (`-aic-hw-version`). batch_json: the runner knows --aic-batch-json-input. python: the interpreter
    that can import qaicrt, else None and python_reason says why. library: lib_dir where the tools' own
    libraries are, to go into LD_LIBRARY_PATH.
    """

    root: Path
    platform: Platform
    timing: Timing
    version: str
    versions: Mapping[str, str] = field(hash=False)
    compiler: Path
    compiler_program: Literal["qaic-compile", "qaic-exec"]
    hw_version: str
    runner: Path
    batch_json: bool
    util: Path
    lib_dir: Path
    python: Path | None
    python_reason: str | None

    @property
    def library_path(self) -> Path | None:
        """What the tools need in LD_LIBRARY_PATH, None where lib_dir holds no such library."""
        return _library_path(self.lib_dir)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment for the SDK's tools: this process's less its secrets, and `more`."""
        return {**_environment(self.library_path), **more}


def find_root(explicit: Path | None = None) -> Path:
    """The SDK root to use: `explicit`, else FARM_SDK_ROOT, else /opt/qti-aic.

    Raises BadInput where it is no folder.
    """
    chosen = os.environ.get("FARM_SDK_ROOT")
    root = explicit or (Path(chosen) if chosen else DEFAULT_ROOT)
    if not root.is_dir():
        raise BadInput(f"SDK root {root}: no such folder; set FARM_SDK_ROOT, or emulate: farm up --emulate")
    return root.absolute()


def open_sdk(root: Path) -> Sdk:
    """Probe the root: its files, versions and what the tools' help offers (asked once per process).

    Raises BadInput naming the piece that is missing.
    """
    modern = root / "exec/qaic-compile"
    compiler = modern if modern.exists() else root / "exec/qaic-exec"
    runner, util = root / "exec/qaic-runner", root / "tools/qaic-util"
    for tool, use in ((compiler, "the compiler"), (runner, "the runner"), (util, "the card query tool")):
        if not os.access(tool, os.X_OK) or tool.is_dir():
            raise BadInput(
                f"SDK root {root}: {tool.relative_to(root)} ({use}) is missing or not executable; "
                "install the SDK or emulate: farm up --emulate"
            )
    marker = _read_marker(root)
    lib_dir = _lib_dir(root)
    python, reason = _find_python(root, lib_dir)
    versions = _versions(root, lib_dir)
    return Sdk(
        root=root,
        platform="aic100" if marker is None else "emulated",
        timing=_timing(marker),
        version=versions.get("apps") or versions.get("platform") or _digest(compiler),
        versions=MappingProxyType(versions),
        compiler=compiler,
        compiler_program="qaic-compile" if compiler == modern else "qaic-exec",
        hw_version="ai100" if re.search(r"\bai100\b", _help(compiler, lib_dir, _COMPILER_OPTIONS)) else "2.0",
        runner=runner,
        batch_json="aic-batch-json-input" in _help(runner, lib_dir, _RUNNER_OPTIONS),
        util=util,
        lib_dir=lib_dir,
        python=python,
        python_reason=reason,
    )


def _read_marker(root: Path) -> dict[str, object] | None:
    path = root / MARKER
    try:
        marker = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}; write the root again: farm emulator init") from error
    if not isinstance(marker, dict):
        raise BadInput(f"{path}: not a JSON object; write the root again: farm emulator init")
    return marker


def _timing(marker: dict[str, object] | None) -> Timing:
    if marker is None:
        return "measured"
    timing = os.environ.get("AIC_EMULATOR_TIMING") or marker.get("timing", "measured")
    if timing == "measured":
        return "measured"
    if timing == "modelled":
        return "modelled"
    raise BadInput(f"timing {timing!r} of the emulated SDK: allowed are measured and modelled")


def _library_path(lib_dir: Path) -> Path | None:
    return lib_dir if (lib_dir / "libQAic.so").exists() else None


def _environment(library_path: Path | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    if library_path is not None:
        paths = [str(library_path), env.get("LD_LIBRARY_PATH", "")]
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return env


@functools.cache
def _help(tool: Path, lib_dir: Path, options: tuple[str, ...]) -> str:
    """What `tool -h` prints, which must name one of `options`: anything else tells nothing about the SDK.

    The exit status alone means nothing (docs/sdk.md: 0 for one tool, 255 for another).
    """
    try:
        answer = ask([str(tool), "-h"], _HELP_S, _environment(_library_path(lib_dir)))
    except StageFailed as error:
        raise BadInput(f"{tool}: {error}") from error
    if answer.result.ended != "exit":
        raise BadInput(f"{tool} -h: no answer within {_HELP_S:.0f} s; is the SDK installed for this host?")
    if not any(option in answer.text for option in options):
        result = answer.result
        how = f"signal {result.signal}" if result.signal else f"status {result.returncode}"
        said = next(
            (line.strip() for line in reversed(answer.text.splitlines()) if line.strip()), "no output"
        )
        raise BadInput(
            f"{tool} -h ended with {how} and names none of its options ({said[:_MAX_SAID]}); "
            f"see that it starts by hand: its libraries are looked for in {lib_dir} and LD_LIBRARY_PATH"
        )
    return answer.text


def _versions(root: Path, lib_dir: Path) -> dict[str, str]:
    found = {}
    for part in PARTS:
        path = root / "versions" / f"{part}.xml"
        if path.is_file() and (version := parse_version_xml(path.read_text(errors="replace"))):
            found[part] = version
    return found or dict(_ask_versions(root / "tools/qaic-version-util", lib_dir))


@functools.cache
def _ask_versions(tool: Path, lib_dir: Path) -> tuple[tuple[str, str], ...]:
    if not os.access(tool, os.X_OK):
        return ()
    try:
        answer = ask([str(tool)], _HELP_S, _environment(_library_path(lib_dir)))
        return tuple(parse_version_util(answer.text).items())
    except StageFailed:
        return ()  # a version tool that does not start tells no version; the compiler's digest does


@functools.cache
def _digest(compiler: Path) -> str:
    """What stands for the version of an SDK that tells none: the compiler's own bytes."""
    digest = hashlib.sha256()
    with compiler.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()[:12]}"


def _lib_dir(root: Path) -> Path:
    own = root / "dev/lib" / machine.machine()
    return own if own.is_dir() else root / "dev/lib/x86_64"


def _find_python(root: Path, lib_dir: Path) -> tuple[Path | None, str | None]:
    if chosen := os.environ.get("FARM_SDK_PYTHON"):
        found = shutil.which(chosen)
        if found is None:
            raise BadInput(f"FARM_SDK_PYTHON={chosen}: no such interpreter")
        return Path(found), None
    shipped = root / "dev/python/qaic-env/bin/python"
    if os.access(shipped, os.X_OK):
        return shipped, None
    modules = sorted(lib_dir.glob("qaicrt*.so")) or sorted(lib_dir.glob("qaicrt.py"))
    if not modules:
        return None, f"no qaicrt module in {lib_dir}"
    tag = _TAG.search(modules[-1].name)
    if tag is None or (int(tag[1]), int(tag[2])) == sys.version_info[:2]:
        return Path(sys.executable), None
    name = f"python{tag[1]}.{tag[2]}"
    interpreter = shutil.which(name)
    if interpreter is None:
        return None, f"{modules[-1].name} needs {name}, which is not installed; set FARM_SDK_PYTHON"
    return Path(interpreter), None
