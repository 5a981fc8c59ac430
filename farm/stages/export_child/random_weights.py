"""Models of a published architecture whose every weight comes from the seed.

They cost the compiler and the card what the real checkpoint would, without a hub.
"""

from __future__ import annotations

from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import no_init_weights

from farm.domain.errors import StageFailed

#: Spread of the weights, as BERT's own initializer_range; norms and biases get it too, around 1 and 0,
#: so that no constant of the graph can be folded away as a one or a zero.
_SPREAD = 0.02

_RENAMED: dict[str, dict[str, str]] = {
    "distilbert": {
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    }
}
#: What the architecture facts do not carry and the published files of the family say.
_FAMILY: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
}
_FAMILIES = (
    "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"
)  # fmt: skip


def random_config(architecture: dict[str, Any]) -> PretrainedConfig:
    """The configuration an architecture's facts describe. Raises StageFailed("input") for another family."""
    facts = {name: value for name, value in architecture.items() if value is not None}
    family = facts.pop("model_type", None)
    if family not in _FAMILIES:
        raise StageFailed(
            "input",
            f"no random weights for model type {family}; use --weights hub, or one of {', '.join(_FAMILIES)}",
        )
    renamed = {_RENAMED.get(family, {}).get(name, name): value for name, value in facts.items()}
    return AutoConfig.for_model(family, **renamed, **_FAMILY.get(family, {}))


def random_model(architecture: dict[str, Any], task: str, seed: int) -> PreTrainedModel:
    """A model for `task` with every parameter drawn from `seed`; tied weights stay tied."""
    config = random_config(architecture)
    loader = TasksManager.get_model_class_for_task(task, framework="pt", library="transformers")
    with no_init_weights():
        model: PreTrainedModel = loader.from_config(config)
    model.tie_weights()  # type: ignore[no-untyped-call]
    randomise(model, seed)
    return model


def randomise(model: nn.Module, seed: int) -> None:
    """Draws every parameter of `model` from `seed`, in the order of its modules."""
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in done:
                    continue
                done.add(id(parameter))
                centre = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
                parameter.normal_(centre, _SPREAD, generator=generator)


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


def random_sentence_model(architecture: dict[str, Any], seed: int) -> tuple[Any, PretrainedConfig]:
    """A sentence-transformers model (encoder, mean pooling) with random weights, and its configuration."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    encoder = random_model(architecture, "feature-extraction", seed)
    pooling = Pooling(encoder.config.hidden_size, pooling_mode="mean")
    return SentenceTransformer(modules=[RandomTransformer(encoder), pooling], device="cpu"), encoder.config
