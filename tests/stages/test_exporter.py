"""The warm child as its user sees it: started once, replaced when worn, its death told from its failures.

The child here is a small program that speaks the exporter's protocol; the real one is in test_export.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import StageFailed
from farm.sdk.child import Child, ChildSpec
from farm.stages.exporter import Exporter, ExportFailed

STAND_IN = """
import json, os, signal, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[1]))
for line in channel.makefile():
    request = json.loads(line)
    print("noise on stdout that must not disturb the answers")
    does = request["does"]
    if does == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "leave":
        sys.exit(0)
    if does == "hang":
        time.sleep(600)
    answer = {"rss_bytes": request.get("rss", 0)}
    if does == "env":
        answer["facts"] = dict(os.environ)
    elif does == "fail":
        answer |= {"kind": request["kind"], "error": "one line", "needs_opset": 14}
    else:
        answer["facts"] = {"pid": os.getpid()}
    channel.sendall(json.dumps(answer).encode() + b"\\n")
    if does == "answer and die":
        os._exit(0)
"""


class Starter:
    """Starts the stand-in in the real child's place, and remembers each."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def __call__(self, spec: ChildSpec, fd: int) -> Child:
        spec = replace(spec, argv=[sys.executable, "-c", STAND_IN, str(fd)])
        self.children.append(Child(spec, pass_fds=(fd,)))
        return self.children[-1]


@pytest.fixture
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    for child in starter.children:
        child.stop(grace_s=0)
        while child.wait() is None:
            pass


def _request(does: str = "work", **more: Any) -> dict[str, Any]:
    return {"does": does, "trust_remote_code": False, **more}


def test_one_child_serves_many_and_wears_out(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter, max_exports=3) as exporter:
        pids = [exporter.export(_request(), tmp_path / "log")["pid"] for _ in range(7)]
    assert pids == [pids[0]] * 3 + [pids[3]] * 3 + [pids[6]]
    assert len(set(pids)) == 3
    assert all(child.done() is not None for child in starter.children), "closed with the exporter"
    assert "noise" in (tmp_path / "log").read_text()


def test_a_child_that_keeps_too_much_memory_is_replaced(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter, max_rss_bytes=100) as exporter:
        first = exporter.export(_request(rss=101), tmp_path / "log")
        second = exporter.export(_request(rss=100), tmp_path / "log")
        third = exporter.export(_request(), tmp_path / "log")
    assert first != second
    assert second == third


def test_a_models_own_code_gets_a_child_of_its_own(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter) as exporter:
        pids = [
            exporter.export(_request() | {"trust_remote_code": trust}, tmp_path / "log")["pid"]
            for trust in (False, True, False)
        ]
    assert len(set(pids)) == 3


def test_a_failed_export_leaves_the_child_in_use(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter) as exporter:
        before = exporter.export(_request(), tmp_path / "log")
        with pytest.raises(ExportFailed, match="one line") as caught:
            exporter.export(_request("fail", kind="input"), tmp_path / "log")
        assert caught.value.kind == "input"
        assert caught.value.needs_opset == 14
        assert caught.value.log == str(tmp_path / "log")
        with pytest.raises(StageFailed) as full:
            exporter.export(_request("fail", kind="host"), tmp_path / "log")
        assert full.value.kind == "host"
        assert exporter.export(_request(), tmp_path / "log") == before


@pytest.mark.parametrize(("does", "says"), [("die", "signal 9"), ("leave", "without an answer")])
def test_a_lost_child_is_the_hosts_fault_and_the_next_export_works(
    starter: Starter, tmp_path: Path, does: str, says: str
) -> None:
    with Exporter(starter) as exporter:
        with pytest.raises(StageFailed, match=says) as caught:
            exporter.export(_request(does), tmp_path / "log")
        assert caught.value.kind == "host"
        exporter.export(_request(), tmp_path / "log")


def test_a_child_that_died_between_two_exports_costs_nothing(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter) as exporter:
        exporter.export(_request("answer and die"), tmp_path / "log")
        assert starter.children[0].wait(20) is not None
        exporter.export(_request(), tmp_path / "log")
    assert len(starter.children) == 2


def test_an_endless_export_is_ended_at_its_limit(starter: Starter, tmp_path: Path) -> None:
    with Exporter(starter, limit_s=0.2) as exporter:
        with pytest.raises(StageFailed, match="longer than its limit of 0 s") as caught:
            exporter.export(_request("hang"), tmp_path / "log")
        assert caught.value.kind == "input"
    result = starter.children[0].done()
    assert result is not None
    assert result.ended == "limit"


def test_a_child_somebody_else_guards_ends_with_its_channel(starter: Starter, tmp_path: Path) -> None:
    def start(spec: ChildSpec, fd: int) -> None:
        starter(spec, fd)

    with Exporter(start) as exporter:
        exporter.export(_request(), tmp_path / "log")
        with pytest.raises(StageFailed, match="without an answer"):
            exporter.export(_request("die"), tmp_path / "log")
        exporter.export(_request(), tmp_path / "log")
    assert starter.children[1].wait(20) is not None


def test_no_secret_reaches_the_child(
    starter: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_opensesame")
    monkeypatch.setenv("FARM_REDIS_URL", "redis://:opensesame@host/0")
    with Exporter(starter) as exporter:
        env = exporter.export(_request("env"), tmp_path / "log")
        trusted = exporter.export(_request("env") | {"trust_remote_code": True}, tmp_path / "log")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in trusted
    for seen in (env, trusted):
        assert "opensesame" not in json.dumps(seen)
    assert os.environ["HF_TOKEN"] == "hf_opensesame"
