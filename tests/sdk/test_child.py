"""A child and its limits, with real processes."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import psutil
import pytest

from farm.domain.errors import StageFailed
from farm.sdk.child import Child, ChildResult, ChildSpec, run_child
from farm.sdk.tree import MARK


def spec(tmp_path: Path, code: str, **limits: float | dict[str, str] | None) -> ChildSpec:
    values: dict[str, object] = {"limit_s": 30.0, **limits}
    return ChildSpec([sys.executable, "-S", "-c", code], tmp_path, tmp_path / "log", **values)  # type: ignore[arg-type]


def until_log(child: Child, text: str) -> str:
    """The child's log once it holds `text`; fails after 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        content = child.spec.log.read_text()
        if text in content:
            return content
        assert child.wait(0.05) is None, content
    raise AssertionError(f"{text!r} never came: {child.spec.log.read_text()!r}")


def to_the_end(child: Child) -> ChildResult:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (result := child.wait(0.1)) is not None:
            return result
    raise AssertionError("the child did not end")


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_output_and_status_are_kept(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); print(sys.stdin.read()); sys.exit(7)"
    result = run_child(spec(tmp_path, code))
    assert (result.returncode, result.signal, result.ended, result.ok) == (7, None, "exit", False)
    assert {"out", "err"} <= set(result.log.read_text().split())
    assert 0 < result.seconds < 30
    assert result.peak_rss_bytes > 2**20


def test_a_signal_is_told(tmp_path: Path) -> None:
    result = run_child(spec(tmp_path, "import os; os.kill(os.getpid(), 11)"))
    assert (result.returncode, result.signal, result.ended) == (None, 11, "exit")


def test_nothing_goes_through_a_shell(tmp_path: Path) -> None:
    hostile = "$(touch pwned); `touch pwned` && touch pwned"
    argv = [sys.executable, "-S", "-c", "import sys; print(sys.argv[1])", hostile]
    result = run_child(ChildSpec(argv, tmp_path, tmp_path / "log", 30))
    assert result.log.read_text() == hostile + "\n"
    assert not (tmp_path / "pwned").exists()


def test_a_missing_program_is_one_clear_failure(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="cannot start /nowhere/tool: ") as caught:
        Child(ChildSpec(["/nowhere/tool"], tmp_path, tmp_path / "log", 30))
    assert caught.value.kind == "host"


def test_the_time_limit_ends_it(tmp_path: Path) -> None:
    result = run_child(spec(tmp_path, "import time; time.sleep(60)", limit_s=0.3))
    assert (result.ended, result.signal) == ("limit", 15)
    assert result.seconds < 10


def test_a_child_whose_log_is_removed_goes_on(tmp_path: Path) -> None:
    code = "import pathlib, sys, time; pathlib.Path('log').unlink(); time.sleep(1); sys.exit(3)"
    result = run_child(spec(tmp_path, code))
    assert (result.ended, result.returncode) == ("exit", 3)


def test_a_silent_idle_child_is_ended_and_a_busy_one_is_not(tmp_path: Path) -> None:
    assert run_child(spec(tmp_path, "import time; time.sleep(60)", idle_s=0.6)).ended == "idle"
    busy = "import time\nend = time.time() + 3\nwhile time.time() < end: pass"
    assert run_child(spec(tmp_path, busy, idle_s=2.5)).ended == "exit"
    talking = "import time\nfor _ in range(15): print('.', flush=True); time.sleep(0.2)"
    assert run_child(spec(tmp_path, talking, idle_s=2.5)).ended == "exit"


def test_the_memory_of_the_whole_tree_is_capped(tmp_path: Path) -> None:
    hog = "import time; b = bytearray(160 * 2**20); b[::4096] = b'x' * len(b[::4096]); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {hog!r}])"
    result = run_child(spec(tmp_path, code, memory_bytes=100 * 2**20))
    assert result.ended == "memory"
    assert result.peak_rss_bytes > 100 * 2**20


def test_one_that_ignores_term_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child(spec(tmp_path, code))
    until_log(child, "up")
    child.stop(grace_s=0.4)
    result = to_the_end(child)
    assert (result.ended, result.signal) == ("stopped", 9)
    assert result.survivors == ()


def test_stop_does_not_wait(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child(spec(tmp_path, code))
    until_log(child, "up")
    started = time.monotonic()
    child.stop(grace_s=60)
    assert time.monotonic() - started < 30
    assert child.done() is None
    os.kill(child.pid, 9)
    assert to_the_end(child).ended == "stopped"


ESCAPES = """
import os, sys, time
ready, up = os.pipe()
if os.fork() == 0:            # leaves the session and loses its parent: adopted by init
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(15, signal.SIG_IGN)
        print('grandchild', os.getpid(), flush=True)
        os.write(up, b'x')
        time.sleep(60)
    os._exit(0)
os.wait()
os.read(ready, 1)
"""


def test_descendants_that_left_the_session_are_ended_too(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, ESCAPES + "time.sleep(60)"))
    pid = int(until_log(child, "grandchild").split()[-1])
    assert os.getsid(pid) != child.pid
    child.stop(grace_s=0.3)
    assert to_the_end(child).ended == "stopped"
    assert gone(pid)


def test_left_overs_of_a_child_that_ended_by_itself_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.sdk.child.GRACE_S", 0.3)
    child = Child(spec(tmp_path, ESCAPES + "sys.exit(3)"))
    result = to_the_end(child)
    pid = int(result.log.read_text().split()[-1])
    assert (result.returncode, result.ended) == (3, "exit")
    assert gone(pid)


def test_a_strangers_process_is_never_touched(tmp_path: Path) -> None:
    stranger = Child(spec(tmp_path, "import time; print('up', flush=True); time.sleep(60)"))
    until_log(stranger, "up")
    other = tmp_path / "other"
    other.mkdir()
    child = Child(spec(other, "import time; time.sleep(60)"))
    child.stop(grace_s=0)
    to_the_end(child)
    assert stranger.wait(0.05) is None
    stranger.stop(grace_s=0)
    to_the_end(stranger)


def test_an_inherited_mark_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "ours")
    child = Child(spec(tmp_path, "import os; print(os.environ['FARM_CHILD_MARK'])"))
    assert child.mark != "ours"
    assert to_the_end(child).log.read_text().strip() == child.mark


def test_a_select_loop_can_wait_for_it(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, "import time; time.sleep(0.2)"))
    readable, _, _ = select.select([child], [], [], 20)
    assert readable == [child]
    child.check()
    assert child.done() is not None


def test_cancelling_stops_it(tmp_path: Path) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 1

    result = run_child(spec(tmp_path, "import time; time.sleep(60)"), cancelled=cancelled)
    assert result.ended == "stopped"


def test_descriptors_are_passed_on(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        run_child(spec(tmp_path, f"import os; os.write({write}, b'hello')"), pass_fds=(write,))
        assert os.read(read, 10) == b"hello"
    finally:
        os.close(read)
        os.close(write)
