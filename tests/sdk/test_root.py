"""Finding and probing an SDK root: a root of little executables, and the emulated ones."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from farm.domain.errors import BadInput
from farm.emulator import write_root
from farm.sdk.devices import query
from farm.sdk.root import find_root, open_sdk

LIB = f"dev/lib/{platform.machine()}"


def tool(root: Path, name: str, script: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An old SDK's root: qaic-exec, a runner without batch JSON, no version files."""
    tool(tmp_path, "exec/qaic-exec", "echo '-aic-hw-version=<2.0>'; exit 255")
    tool(tmp_path, "exec/qaic-runner", "echo '-i, --input-file'")
    tool(tmp_path, "tools/qaic-util", "echo QID 3; echo '\tStatus:Error'")
    return tmp_path


def test_an_old_root(bare: Path) -> None:
    sdk = open_sdk(bare)
    assert (sdk.platform, sdk.timing) == ("aic100", "measured")
    assert (sdk.compiler_program, sdk.hw_version, sdk.batch_json) == ("qaic-exec", "2.0", False)
    assert sdk.python is None
    assert "no qaicrt module" in (sdk.python_reason or "")
    assert sdk.version.startswith("sha256:")
    assert [(card.qid, card.ready) for card in query(sdk)] == [(3, False)]


def test_a_new_root(bare: Path) -> None:
    tool(bare, "exec/qaic-compile", "echo '-aic-hw-version=<value> 2.0, ai100, ai200' >&2")
    tool(bare, "exec/qaic-runner", "echo '  --aic-batch-json-input FILE'")
    (bare / "versions").mkdir()
    xml = "<v><base_version>1.21</base_version><build_id>6</build_id></v>"
    (bare / "versions/apps.xml").write_text(xml)
    sdk = open_sdk(bare)
    assert (sdk.compiler_program, sdk.hw_version, sdk.batch_json) == ("qaic-compile", "ai100", True)
    assert (sdk.version, dict(sdk.versions)) == ("1.21.6", {"apps": "1.21.6"})


def test_versions_from_the_tool(bare: Path) -> None:
    tool(bare, "tools/qaic-version-util", "echo platform:AIC.1.6.80; echo apps:not found")
    assert open_sdk(bare).version == "1.6.80"


@pytest.mark.parametrize("missing", ["exec/qaic-exec", "exec/qaic-runner", "tools/qaic-util"])
def test_a_missing_tool_is_named_with_the_way_out(bare: Path, missing: str) -> None:
    (bare / missing).unlink()
    with pytest.raises(BadInput, match=rf"{missing} .* farm up --emulate"):
        open_sdk(bare)


def test_a_tool_whose_help_hangs_is_given_up(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.sdk.root._HELP_S", 0.3)
    tool(bare, "exec/qaic-runner", "exec sleep 60")
    with pytest.raises(BadInput, match="qaic-runner -h: no answer"):
        open_sdk(bare)


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("exec/qaic-runner", "echo 'libQAic.so: cannot open' >&2; exit 127", r"status 127 .*cannot open"),
        ("exec/qaic-exec", "exit 0", r"status 0 .*no output"),
        ("exec/qaic-exec", "kill -11 $$", "signal 11"),
    ],
)
def test_a_tool_whose_help_names_no_option_is_refused(bare: Path, name: str, script: str, says: str) -> None:
    tool(bare, name, script)
    with pytest.raises(BadInput, match=rf"{name} -h ended with {says}.*LD_LIBRARY_PATH") as caught:
        open_sdk(bare)
    assert "\n" not in str(caught.value)


def test_the_tools_are_asked_in_the_sdks_environment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    (bare / LIB).mkdir(parents=True)
    (bare / LIB / "libQAic.so").write_text("")
    for number, (name, says) in enumerate(
        [
            ("exec/qaic-exec", "-aic-hw"),
            ("exec/qaic-runner", "--set-size"),
            ("tools/qaic-version-util", "apps:AIC.1.2.3"),
        ]
    ):
        tool(bare, name, f'echo "$LD_LIBRARY_PATH $HF_TOKEN" > {bare}/environment-{number}; echo "{says}"')
    assert open_sdk(bare).version == "1.2.3"
    for number in range(3):
        assert (bare / f"environment-{number}").read_text() == f"{bare / LIB}:/mine \n"


