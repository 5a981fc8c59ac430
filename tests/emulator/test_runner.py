"""qaic-runner of an emulated root, as a process: what it accepts, prints, writes, refuses and gives back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.emulator import write_root
from farm.emulator.runtime import qpc as containers
from farm.emulator.runtime.card import Cards
from tests.emulator.emulated import LIMIT_S, call, write_scenario
from tests.emulator.programs import BATCH, compile_to, element, reference, two_outputs, write_inputs
from tests.emulator.test_profile import read

STATS = re.compile(r"^InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec (\d+\.\d{3})$", re.M)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runner") / "root"
    write_root(directory, cards=2)
    return directory


@pytest.fixture(scope="module")
def old_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runner-112") / "root"
    write_root(directory, cards=1, sdk="1.12")
    return directory


@pytest.fixture(scope="module")
def qpc(root: Path) -> Path:
    return compile_to(root, root.parent / "qpc", two_outputs())


class Runner:
    """qaic-runner of one root, with a program, in a folder of its own."""

    def __init__(self, root: Path, qpc: Path, folder: Path) -> None:
        self.tool = root / "exec" / "qaic-runner"
        self.qpc = qpc
        self.folder = folder
        self.batch = write_inputs(folder / "inputs", 2)
        (folder / "out").mkdir()

    def __call__(self, *arguments: str, scenario: Path | None = None) -> subprocess.CompletedProcess[str]:
        return call(self.tool, "-t", str(self.qpc), *arguments, cwd=self.folder, scenario=scenario)

    def full(
        self, *more: str, scenario: Path | None = None, count: int = 30
    ) -> subprocess.CompletedProcess[str]:
        """A run with inputs, outputs and latency files in out/."""
        return self(
            *("-d", "0", "-a", "2", "-S", "2", "-n", str(count)),
            *("--aic-batch-json-input", str(self.batch), "-write-output-dir", "out"),
            *("--aic-profiling-type", "latency", "--aic-profiling-num-samples", "99999"),
            *("--aic-profiling-out-dir", "out", *more),
            scenario=scenario,
        )

    def fault(self, name: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
        """A full run under one fault of the runner."""
        rule = {"tool": "qaic-runner", "fault": name, **parameters}
        return self.full(scenario=write_scenario(self.folder / "scenario.json", rule))

    def latency_files(self) -> list[Path]:
        return sorted((self.folder / "out").glob("*latency.txt"))

    def output(self, name: str, number: int = 0) -> Any:
        return np.fromfile(self.folder / "out" / f"{name}-activation-0-inf-{number}.bin", np.float32)


@pytest.fixture
def runner(root: Path, qpc: Path, tmp_path: Path) -> Runner:
    return Runner(root, qpc, tmp_path)


def stats(ran: subprocess.CompletedProcess[str]) -> tuple[int, int, int, str]:
    """Count, microseconds, batch size and the printed rate."""
    assert ran.returncode == 0, ran.stderr
    (found,) = STATS.findall(ran.stdout)
    return int(found[0]), int(found[1]), int(found[2]), found[3]


def test_the_rate_is_that_of_the_formula(runner: Runner) -> None:
    count, duration, batch, rate = stats(runner.full())
    assert (count, batch) == (30, BATCH)
    assert rate == f"{count * batch * 1e6 / duration:.3f}"


def test_lines_come_in_the_documented_order(runner: Runner) -> None:
    lines = runner.full().stdout.splitlines()
    start = lines.index(" ---- Stats ----")
    assert lines[0] == "Number of Files(as per batch input):2"
    assert STATS.match(lines[start + 1])
    assert lines[-2:] == [f"Writing file:out/aic-profiling-program-{n}-latency.txt" for n in (1, 2)]


def test_outputs_are_those_of_the_network_in_half_precision(runner: Runner) -> None:
    runner.full("--write-output-num-samples=2")
    for number in range(2):
        expected = reference(two_outputs(), element(number))
        for name, values in expected.items():
            found = runner.output(name.replace("/", "_"), number)
            assert found.size == values.size
            assert np.abs(found - values.ravel()).max() < 5e-3
            assert found.tobytes() != values.tobytes()  # rounded to 16 bits on the way


def test_only_the_first_inference_is_written_unless_asked(runner: Runner) -> None:
    runner.full()
    names = {path.name for path in (runner.folder / "out").glob("*.bin")}
    assert names == {"tokens-activation-0-inf-0.bin", "pool_mean-activation-0-inf-0.bin"}


def test_each_activation_has_its_latency_file(runner: Runner) -> None:
    count, duration, *_ = stats(runner.full(count=400))
    tables = [read(path.read_text()) for path in runner.latency_files()]
    assert len(tables) == 2
    assert sum(len(rows) for rows in tables) == count
    latencies = [float(row["totalRoundtripTimeUs"]) for rows in tables for row in rows]
    assert 0 < max(latencies) <= duration


def test_a_profile_has_one_sample_unless_asked(runner: Runner) -> None:
    runner("-n", "20", "-S", "1", "--aic-profiling-type=latency", "--aic-profiling-start-iter=5")
    (rows,) = [read(path.read_text()) for path in runner.folder.glob("*latency.txt")]
    assert [row["Sample"] for row in rows] == ["5"]


@pytest.mark.parametrize(
    "spelling",
    [
        ["-S", "3", "-n", "7", "-a", "2"],
        ["-S3", "-n7", "-a2"],
        ["--set-size", "3", "--num-iter=7", "-aic-num-of-activations=2"],
        ["-set-size=3", "-num-i", "7", "--aic-num-of", "2"],
        ["-vS3", "-n", "7", "-a", "2"],
    ],
)
def test_options_are_read_as_getopt_long_only_does(runner: Runner, spelling: list[str]) -> None:
    assert stats(runner(*spelling))[0] == 7


def test_forty_iterations_by_default_and_random_inputs(runner: Runner) -> None:
    ran = runner()
    assert stats(ran)[0] == 40
    assert ran.stdout.startswith("Using bounded random inputs\n")


def test_time_is_really_taken(runner: Runner) -> None:
    started = time.monotonic()
    _, duration, *_ = stats(runner("--time", "1", "-a", "2"))
    assert 1.0 <= duration / 1e6 <= time.monotonic() - started
    assert duration / 1e6 < 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-d", "7"], "Invalid device:7\nFailed to initialize QAIC runner\n"),
        (["-n", "0"], "Set a positive value for num-iter\n"),
        (["-S", "x"], "Set a positive value for set-size\n"),
        (["--time", "-1"], "Set a positive value for time\n"),
        (["-i", "/dev/null"], "Number of input files 1 does not match number of inputs 2\n"),
        (["--aic-batch-json-input", "absent.json"], "Failed to open file absent.json\n"),
        (["--write-output-dir=absent"], "Output directory absent does not exist or is not writable\n"),
        (["-n", "3", "--write-output-start-iter", "3"], "exceeds num-iter 3\n"),
        (["-a", "8"], "Failed to allocate NSP resources"),
    ],
)
def test_what_cannot_run_is_refused(runner: Runner, arguments: list[str], text: str) -> None:
    ran = runner(*arguments)
    assert ran.returncode == 1
    assert text in ran.stderr
    assert "Inf/Sec" not in ran.stdout


def test_a_profiling_folder_must_exist(runner: Runner) -> None:
    ran = runner("--aic-profiling-type", "latency", "--aic-profiling-out-dir", "absent")
    assert (ran.returncode, ran.stderr) == (1, "Output directory absent does not exist or is not writable\n")


def test_an_input_of_the_wrong_size_is_refused(runner: Runner) -> None:
    (runner.folder / "inputs" / "input_ids_1.raw").write_bytes(b"12345678")
    ran = runner.full()
    assert (ran.returncode, ran.stderr) == (1, "Invalid input file size, expected 192 but 8 is provided.\n")


def test_an_index_the_network_cannot_take_fails_the_run(runner: Runner) -> None:
    np.full((3, 8), 10**6).tofile(runner.folder / "inputs" / "input_ids_0.raw")
    ran = runner.full()
    assert ran.returncode == 1
    assert ran.stderr.endswith("Failed to run QAIC runner\n")


def test_no_program_and_half_a_program_are_refused(runner: Runner, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(runner.qpc, broken)
    os.truncate(broken / "programqpc.bin", 1000)
    for folder in (broken, tmp_path):
        ran = call(runner.tool, "-t", str(folder))
        assert ran.returncode == 1
        assert ran.stderr.startswith("Invalid qpc, failed to create qpc object\n")


@pytest.mark.parametrize("timing", ["measured", "modelled"])
def test_a_network_that_is_none_is_refused(
    runner: Runner, tmp_path: Path, timing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = containers.read(runner.qpc / "programqpc.bin")
    broken = tmp_path / "broken"
    broken.mkdir()
    parts = {name: bytes(data) for name, data in segments.items()}
    containers.write(broken / "programqpc.bin", {**parts, "network.onnx": b"nothing"})
    ran = run_timed(timing, runner.tool, "-t", broken, "-n", "1", cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("Invalid qpc, failed to create qpc object\n")


@pytest.mark.parametrize("name", ["programqpc.bin", "blob"])
def test_a_program_may_be_a_link(tmp_path: Path, root: Path, name: str) -> None:
    store, folder = tmp_path / "store", tmp_path / "qpc"
    compile_to(root, store, two_outputs(64))  # its weight is large enough to lie in the program's constants
    runner = Runner(root, store, tmp_path)
    assert runner.full().returncode == 0
    direct = runner.output("tokens")
    (store / "programqpc.bin").rename(store / name)
    folder.mkdir()
    (folder / "programqpc.bin").symlink_to(store / name)
    runner.qpc = folder
    ran = runner.full()
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(runner.output("tokens"), direct)


def test_usage(runner: Runner) -> None:
    for arguments, status in ((["-h"], 0), (["--bogus"], 0), ([], 1)):
        ran = call(runner.tool, *arguments)
        assert ran.returncode == status
        assert "--aic-batch-json-input" in ran.stdout
    assert "Error: Missing test data path" in ran.stderr


def test_the_old_profile(old_root: Path, qpc: Path, tmp_path: Path) -> None:
    old = Runner(old_root, qpc, tmp_path)
    files = [f"-i=inputs/{name}_1.raw" for name in element(1)]
    ran = old(
        *files,
        "-a",
        "2",
        "--write-output-dir=out",
        "--aic-profiling-type=latency",
        "--aic-profiling-out-dir=out",
    )
    lines = ran.stdout.splitlines()
    assert re.fullmatch(rf"loading {old_root}/dev/lib/\w+/libQAic.so", lines[0])
    assert lines[1:4] == [
        "Input file: inputs/input_ids_1.raw",
        "Input file: inputs/attention_mask_1.raw",
        " ---- Stats ----",
    ]
    assert [path.name[:23] for path in old.latency_files()] == [f"aic-profiling-program-{n}" for n in (0, 1)]
    expected = reference(two_outputs(), element(1))["tokens"]
    assert np.abs(old.output("tokens") - expected.ravel()).max() < 5e-3
    refused = old("--aic-batch-json-input", str(old.batch))
    assert "unrecognized option '--aic-batch-json-input'" in refused.stderr
    assert "Inf/Sec" not in refused.stdout


@pytest.fixture
def busy(runner: Runner) -> Iterator[subprocess.Popen[str]]:
    """A run that has taken 14 cores of card 1 and will go on for long; it is ended with the test."""
    process = subprocess.Popen(
        [runner.tool, "-t", str(runner.qpc), "-d", "1", "-a", "7", "--time", "600"],
        cwd=runner.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_free(runner, 0)
    yield process
    process.kill()
    process.communicate(timeout=10)


def wait_for_free(runner: Runner, cores: int) -> None:
    cards = Cards(runner.tool.parent.parent)
    deadline = time.monotonic() + LIMIT_S
    while True:
        device = cards.device(1)
        assert device is not None
        if device.nsp_free == cores:
            return
        assert time.monotonic() < deadline, device.nsp_free
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_run_at_once_and_frees_the_card(
    runner: Runner, busy: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert runner("-d", "1", "-a", "1").returncode == 1
    sent = time.monotonic()
    busy.send_signal(number)
    assert busy.wait(timeout=10) == -number
    assert time.monotonic() - sent < 5
    wait_for_free(runner, 14)
    assert runner("-d", "1", "-a", "1").returncode == 0


def run_timed(timing: str, *argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool under that timing, whatever its root's own is."""
    return subprocess.run(
        argv,
        env={"PATH": "/usr/bin:/bin", "AIC_EMULATOR_TIMING": timing},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_modelled_and_measured_runs_say_the_same(runner: Runner, tmp_path: Path) -> None:
    ran = run_timed("modelled", runner.tool, "-t", runner.qpc, "-n", "20", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    shape = re.compile(r" *\d[\d.]*")
    assert shape.sub("N", ran.stdout) == shape.sub("N", runner("-n", "20").stdout)


# Faults


def test_status_0_without_stats(runner: Runner) -> None:
    ran = runner.fault("no-stats")
    assert ran.returncode == 0
    assert "Inf/Sec" not in ran.stdout


def test_a_rate_that_does_not_fit(runner: Runner) -> None:
    count, duration, batch, rate = stats(runner.fault("rate-inconsistent", factor=3))
    assert float(rate) == pytest.approx(3 * count * batch * 1e6 / duration)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("timeout", "IOCTL: Connection timed out"),
        ("not-ready", "Device:0 not in ready state"),
        ("vanish", "IOCTL: No such device"),
    ],
)
def test_a_card_lost_during_the_run(runner: Runner, fault: str, text: str) -> None:
    ran = runner.fault(fault)
    assert ran.returncode == 1
    assert text in ran.stderr
    assert "Inf/Sec" not in ran.stdout


