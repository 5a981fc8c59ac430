"""The export stage with the real child, a hub on loopback, and real checkpoints."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from farm.domain.errors import StageFailed
from farm.sdk.child import Child, ChildSpec
from farm.stages.export import build_export, resolve_export
from farm.stages.exporter import Exporter
from farm.stages.inputs import input_arrays
from tests.hub.checkpoints import MINILM, minilm_folder
from tests.hub.server import HubServer, serving

pytest_plugins = ["tests.hub.fixtures"]

ARCHITECTURE = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 66,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_act": "gelu",
}


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter(max_exports=1000) as exporter:
        yield exporter


def _ask(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "revision": None,
        "weights": "hub",
        "task": "default",
        "opset": 13,
        "opset_source": "default",
        "seed": 0,
        "trust_remote_code": False,
    } | more


def _random(family: str = "bert", **more: Any) -> dict[str, Any]:
    architecture = ARCHITECTURE | {"model_type": family}
    if family in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        architecture |= {"type_vocab_size": 1, "pad_token_id": 1}
    if family == "deberta-v2":
        architecture |= {"type_vocab_size": 0}
    return _ask(family, weights="random", architecture=architecture, **more)


def _build(ask: dict[str, Any], out: Path, exporter: Exporter) -> dict[str, Any]:
    out.mkdir(parents=True)
    return build_export(ask, resolve_export(ask), out, exporter, out.parent / f"{out.name}.log")


def _run(out: Path, facts: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    session = onnxruntime.InferenceSession(
        str(out / "clipped/model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [port["name"] for port in facts["outputs"]]
    values = session.run(names, input_arrays(facts, 2, 8, 0))
    return {name: value.shape for name, value in zip(names, values, strict=True)}


def test_the_real_minilm_from_the_hub(hub: HubServer, exporter: Exporter, tmp_path: Path) -> None:
    ask = _ask(MINILM, task="sentence-similarity")
    facts = _build(ask, tmp_path / "out", exporter)
    assert (facts["library"], facts["hub_model"]) == ("sentence_transformers", MINILM)
    assert facts["head"] == "checkpoint"
    assert facts["opset"] == 13
    assert [port["name"] for port in facts["inputs"]] == ["input_ids", "attention_mask"]
    assert (facts["vocab_size"], facts["max_positions"]) == (30522, 512)
    assert facts["clipped"] >= 1
    assert _run(tmp_path / "out", facts) == {"token_embeddings": (2, 8, 384), "sentence_embedding": (2, 384)}
    assert json.loads((tmp_path / "out/facts.json").read_text()) == facts
    made = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*"))
    assert made == ["clipped", "clipped/model.onnx", "facts.json", "model.onnx"]


def test_a_checkpoint_with_modules_goes_through_transformers_for_any_other_task(
    exporter: Exporter, tmp_path: Path
) -> None:
    ask = _ask(str(minilm_folder()), weights="local", task="question-answering")
    facts = _build(ask, tmp_path / "out", exporter)
    assert (facts["library"], facts["head"], facts["weights"]) == ("transformers", "random", "local")
    assert _run(tmp_path / "out", facts) == {"start_logits": (2, 8), "end_logits": (2, 8)}


@pytest.mark.parametrize(
    ("family", "task", "head"),
    [
        ("bert", "fill-mask", "checkpoint"),
        ("albert", "feature-extraction", "checkpoint"),
        ("electra", "question-answering", "checkpoint"),
        ("electra", "fill-mask", "random"),
        ("distilbert", "text-classification", "checkpoint"),
        ("distilbert", "question-answering", "random"),
    ],
)
def test_tiny_checkpoints_and_their_heads(
    hub: HubServer, exporter: Exporter, tmp_path: Path, family: str, task: str, head: str
) -> None:
    facts = _build(_ask(f"tiny/{family}", task=task), tmp_path / "out", exporter)
    assert facts["head"] == head
    assert facts["opset"] == 13
    assert ("token_type_ids" in {p["name"] for p in facts["inputs"]}) == (family != "distilbert")
    assert _run(tmp_path / "out", facts)


@pytest.mark.parametrize(
    "family",
    ["albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"],
)
def test_random_weights_of_every_family(exporter: Exporter, tmp_path: Path, family: str) -> None:
    facts = _build(_random(family, task="fill-mask"), tmp_path / "out", exporter)
    assert (facts["weights"], facts["head"], facts["opset"], facts["vocab_size"]) == (
        "random",
        "random",
        13,
        100,
    )
    assert facts["max_positions"] == (
        64 if family in ("camembert", "mpnet", "roberta", "xlm-roberta") else 66
    )
    assert _run(tmp_path / "out", facts) == {"logits": (2, 8, 100)}


def test_random_weights_through_sentence_transformers(exporter: Exporter, tmp_path: Path) -> None:
    facts = _build(_random("mpnet", task="sentence-similarity"), tmp_path / "out", exporter)
    assert _run(tmp_path / "out", facts)["sentence_embedding"] == (2, 32)


def test_the_same_ask_makes_the_same_bytes_in_another_child(exporter: Exporter, tmp_path: Path) -> None:
    ask = _random(task="question-answering")
    _build(ask, tmp_path / "warm", exporter)
    with Exporter() as fresh:
        _build(ask, tmp_path / "cold", fresh)
    other = _random(task="question-answering", seed=1)
    _build(other, tmp_path / "other", exporter)
    warm, cold, seed = ((tmp_path / n / "model.onnx").read_bytes() for n in ("warm", "cold", "other"))
    assert warm == cold
    assert warm != seed
    assert resolve_export(ask).key != resolve_export(other).key


def test_every_random_parameter_is_drawn(exporter: Exporter, tmp_path: Path) -> None:
    _build(_random(task="fill-mask"), tmp_path / "out", exporter)
    tensors = onnx.load(tmp_path / "out/model.onnx").graph.initializer
    floats = {t.name: onnx.numpy_helper.to_array(t) for t in tensors if t.data_type == onnx.TensorProto.FLOAT}
    assert len(floats) > 20
    for name, values in floats.items():
        if values.size > 1:
            assert values.std() > 0, name
    tables = [name for name, values in floats.items() if values.shape in ((100, 32), (32, 100))]
    assert len(tables) == 1, "the tied embedding is stored once"


def test_an_opset_too_low(exporter: Exporter, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"scaled_dot_product_attention.* opset 13") as caught:
        _build(_random(opset=12, opset_source="user"), tmp_path / "user", exporter)
    assert caught.value.kind == "input"
    assert _build(_random(opset=12), tmp_path / "default", exporter)["opset"] == 13
    assert resolve_export(_random(opset_source="user")).key != resolve_export(_random()).key


def test_a_local_onnx_file(exporter: Exporter, tmp_path: Path) -> None:
    _build(_random(), tmp_path / "made", exporter)
    model = str(tmp_path / "made" / "model.onnx")
    ask = _ask(model, weights="local")
    facts = _build(ask, tmp_path / "out", exporter)
    assert (facts["library"], facts["vocab_size"], facts["type_vocab_size"]) == ("onnx", 100, 2)
    assert _run(tmp_path / "out", facts) == {"last_hidden_state": (2, 8, 32)}
    with pytest.raises(StageFailed, match="opset 13, not 17"):
        _build(ask | {"opset": 17, "opset_source": "user"}, tmp_path / "other", exporter)
    with pytest.raises(StageFailed, match="no such file"):
        resolve_export(_ask("/nowhere/model.onnx", weights="local"))
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(StageFailed, match="not a readable ONNX file"):
        resolve_export(_ask(str(tmp_path / "bad.onnx"), weights="local"))


def test_a_checkpoint_whose_weights_are_not_its_configs(
    exporter: Exporter, tiny_checkpoints: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_checkpoints / "bert", folder)
    shutil.copy(tiny_checkpoints / "distilbert/model.safetensors", folder)
    with pytest.raises(StageFailed, match=r"lacks .* of the encoder's weights") as caught:
        _build(_ask(str(folder), weights="local"), tmp_path / "out", exporter)
    assert caught.value.kind == "input"
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(StageFailed) as damaged:
        _build(_ask(str(folder), weights="local"), tmp_path / "out2", exporter)
    assert damaged.value.kind == "input"
    assert "\n" not in str(damaged.value)
    assert "Traceback" in Path(str(damaged.value.log)).read_text()


def test_pickled_weights_are_refused(tiny_checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_checkpoints / "bert", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(StageFailed, match="pickled weights") as caught:
        resolve_export(_ask(str(folder), weights="local"))
    assert caught.value.kind == "input"
    resolve_export(_ask(str(folder), weights="local", trust_remote_code=True))


def test_a_checkpoints_own_code_runs_only_when_trusted(
    exporter: Exporter, tiny_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    folder, mark = tmp_path / "own", tmp_path / "own-code-ran"
    shutil.copytree(tiny_checkpoints / "bert", folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(
        "from transformers import BertModel\n"
        f"open({str(mark)!r}, 'w').close()\n"
        "class OwnModel(BertModel): pass\n"
    )
    ask = _ask(str(folder), weights="local")
    _build(ask, tmp_path / "plain", exporter)
    assert not mark.exists()
    _build(ask | {"trust_remote_code": True}, tmp_path / "trusted", exporter)
    assert mark.exists()


def test_the_child_ends_when_nobody_listens(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-m", "farm.stages.export_child"]
    with theirs:
        child = Child(ChildSpec(argv, tmp_path, tmp_path / "log", limit_s=60), pass_fds=(theirs.fileno(),))
    ours.sendall(b'{"log": "log"')  # in the middle of a request
    ours.close()
    while (result := child.wait()) is None:
        pass
    assert result.ended == "exit"


def test_the_stages_load_nothing_heavy() -> None:
    modules = "farm.stages.export, farm.stages.reference, farm.stages.compare, farm.stages.inputs"
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    heavy = {"torch", "transformers", "optimum", "sentence_transformers", "onnx", "onnxruntime"}
    assert not loaded & (heavy | {"huggingface_hub", "requests"})


def test_the_digest_of_a_folder_follows_what_is_read(tiny_checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_checkpoints / "bert", folder)
    ask = _ask(str(folder), weights="local")
    before = resolve_export(ask)
    (folder / "notes.md").write_text("not read")
    assert resolve_export(ask).key == before.key
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert resolve_export(ask).key != before.key
    assert resolve_export(_ask(str(tiny_checkpoints / "bert"), weights="local")).key == before.key


@pytest.mark.parametrize("name", ["task", "opset", "seed", "trust_remote_code"])
def test_the_key_covers_the_ask(name: str) -> None:
    other = {"task": "fill-mask", "opset": 17, "seed": 1, "trust_remote_code": True}[name]
    assert resolve_export(_random() | {name: other}).key != resolve_export(_random()).key
    assert resolve_export(_random()).key == resolve_export(_random()).key


def test_a_random_model_needs_a_known_architecture(exporter: Exporter, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="not in the catalogue"):
        resolve_export(_ask("unknown/model", weights="random", architecture=None))
    ask = _random()
    ask["architecture"] = ARCHITECTURE | {"model_type": "gpt2"}
    with pytest.raises(StageFailed, match="no random weights for model type gpt2"):
        _build(ask, tmp_path / "out", exporter)
    ask["architecture"] = ARCHITECTURE | {"own_code": True}
    with pytest.raises(StageFailed, match="built by its own code; use --weights hub"):
        _build(ask, tmp_path / "own", exporter)


class TestHub:
    def test_a_revision_is_pinned_once_resolved(self, hub: HubServer) -> None:
        resolved = resolve_export(_ask("tiny/bert"))
        assert len(resolved.revision) == 40
        hub.requests.clear()
        pinned = resolve_export(_ask("tiny/bert", revision=resolved.revision))
        assert pinned.key == resolved.key
        assert hub.requests == [], "a commit needs no hub"

    def test_short_and_moved_names(self, hub: HubServer, hub_root: Path) -> None:
        assert resolve_export(_ask("tiny-bert")).revision == resolve_export(_ask("tiny/bert")).revision
        (hub_root / "hub.json").write_text(json.dumps({"moved": {"old-bert": "tiny/bert"}}))
        moved = resolve_export(_ask("old-bert"))
        (hub_root / "hub.json").unlink()
        assert moved.model == "tiny/bert"
        assert moved.key == resolve_export(_ask("tiny/bert")).key

    def test_no_hub_at_all_and_the_cache(
        self, hub_root: Path, exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        with serving(hub_root) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.url)
            online = resolve_export(_ask("tiny/bert"))
            _build(_ask("tiny/bert"), tmp_path / "online", exporter)
        with pytest.raises(StageFailed, match="cannot reach") as caught:
            resolve_export(_ask("tiny/bert"))
        assert caught.value.kind == "host"
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        pinned = _ask("tiny/bert", revision=online.revision)
        _build(pinned, tmp_path / "offline", exporter)
        with pytest.raises(StageFailed, match="HF_HUB_OFFLINE") as missing:
            resolve_export(_ask("tiny/albert"))
        assert missing.value.kind == "input"


def test_facts_of_a_nested_configuration_are_its_text_parts() -> None:
    # In a process of its own: torch is for the exporter's child alone.
    script = """
import json
from transformers import CLIPConfig
from farm.stages.export_child.loading import config_facts
text = {"vocab_size": 777, "max_position_embeddings": 33, "pad_token_id": 2}
config = CLIPConfig(text_config=text)
assert not hasattr(config, "vocab_size")
print(json.dumps(config_facts(config)))"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["vocab_size"], facts["max_positions"], facts["pad_token_id"]) == (777, 33, 2)