def test_help_is_asked_once(bare: Path) -> None:
    tool(bare, "exec/qaic-runner", f"echo asked >> {bare}/calls; echo '--set-size N'")
    open_sdk(bare)
    open_sdk(bare)
    assert (bare / "calls").read_text() == "asked\n"


def test_the_interpreter(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = bare / LIB
    lib.mkdir(parents=True)
    module = lib / "qaicrt.cpython-42-x86_64-linux-gnu.so"
    module.write_text("")
    assert open_sdk(bare).python is None
    assert "python4.2" in (open_sdk(bare).python_reason or "")
    bin_dir = bare / "bin"
    tool(bare, "bin/python4.2", "true")
    monkeypatch.setenv("PATH", str(bin_dir), prepend=":")
    assert open_sdk(bare).python == bin_dir / "python4.2"
    module.rename(lib / "qaicrt.cpython-{}{}-x86_64-linux-gnu.so".format(*sys.version_info[:2]))
    assert open_sdk(bare).python == Path(sys.executable)
    tool(bare, "dev/python/qaic-env/bin/python", "true")
    assert open_sdk(bare).python == bare / "dev/python/qaic-env/bin/python"
    monkeypatch.setenv("FARM_SDK_PYTHON", "python4.2")
    assert open_sdk(bare).python == bin_dir / "python4.2"
    monkeypatch.setenv("FARM_SDK_PYTHON", "/no/such/python")
    with pytest.raises(BadInput, match="FARM_SDK_PYTHON=/no/such/python"):
        open_sdk(bare)


def test_the_environment_of_the_tools(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("FARM_REDIS_URL", "redis://:secret@localhost")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    assert open_sdk(bare).environment(TMPDIR="/t")["TMPDIR"] == "/t"
    assert "secret" not in str(open_sdk(bare).environment())
    assert open_sdk(bare).environment()["LD_LIBRARY_PATH"] == "/mine"
    (bare / LIB).mkdir(parents=True)
    (bare / LIB / "libQAic.so").write_text("")
    assert open_sdk(bare).environment()["LD_LIBRARY_PATH"] == f"{bare / LIB}:/mine"


@pytest.mark.parametrize("text", ["{", "[]", '{"timing": "guessed"}'])
def test_a_broken_marker(bare: Path, text: str) -> None:
    (bare / "emulator.json").write_text(text)
    with pytest.raises(BadInput):
        open_sdk(bare)


def test_which_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_SDK_ROOT", str(tmp_path))
    assert find_root() == tmp_path
    with pytest.raises(BadInput, match=r"no such folder.*farm up --emulate"):
        find_root(tmp_path / "missing")


@pytest.mark.parametrize(
    ("profile", "program", "hw_version", "batch_json"),
    [("1.12", "qaic-exec", "2.0", False), ("1.21", "qaic-compile", "ai100", True)],
)
def test_the_emulated_roots(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    program: str,
    hw_version: str,
    batch_json: bool,
) -> None:
    write_root(tmp_path / "root", cards=2, timing="modelled", sdk=profile)
    sdk = open_sdk(tmp_path / "root")
    assert (sdk.platform, sdk.timing) == ("emulated", "modelled")
    assert (sdk.compiler_program, sdk.hw_version, sdk.batch_json) == (program, hw_version, batch_json)
    assert sdk.version.startswith(profile)
    assert sdk.python is not None
    cards = query(sdk)
    assert [card.qid for card in cards] == [0, 1]
    assert all(card.ready and card.nsp_free == card.nsp_total for card in cards)
    assert query(sdk, [1])[0].pci_address == cards[1].pci_address
    monkeypatch.setenv("AIC_EMULATOR_TIMING", "measured")
    assert open_sdk(tmp_path / "root").timing == "measured"