@pytest.mark.parametrize(
    ("fault", "files", "preamble", "rows"),
    [
        ("latency-missing", 0, 4, 0),
        ("latency-empty", 2, 0, 0),
        ("latency-five-headers", 2, 5, 30),
        ("latency-fewer", 1, 4, None),
    ],
)
def test_latency_files_gone_wrong(
    runner: Runner, fault: str, files: int, preamble: int, rows: int | None
) -> None:
    assert runner.fault(fault).returncode == 0
    tables = [read(path.read_text(), preamble) for path in runner.latency_files()]
    assert len(tables) == files
    if rows is not None:
        assert sum(len(table) for table in tables) == rows


def test_latency_files_of_an_earlier_run(runner: Runner) -> None:
    began = time.time()
    runner.fault("latency-stale")
    assert len(runner.latency_files()) == 2
    assert all(path.stat().st_mtime < began - 60 for path in runner.latency_files())


def test_outputs_gone_wrong(runner: Runner) -> None:
    runner.full()
    good = runner.output("tokens")
    runner.fault("output-nan")
    assert np.isnan(runner.output("tokens")).all()
    runner.fault("output-wrong")
    assert abs(np.corrcoef(runner.output("tokens"), good)[0, 1]) < 0.5
    runner.fault("output-bad-sample", sample=1)
    pairs = zip(runner.output("tokens").reshape(BATCH, -1), good.reshape(BATCH, -1), strict=True)
    assert [np.sign(spoilt @ sample) for spoilt, sample in pairs] == [1, -1, 1]
    runner.fault("output-swapped")
    assert runner.output("pool_mean").tobytes() == good.tobytes()
    runner.fault("output-short")
    assert runner.output("pool_mean").nbytes == BATCH * 16 * 4 // 2


