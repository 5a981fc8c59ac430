"""The calls that the SDK's public encoder sample makes, made on emulated roots of both SDK profiles.

One folder per root, whose name has a blank, is worked in with relative paths: look at the card, compile,
run by qaic-runner or by the Python modules. The older SDK takes inputs by `-i`, the newer by a batch JSON.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.emulator import write_root
from tests.emulator.emulated import LIMIT_S, call, save
from tests.emulator.programs import BATCH, LENGTH, child, element, reference, two_outputs, write_inputs

ACTIVATIONS, SET_SIZE, CORES, CARD = 3, 2, 4, 1
IN_FLIGHT = BATCH * ACTIVATIONS * SET_SIZE
STATS = re.compile(r"^InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec ([\d.]+)$", re.M)


class Sample:
    """A root, and the folder in which the sample works on it."""

    def __init__(self, folder: Path, sdk: str) -> None:
        self.root = folder / "emulated sdk"
        self.sdk = sdk
        write_root(self.root, cards=2, sdk=sdk)
        self.fresh_state = self.state()
        self.folder = folder / "models" / "some" / "encoder"
        (self.folder / "model").mkdir(parents=True)
        save(two_outputs(), self.folder / "model" / "model.onnx")
        write_inputs(self.folder / "inputs", 1)

    def state(self) -> dict[str, int]:
        """The files that the root's tools share, by name, each with its inode."""
        return {path.name: path.stat().st_ino for path in (self.root / "state").iterdir()}

    def call(self, tool: str, *arguments: str) -> str:
        """Run a tool in the folder; what it printed."""
        ran = call(self.root / tool, *arguments, cwd=self.folder)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def compile(self, target: str, *more: str) -> str:
        """Compile to ./`target`, with further flags before and after the usual ones."""
        return self.call(
            "exec/qaic-exec",
            "-m=./model/model.onnx",
            f"-onnx-define-symbol=batch_size,{BATCH}",
            f"-onnx-define-symbol=sequence_length,{LENGTH}",
            "-aic-hw",
            "-aic-hw-version=2.0",
            f"-aic-num-cores={CORES}",
            "-convert-to-fp16",
            "-compile-only",
            f"-aic-binary-dir=./{target}",
            f"-stats-batchsize={BATCH}",
            *more,
        )

    def run(self, target: str) -> str:
        """Run ./qpc for a second with outputs and latency files in ./`target`."""
        inputs = ["--aic-batch-json-input", "./inputs/aic_batch_io.json"]
        if self.sdk == "1.12":
            inputs = [word for name in element(0) for word in ("-i", f"./inputs/{name}_0.raw")]
        (self.folder / target).mkdir(exist_ok=True)
        return self.call(
            "exec/qaic-runner",
            *("-t", "./qpc", "-a", str(ACTIVATIONS), "--time", "1"),
            *("--aic-profiling-type", "latency", "--aic-profiling-num-samples", "999999"),
            *("--aic-profiling-out-dir", f"./{target}", "-write-output-dir", f"./{target}"),
            *("-S", str(SET_SIZE), "-d", str(CARD), *inputs),
        )

    def latencies(self, target: str) -> list[float]:
        """The third column from the end of every latency file below four lines of preamble and a header."""
        files = sorted((self.folder / target).glob("*latency.txt"))
        assert len(files) == ACTIVATIONS
        rows = [line for file in files for line in file.read_text().splitlines()[5:]]
        return [float(row.split(",")[-3]) for row in rows]

    def python(self, script: str) -> Any:
        """Run a script that uses the SDK's modules; the JSON document of its last line."""
        return child(self.root, script, str(self.folder))


@pytest.fixture(scope="module", params=["1.12", "1.21"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made = Sample(tmp_path_factory.mktemp("sample"), request.param)
    made.compile("qpc", "-multicast-weights", "-mos=1", "-ols=2")
    return made


def agrees(found: Any, name: str) -> bool:
    """Whether an output has the fp32 network's size and a cosine near 1 to it."""
    expected = reference(two_outputs(), element(0))[name].ravel()
    found = np.asarray(found, np.float32).ravel()
    if found.size != expected.size:
        return False
    return bool(found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected)) > 0.9999)


def test_the_card_says_that_it_is_free(sample: Sample) -> None:
    said = sample.call("tools/qaic-util", "-d", str(CARD), "-q")
    words = {field: said.split(f"{field}:")[1].split()[0] for field in ("Status", "Nsp Total", "Nsp Free")}
    assert words == {"Status": "Ready", "Nsp Total": "14", "Nsp Free": "14"}


def test_a_compile_names_its_paths_as_they_were_given(sample: Sample) -> None:
    said = sample.compile("another").splitlines()
    assert "Reading ONNX Model from ./model/model.onnx" in said
    assert said[-1] == "Generated binary is present at ./another"
    assert (sample.folder / "another" / "programqpc.bin").is_file()


def test_the_runner_gives_a_rate_a_latency_and_the_networks_outputs(sample: Sample) -> None:
    found = STATS.search(sample.run("out"))
    assert found is not None
    count, duration, batch, rate = int(found[1]), int(found[2]), int(found[3]), float(found[4])
    latencies = sample.latencies("out")
    assert (len(latencies), batch) == (count, BATCH)
    assert 1e6 <= duration < 2e6
    in_flight = rate * float(np.mean(latencies)) / 1e6
    assert in_flight == pytest.approx(IN_FLIGHT, rel=0.1)
    for name in ("tokens", "pool/mean"):
        file = sample.folder / "out" / f"{name.replace('/', '_')}-activation-0-inf-0.bin"
        assert agrees(np.fromfile(file, np.float32), name)


