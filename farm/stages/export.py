"""The export stage: from what was asked to a folder with the graph, its clipped twin and its facts."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farm.domain.digest import digest
from farm.domain.errors import StageFailed
from farm.sdk.launcher import DirectLauncher, Launcher
from farm.stages.checkpoint import files_digest, folder_digest
from farm.stages.exporter import Exporter, ExportFailed
from farm.stages.fp16_range import clip_to_fp16
from farm.stages.hub import HubModel, fetch_hub, resolve_hub
from farm.stages.onnx_wire import Graph, Port, read_graph

#: Raised when this stage's own steps change what they write.
FORMAT = 3
#: Larger models keep their weights in `model.onnx_data`: protobuf's limit.
SINGLE_FILE_BYTES = 2**31 - 1
#: Distributions whose version can change the bytes of an export.
_LIBRARIES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "accelerate")


@dataclass(frozen=True)
class Resolved:
    """What an ask comes down to.

    kind: hub, folder, onnx or random. revision: the commit, or the digest of local files or of the random
    architecture and seed. model: the id the hub knows it by today. key: the artifact's, from everything
    that determines its bytes.
    """

    kind: str
    model: str
    revision: str
    library: str
    key: str


def resolve_export(ask: Mapping[str, Any]) -> Resolved:
    """What an ask comes down to. Contacts the hub for weights "hub" alone, and not for a full commit id.

    ask: {model, revision, weights, task, opset, opset_source, seed, trust_remote_code}, and for random
    weights the architecture (the catalogue's facts); again, of an export that is made again: the commit that
    the revision meant then. Raises StageFailed as `farm.stages.hub` does.
    """
    library = "sentence_transformers" if ask["task"] == "sentence-similarity" else "transformers"
    trust = bool(ask["trust_remote_code"])
    model = str(ask["model"])
    path = Path(model)
    if ask["weights"] == "random":
        if not ask.get("architecture"):
            raise StageFailed(
                "input", f"{model}: its architecture is not in the catalogue; use --weights hub"
            )
        kind, revision = "random", digest([ask["architecture"], ask["seed"]], 40)
    elif ask["weights"] == "hub":
        found = resolve_hub(model, ask.get("again") or ask.get("revision"))
        kind, model, revision = "hub", found.model, found.revision
    elif path.suffix == ".onnx":
        if not path.is_file():
            raise StageFailed("input", f"{model}: no such file; give the path of an .onnx file")
        kind, library = "onnx", "onnx"
        revision = files_digest(path.parent, [path.name, *_data_files(path, read_graph(path))])
    else:
        kind, revision = "folder", folder_digest(path, library, trust)
    return Resolved(kind, model, revision, library, _key(ask, kind, revision, library))


def _key(ask: Mapping[str, Any], kind: str, revision: str, library: str) -> str:
    facts: dict[str, Any] = {"format": FORMAT, "kind": kind, "revision": revision}
    # An opset the user did not name may be raised to what the model needs, one the user named never is.
    opset = {"opset": ask["opset"], "opset_fixed": ask["opset_source"] != "default"}
    if kind == "onnx":
        facts |= opset if opset["opset_fixed"] else {}
    else:
        names = [*_LIBRARIES, *(["sentence-transformers"] if library == "sentence_transformers" else [])]
        facts |= opset
        facts |= {name: ask[name] for name in ("task", "seed")}
        facts |= {"trust_remote_code": bool(ask["trust_remote_code"]), "library": library}
        facts["versions"] = {name: version(name) for name in names}
    return "export-" + digest(facts)


def build_export(
    ask: Mapping[str, Any],
    resolved: Resolved,
    out: Path,
    exporter: Exporter,
    log: Path,
    threads: int = 1,
    launcher: Launcher | None = None,
) -> dict[str, Any]:
    """Makes `model.onnx`, `clipped/model.onnx` and `facts.json` in the folder `out`; returns the facts.

    threads bounds torch's own. launcher runs the download, None: this process does. Raises StageFailed:
    "input" for the model's fault, "host" for this host's.
    """
    started = time.monotonic()
    try:
        log.touch()
        told = _write_model(ask, resolved, out, exporter, log, threads, launcher or DirectLauncher())
        model = out / "model.onnx"
        graph = read_graph(model)
        _check_opset(ask, graph.opset)
        clipped = clip_to_fp16(model, out / "clipped" / "model.onnx", graph)
        facts = {
            **_facts(ask, resolved, graph, told),
            "clipped": clipped,
            "export_s": round(time.monotonic() - started, 3),
        }
        (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    except StageFailed as error:
        error.log = error.log or str(log)
        raise
    except OSError as error:
        way_out = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see the worker's log"
        raise StageFailed(
            "host", f"cannot write the export to {out}: {error.strerror}; {way_out}", str(log)
        ) from error
    return facts


def _write_model(
    ask: Mapping[str, Any],
    resolved: Resolved,
    out: Path,
    exporter: Exporter,
    log: Path,
    threads: int,
    launcher: Launcher,
) -> dict[str, Any]:
    if resolved.kind == "onnx":
        _copy_onnx(Path(resolved.model), out)
        return {}
    folder, hub_model = None, None
    if resolved.kind == "hub":
        source = HubModel(resolved.model, resolved.revision)
        trust = bool(ask["trust_remote_code"])
        fetched = fetch_hub(source, ask.get("revision"), resolved.library, trust, launcher, out, log)
        folder, hub_model = str(fetched.folder), fetched.model
    elif resolved.kind == "folder":
        folder = resolved.model
    request = {
        "folder": folder,
        "architecture": dict(ask["architecture"]) if resolved.kind == "random" else None,
        "library": resolved.library,
        "task": ask["task"],
        "opset": ask["opset"],
        "seed": ask["seed"],
        "trust_remote_code": bool(ask["trust_remote_code"]),
        "threads": threads,
        "single_file_bytes": SINGLE_FILE_BYTES,
        "out": str(out),
    }
    try:
        told = exporter.export(request, log)
    except ExportFailed as error:
        if error.needs_opset is None or ask["opset_source"] != "default":
            raise
        told = exporter.export({**request, "opset": error.needs_opset}, log)
    return {**told, "hub_model": hub_model}


def _copy_onnx(model: Path, out: Path) -> None:
    for name in _data_files(model, read_graph(model)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.parent / name, out / name)
    shutil.copyfile(model, out / "model.onnx")


def _data_files(model: Path, graph: Graph) -> list[str]:
    """The model's external data files. Raises StageFailed("input") for one missing or named as the graph."""
    for name in graph.external:
        if not (model.parent / name).is_file() or name in ("model.onnx", model.name):
            raise StageFailed(
                "input", f"{model}: its data file {name} is missing or badly named; export it again"
            )
    return sorted(graph.external)


def _check_opset(ask: Mapping[str, Any], opset: int) -> None:
    if ask["opset_source"] != "default" and opset != ask["opset"]:
        raise StageFailed(
            "input", f"{ask['model']} is of opset {opset}, not {ask['opset']}; leave --opset out"
        )


def _facts(
    ask: Mapping[str, Any], resolved: Resolved, graph: Graph, told: Mapping[str, Any]
) -> dict[str, Any]:
    vocab = told.get("vocab_size") or graph.tables.get("input_ids")
    return {
        "hub_model": told.get("hub_model"),
        "revision": resolved.revision,
        "weights": ask["weights"],
        "library": resolved.library,
        "head": told.get("head", "checkpoint"),
        "model_type": told.get("model_type"),
        "opset": graph.opset,
        "inputs": [_port(port) for port in graph.inputs],
        "outputs": [_port(port) for port in graph.outputs],
        "vocab_size": min(vocab, graph.tables.get("input_ids", vocab)) if vocab else None,
        "type_vocab_size": graph.tables.get("token_type_ids", told.get("type_vocab_size")),
        "pad_token_id": told.get("pad_token_id"),
        "max_positions": told.get("max_positions"),
        "params": told.get("params", graph.parameters),
        "peak_rss_bytes": told.get("peak_rss_bytes"),
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "dims": list(port.dims)}
