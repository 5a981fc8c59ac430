"""The argument vectors of the SDK's tools. Nothing here is ever joined for a shell.

Source: Cloud AI SDK docs, model-compilation and model-execution-options (docs/sdk.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from farm.domain.job import CardConfiguration
from farm.sdk.root import Sdk

#: More samples than any run records: profile them all, trim on read.
ALL_SAMPLES = 999_999


def compile_argv(
    sdk: Sdk,
    config: CardConfiguration,
    onnx: Path,
    dim_names: tuple[str | None, str | None],
    binary_dir: Path,
) -> list[str]:
    """The compiler's command. binary_dir must not exist, its parent must.

    dim_names: the graph's own symbols of the batch and sequence axes, None where that axis is fixed.
    """
    argv = [str(sdk.compiler), f"-m={onnx}"]
    for symbol, value in zip(dim_names, (config.batch_size, config.seq_length), strict=True):
        if symbol is not None:
            argv.append(f"-onnx-define-symbol={symbol},{value}")
    if dim_names[0] is None:
        argv.append(f"-batchsize={config.batch_size}")
    argv += ["-aic-hw", f"-aic-hw-version={sdk.hw_version}", f"-aic-num-cores={config.cores}"]
    argv.append("-convert-to-fp16")
    if sdk.compiler_program == "qaic-exec":
        argv.append("-compile-only")  # without it, it would also run the network on a card
    argv += [f"-aic-binary-dir={binary_dir}", f"-stats-batchsize={config.batch_size}"]
    if config.mos is not None:
        argv.append(f"-mos={config.mos}")
    if config.ols is not None:
        argv.append(f"-ols={config.ols}")
    return [*argv, *config.extra]


def runner_argv(
    sdk: Sdk,
    config: CardConfiguration,
    *,
    qpc: Path,
    qid: int,
    seconds: int,
    output_dir: Path,
    batch_json: Path,
    input_files: Sequence[Path],
    samples: int = 1,
) -> list[str]:
    """The runner's command: every sample profiled from iteration 0, outputs of `samples` inferences written.

    output_dir must exist and be fresh. batch_json is used where the SDK knows it, else input_files in the
    order of the network's bindings.
    """
    argv = [str(sdk.runner), "-t", str(qpc), "-d", str(qid)]
    argv += ["-a", str(config.instances), "-S", str(config.set_size), "--time", str(seconds)]
    argv += ["--aic-profiling-type", "latency", "--aic-profiling-start-iter", "0"]
    argv += ["--aic-profiling-num-samples", str(ALL_SAMPLES), "--aic-profiling-out-dir", str(output_dir)]
    argv += ["--write-output-dir", str(output_dir), "--write-output-num-samples", str(samples)]
    if sdk.batch_json:
        return [*argv, "--aic-batch-json-input", str(batch_json)]
    for file in input_files:
        argv += ["-i", str(file)]
    return argv


def util_argv(sdk: Sdk, qids: Sequence[int] = ()) -> list[str]:
    """The query of some cards, of all where none is named."""
    argv = [str(sdk.util), "-q"]
    for qid in qids:
        argv += ["-d", str(qid)]
    return argv
