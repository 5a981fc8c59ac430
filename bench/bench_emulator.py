"""An emulated card's rate against a plain ONNX Runtime loop over the same program with as many threads.

    python bench/bench_emulator.py [--instances N] [--seconds S] [--pairs P] [--layers L]

Runs the two in turn (A B A B ...) and prints the median of the pairwise ratios last.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from farm.emulator import write_root
from farm.emulator.runtime import program
from farm.emulator.runtime import qpc as containers
from farm.sdk.stats import parse_stats

WIDTH, TOKENS = 256, 128


def model(path: Path, layers: int) -> None:
    """A stack of matrix products with a nonlinearity: about a millisecond a layer on one core."""
    values = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    for n in range(layers):
        weight = values.normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{n}"))
        nodes += [
            helper.make_node("MatMul", [name, f"w{n}"], [f"m{n}"]),
            helper.make_node("Tanh", [f"m{n}"], [f"t{n}"]),
        ]
        name = f"t{n}"
    shape = [1, TOKENS, WIDTH]
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def card_rate(root: Path, qpc: Path, instances: int, seconds: int, scratch: Path) -> float:
    """Inferences per second as the emulated runner reports them."""
    log = scratch / "run.log"
    argv = [root / "exec/qaic-runner", "-t", qpc, "-d", "0", "-a", str(instances), "-S", "1"]
    with log.open("wb") as stream:
        subprocess.run(
            [*map(str, argv), "--time", str(seconds), "--write-output-dir", str(scratch)],
            stdout=stream,
            check=True,
        )
    return parse_stats(log, batch_size=1).inf_s


def plain_rate(qpc: Path, threads: int, seconds: int) -> float:
    """Inferences per second of that many threads on one ONNX Runtime session of the same network."""
    network = qpc / containers.NETWORK
    network.write_bytes(containers.read(qpc / containers.PROGRAM_FILE)[containers.NETWORK])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    inputs = program.load(qpc).random_inputs(0)
    counts = [0] * threads
    end = time.monotonic() + seconds

    def loop(number: int) -> None:
        while time.monotonic() < end:
            session.run(None, inputs)
            counts[number] += 1

    workers = [threading.Thread(target=loop, args=(n,)) for n in range(threads)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - started)


def main() -> None:
    """Prints a line a pair and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aic-farm-") as folder:
        root, qpc, scratch = Path(folder, "sdk"), Path(folder, "qpc"), Path(folder, "out")
        scratch.mkdir()
        write_root(root, cards=1)
        model(Path(folder, "model.onnx"), options.layers)
        subprocess.run(
            [str(root / "exec/qaic-compile"), f"-m={folder}/model.onnx", "-aic-hw", "-convert-to-fp16",
             "-aic-num-cores=1", "-stats-batchsize=1", f"-aic-binary-dir={qpc}"],
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        ratios = []
        for _ in range(options.pairs):
            card = card_rate(root, qpc, options.instances, options.seconds, scratch)
            plain = plain_rate(qpc, options.instances, options.seconds)
            ratios.append(card / plain)
            print(f"card {card:9.1f} inf/s   plain {plain:9.1f} inf/s   ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