def test_outputs_that_are_not_there(runner: Runner) -> None:
    runner.fault("output-missing")
    assert not list((runner.folder / "out").glob("*.bin"))


def test_a_slow_run_and_a_failing_one(runner: Runner) -> None:
    started = time.monotonic()
    stats(runner.fault("slow", seconds=1))
    assert time.monotonic() - started > 1
    ran = runner.fault("fail", status=9, text="no luck")
    assert (ran.returncode, ran.stderr) == (9, "no luck\n")
    assert runner.fault("killed").returncode == -signal.SIGKILL


def test_a_run_deaf_to_sigterm(runner: Runner) -> None:
    rules = [{"tool": "qaic-runner", "fault": name} for name in ("ignore-sigterm", "hang")]
    scenario = write_scenario(runner.folder / "scenario.json", *rules)
    process = subprocess.Popen(
        [runner.tool, "-t", runner.qpc, "-d", "1", "-a", "7"],
        env={**os.environ, "AIC_EMULATOR_SCENARIO": str(scenario)},
        cwd=runner.folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_free(runner, 0)
        assert deaf_within(process.pid, 10)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
    finally:
        process.kill()
        process.wait(timeout=10)
    wait_for_free(runner, 14)


def deaf_within(pid: int, limit: float) -> bool:
    """Whether the process comes to ignore SIGTERM."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ignored = re.search(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
        assert ignored is not None
        if int(ignored[1], 16) >> (signal.SIGTERM - 1) & 1:
            return True
        time.sleep(0.01)
    return False


def test_the_unsettled_choices(runner: Runner) -> None:
    scenario = write_scenario(
        runner.folder / "scenario.json",
        options={
            "latency_numbering": "all-into-zero",
            "stats_position": "after-files",
            "iterations_count": "per-activation",
        },
    )
    ran = runner.full(scenario=scenario)
    assert stats(ran)[0] == 60
    assert [path.name for path in runner.latency_files()] == ["aic-profiling-program-0-latency.txt"]
    assert ran.stdout.index("Deleting previous file: out") < ran.stdout.index(" ---- Stats ----")


def test_the_card_log_tells_who_held_what(runner: Runner) -> None:
    runner("-d", "0", "-a", "3")
    log = runner.tool.parent.parent / "state" / "card-0.log"
    taken, given = (json.loads(line) for line in log.read_text().splitlines()[-2:])
    assert (taken["event"], given["event"]) == ("activate", "deactivate")
    assert taken["cores"] == given["cores"] == list(range(6))
    assert taken["monotonic"] < given["monotonic"]
