"""Loads the model a request names: a checkpoint folder or an architecture with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from farm.domain.errors import StageFailed
from farm.domain.families import no_head, usable_positions
from farm.stages.export_child.heads import fit_head, model_class
from farm.stages.export_child.random_weights import random_model
from farm.stages.export_child.sentence import random_sentence_model, sentence_checkpoint


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
    architecture = request["architecture"]
    head = "checkpoint" if architecture is None else "random"
    if library == "sentence_transformers":
        if architecture is None:
            model, config = sentence_checkpoint(request["folder"], request["trust_remote_code"])
        else:
            model, config = random_sentence_model(architecture, request["seed"])
    elif architecture is None:
        model, head = _checkpoint(request, task)
        config = model.config
    else:
        _check_head(architecture["model_type"], task)
        model = random_model(architecture, task, request["seed"])
        config = model.config
    facts = {"head": head, "params": sum(p.numel() for p in model.parameters()), **config_facts(config)}
    return Loaded(model, task, library, facts)


def config_facts(config: PretrainedConfig) -> dict[str, Any]:
    """What inputs must respect: vocabulary sizes, the padding id, the longest sequence in tokens."""
    text = config.get_text_config()
    pad = getattr(text, "pad_token_id", None)
    return {
        "model_type": text.model_type,
        "vocab_size": text.vocab_size,
        "type_vocab_size": getattr(text, "type_vocab_size", None),
        "pad_token_id": pad,
        "max_positions": usable_positions(
            text.model_type, getattr(text, "max_position_embeddings", None), pad
        ),
    }


def _checkpoint(request: dict[str, Any], task: str) -> tuple[PreTrainedModel, str]:
    folder, trust = request["folder"], request["trust_remote_code"]
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    _check_head(config.model_type, task)
    fit_head(config, task)
    model, info = model_class(config, task).from_pretrained(
        folder,
        config=config,
        trust_remote_code=trust,
        use_safetensors=any(Path(folder).glob("*.safetensors")),
        dtype=torch.float32,
        output_loading_info=True,
        key_mapping=_other_heads(config, task),
    )
    missing = [key for key in info["missing_keys"] if "pooler" not in key or task == "text-classification"]
    inside = body_keys(model, missing)
    if inside and hasattr(config, "auto_map") and not trust:
        raise StageFailed(
            "input", "the model is built by its own code; give --trust-remote-code if you trust it"
        )
    if inside:
        raise StageFailed(
            "input",
            f"the checkpoint lacks {len(inside)} of the encoder's weights (such as {inside[0]}); "
            "its config.json does not describe its weights",
        )
    return model, "random" if missing else "checkpoint"


def _check_head(family: str, task: str) -> None:
    if reason := no_head(family, task):
        raise StageFailed("input", reason)


def _other_heads(config: PretrainedConfig, task: str) -> dict[str, str] | None:
    """Sets aside a text's classifier where a token's is asked for: some families name them alike."""
    texts = any("ForSequenceClassification" in name for name in config.architectures or ())
    return {r"^classifier\.": "text_classifier."} if texts and task == "token-classification" else None


def body_keys(model: PreTrainedModel, keys: list[str]) -> list[str]:
    """Those of `keys` that belong to the encoder itself rather than to a head or a pooler."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return [key for key in keys if key.startswith(prefix) and "pooler" not in key]
