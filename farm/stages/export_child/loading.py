"""Loads the model a request names: a checkpoint folder or an architecture with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from farm.domain.errors import StageFailed
from farm.stages.export_child.random_weights import random_model, random_sentence_model

#: Families whose positions start behind the padding id, so that the table is that much longer than an input.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl"}


@dataclass
class Loaded:
    """A model ready to trace; task is the exporter's own word, facts are what only the model knows."""

    model: Any
    task: str
    library: str
    facts: dict[str, Any]


def load(request: dict[str, Any]) -> Loaded:
    """The model of `request`, in fp32, with whatever its checkpoint lacks drawn from the seed."""
    library = request["library"]
    task = "feature-extraction" if request["task"] in ("default", "sentence-similarity") else request["task"]
    torch.manual_seed(request["seed"])
    if request["architecture"] is not None:
        head = "random"
        if library == "sentence_transformers":
            model, config = random_sentence_model(request["architecture"], request["seed"])
        else:
            model = random_model(request["architecture"], task, request["seed"])
            config = model.config
    elif library == "sentence_transformers":
        model, config = _sentence_model(request["folder"], request["trust_remote_code"])
        head = "checkpoint"
    else:
        model, head = _checkpoint(request, task)
        config = model.config
    facts = {"head": head, "params": sum(p.numel() for p in model.parameters()), **config_facts(config)}
    return Loaded(model, task, library, facts)


def config_facts(config: PretrainedConfig) -> dict[str, Any]:
    """What inputs must respect: vocabulary sizes, the padding id, the longest sequence in tokens."""
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)
    pad = getattr(text, "pad_token_id", None)
    if longest is not None and longest <= 0:
        longest = None
    if longest is not None and text.model_type in _OFFSET_POSITIONS:
        longest -= (1 if text.model_type == "mpnet" or pad is None else pad) + 1
    return {
        "model_type": text.model_type,
        "vocab_size": text.vocab_size,
        "type_vocab_size": getattr(text, "type_vocab_size", None),
        "pad_token_id": pad,
        "max_positions": longest,
    }


def _checkpoint(request: dict[str, Any], task: str) -> tuple[PreTrainedModel, str]:
    folder, trust = request["folder"], request["trust_remote_code"]
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    loader = TasksManager.get_model_class_for_task(task, framework="pt", library="transformers")
    model, info = loader.from_pretrained(
        folder,
        config=config,
        trust_remote_code=trust,
        use_safetensors=any(Path(folder).glob("*.safetensors")),
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = [key for key in info["missing_keys"] if "pooler" not in key or task == "text-classification"]
    inside = body_keys(model, missing)
    if inside:
        raise StageFailed(
            "input",
            f"the checkpoint lacks {len(inside)} of the encoder's weights (such as {inside[0]}); "
            "its config.json does not describe its weights",
        )
    return model, "random" if missing else "checkpoint"


def body_keys(model: PreTrainedModel, keys: list[str]) -> list[str]:
    """Those of `keys` that belong to the encoder itself rather than to a head or a pooler."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return [key for key in keys if key.startswith(prefix) and "pooler" not in key]


def _sentence_model(folder: str, trust: bool) -> tuple[Any, PretrainedConfig]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        folder,
        device="cpu",
        trust_remote_code=trust,
        local_files_only=True,
        model_kwargs={"dtype": torch.float32, "use_safetensors": any(Path(folder).rglob("*.safetensors"))},
    )
    return model, model[0].auto_model.config
