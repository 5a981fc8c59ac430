"""Sentence-transformers models: from a checkpoint's modules, or with random weights and no tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from farm.stages.export_child.random_weights import empty_model, randomise


def sentence_checkpoint(folder: str, trust: bool) -> tuple[Any, PretrainedConfig]:
    """The model of a checkpoint folder, and its encoder's configuration."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        folder,
        device="cpu",
        trust_remote_code=trust,
        local_files_only=True,
        model_kwargs={"dtype": torch.float32, "use_safetensors": any(Path(folder).rglob("*.safetensors"))},
    )
    return model, model[0].auto_model.config


def random_sentence_model(architecture: dict[str, Any], seed: int) -> tuple[Any, PretrainedConfig]:
    """The model an architecture's facts describe, drawn from `seed`, and its encoder's configuration."""
    model, config = empty_sentence_model(architecture)
    randomise(model, seed)
    return model, config


def empty_sentence_model(architecture: dict[str, Any]) -> tuple[Any, PretrainedConfig]:
    """The same with weights yet to be drawn."""
    from sentence_transformers import SentenceTransformer

    encoder = empty_model(architecture, "feature-extraction")
    behind = _modules(architecture.get("pooling") or "mean", encoder.config.hidden_size)
    modules = [RandomTransformer(encoder), *behind]
    return SentenceTransformer(modules=modules, device=encoder.device.type), encoder.config


class RandomTransformer(nn.Module):
    """The first module of a sentence-transformers model around an encoder that has no tokenizer.

    The exporter asks for "Transformer" in the class's name and for `auto_model`.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.auto_model = encoder

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Adds `token_embeddings [batch, sequence, hidden]` to the features."""
        made = self.auto_model(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        return {**features, "token_embeddings": made[0]}


def _modules(pooling: str, width: int) -> list[nn.Module]:
    """What follows the encoder, from the catalogue's words: `mean` or `cls`, `dense:768`, `normalize`."""
    from sentence_transformers.models import Dense, Normalize, Pooling

    modules: list[nn.Module] = []
    for word in pooling.split():
        kind, _, size = word.partition(":")
        if kind == "normalize":
            modules.append(Normalize())
        elif kind == "dense":
            modules.append(Dense(width, int(size), bias=False, activation_function=None))
        else:
            modules.append(Pooling(width, pooling_mode=kind))
    return modules
