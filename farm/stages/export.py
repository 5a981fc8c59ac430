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
from farm.stages.checkpoint import HubModel, fetch_hub, files_digest, folder_digest, resolve_hub
from farm.stages.exporter import Exporter, ExportFailed
from farm.stages.fp16_range import clip_to_fp16
from farm.stages.onnx_wire import Graph, Port, read_graph

#: Raised when this stage's own steps change what they write.
FORMAT = 1
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
    weights the architecture (the catalogue's facts). Raises StageFailed as `farm.stages.checkpoint` does.
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
        found = resolve_hub(model, ask.get("revision"))
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
    ask: Mapping[str, Any], resolved: Resolved, out: Path, exporter: Exporter, log: Path, threads: int = 1
) -> dict[str, Any]:
    """Makes `model.onnx`, `clipped/model.onnx` and `facts.json` in the folder `out`; returns the facts.

    threads bounds torch's own. Raises StageFailed: "input" for the model's fault, "host" for this host's.
    """
    started = time.monotonic()
    try:
        log.touch()
        told = _write_model(ask, resolved, out, exporter, log, threads)
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
    ask: Mapping[str, Any], resolved: Resolved, out: Path, exporter: Exporter, log: Path, threads: int
) -> dict[str, Any]:
    if resolved.kind == "onnx":
        _copy_onnx(Path(resolved.model), out)
        return {}
    folder = None
    if resolved.kind == "hub":
        source = HubModel(resolved.model, resolved.revision)
        folder = str(fetch_hub(source, resolved.library, bool(ask["trust_remote_code"])))
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
        "out": str(out),
    }
    try:
        return exporter.export(request, log)
    except ExportFailed as error:
        if error.needs_opset is None or ask["opset_source"] != "default":
            raise
        needed = error.needs_opset
    return exporter.export({**request, "opset": needed}, log)


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
        "hub_model": resolved.model if resolved.kind == "hub" else None,
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