def test_files_are_named_as_their_folder_was_given_and_replaced_when_there(sample: Sample) -> None:
    first = 0 if sample.sdk == "1.12" else 1
    files = [
        f"./again/aic-profiling-program-{number}-latency.txt" for number in range(first, first + ACTIVATIONS)
    ]
    assert sample.run("again").splitlines()[-ACTIVATIONS:] == [f"Writing file:{file}" for file in files]
    replaced = [
        line for file in files for line in (f"Deleting previous file: {file}", f"Writing file:{file}")
    ]
    assert sample.run("again").splitlines()[-2 * ACTIVATIONS :] == replaced


def test_the_device_report_names_the_card_it_ran_on(sample: Sample) -> None:
    names = set(re.findall(r"^(\w*InfPerSec\w*) +,", sample.run("report"), re.M))
    expected = {f"{name}_Dev_{CARD}_Func_0" for name in ("BatchInfPerSec", "InfPerSec")}
    assert names == (set() if sample.sdk == "1.12" else expected)


SESSION = f"""
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import qaic
os.chdir(sys.argv[1])
session = qaic.Session(
    model_path="./qpc/programqpc.bin", num_activations={ACTIVATIONS}, set_size={SET_SIZE}, dev_id={CARD}
)
benchmark = session.run_benchmark(inf_time=1)
feeds = {{
    name: np.fromfile(f"./inputs/{{name}}_0.raw", dtype=dtype).reshape(shape)
    for name, (shape, dtype) in session.model_input_shape_dict.items()
}}
with ThreadPoolExecutor(10) as pool:
    answers = list(pool.map(lambda _: session.run(feeds), range(10)))
outputs = [{{name: answer[name].tolist() for name in session.model_output_shape_dict}} for answer in answers]
session.reset()
"""

INFERENCE_SET = f"""
import threading, qaicrt
devices = qaicrt.QIDList()
devices.append({CARD})
context = qaicrt.Context(devices)
network = qaicrt.Qpc("./qpc/")
mappings = network.getBufferMappings()
vector = qaicrt.InferenceVector(mappings)
for mapping in mappings:
    if mapping.ioType == qaicrt.BufferIoTypeEnum.BUFFER_IO_TYPE_INPUT:
        data = np.fromfile(f"./inputs/{{mapping.bufferName}}_0.raw", dtype=np.int64).tobytes()
        vector.getVector()[mapping.index] = qaicrt.QBuffer(data)
inferences = qaicrt.InferenceSet(context, network, devices[0], {SET_SIZE}, {ACTIVATIONS})
free_while_active = qaicrt.Util().getResourceInfo({CARD})[1].nspFree
statuses = []
def complete(number):
    status, handle = inferences.getCompletedId(number)
    statuses.append([int(status), int(inferences.putCompleted(handle))])
waiting = []
for number in range(200):
    inferences.submit(vector, number)
    waiting.append(threading.Thread(target=complete, args=(number,)))
    waiting[-1].start()
for thread in waiting:
    thread.join()
statuses.append([int(inferences.waitForCompletion()), 0])
"""


def test_a_session_benchmarks_and_serves_ten_threads(sample: Sample) -> None:
    benchmark, outputs = sample.python(SESSION + "print(json.dumps([benchmark, outputs]))")
    count, rate, seconds, batch = benchmark
    assert batch == BATCH
    assert 1 <= seconds < 2
    assert rate == pytest.approx(count / seconds, rel=1e-6)
    assert len(outputs) == 10
    assert all(agrees(answer[name], name) for answer in outputs for name in ("tokens", "pool/mean"))


def test_an_inference_set_follows_a_session_in_one_process(sample: Sample) -> None:
    """A thread per inference waits for it and puts it back; the cores were free again after the reset."""
    script = SESSION + INFERENCE_SET + "print(json.dumps([free_while_active, statuses]))"
    free_while_active, statuses = sample.python(script)
    assert free_while_active == 14 - CORES * ACTIVATIONS
    assert statuses == [[0, 0]] * 201
    assert "Nsp Free:14" in sample.call("tools/qaic-util", "-q", "-d", str(CARD))


def test_no_tool_makes_a_shared_file_that_the_roots_owner_could_not_write(sample: Sample) -> None:
    """The sample runs some tools with sudo: whatever they share belongs to whoever made the root."""
    sample.run("owned")
    sample.python(SESSION + INFERENCE_SET + "print(len(statuses))")
    assert sample.state() == sample.fresh_state


def test_a_root_of_somebody_else_is_refused_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_root(root, cards=1)
    log = root / "state" / "calls.log"
    log.chmod(0o444)
    # The tool's own entry; root, to whom no file is read-only, becomes somebody else first.
    script = """
import os, sys
from emulator import launch
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(launch.main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, "qaic-util", "-q"],
        env={**os.environ, "PYTHONPATH": str(root / "lib")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"qaic-util: {log}: ")
    assert ran.stderr.count("\n") == 1
