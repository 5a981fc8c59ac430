"""Models of a published architecture whose every weight comes from the seed.

They cost the compiler and the card what the real checkpoint would, without a hub.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import no_init_weights

from farm.domain.errors import StageFailed
from farm.domain.families import LOWEST_OPSET
from farm.stages.export_child.heads import fit_head, new_model

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
    },
    "t5": {
        "num_hidden_layers": "num_layers",
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
        "hidden_act": "feed_forward_proj",
    },
}
_ROBERTA_LIKE = {"layer_norm_eps": 1e-5}
#: What the architecture facts do not carry and the published files of the family say.
_FAMILY: dict[str, dict[str, Any]] = {
    "camembert": _ROBERTA_LIKE,
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "mpnet": _ROBERTA_LIKE,
    "roberta": _ROBERTA_LIKE,
    "xlm-roberta": _ROBERTA_LIKE,
}


def random_config(architecture: dict[str, Any]) -> PretrainedConfig:
    """The configuration an architecture's facts describe. Raises StageFailed("input") for another family."""
    facts = {name: value for name, value in architecture.items() if value is not None}
    facts.pop("pooling", None)
    if facts.pop("own_code", False):
        raise StageFailed(
            "input",
            "no random weights for a model built by its own code; use --weights hub and --trust-remote-code",
        )
    family = facts.pop("model_type", None)
    if family not in LOWEST_OPSET:
        raise StageFailed(
            "input",
            f"no random weights for model type {family}; use --weights hub, or one of "
            f"{', '.join(LOWEST_OPSET)}",
        )
    if family == "t5":
        facts["d_kv"] = facts["hidden_size"] // facts["num_attention_heads"]
    renamed = {_RENAMED.get(family, {}).get(name, name): value for name, value in facts.items()}
    return AutoConfig.for_model(family, **renamed, **_FAMILY.get(family, {}))


def empty_model(architecture: dict[str, Any], task: str) -> PreTrainedModel:
    """A model for `task` (one of the exporter's own words) whose weights are yet to be drawn."""
    config = random_config(architecture)
    fit_head(config, task)
    with no_init_weights():
        model = new_model(config, task)
    model.tie_weights()  # type: ignore[no-untyped-call]
    return model


def random_model(architecture: dict[str, Any], task: str, seed: int) -> PreTrainedModel:
    """A model for `task` with every parameter drawn from `seed`; tied weights stay tied."""
    model = empty_model(architecture, task)
    randomise(model, seed)
    return model


def randomise(model: nn.Module, seed: int) -> None:
    """Draws every parameter of `model` from `seed`, in the order of its modules; buffers stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # A weight of one axis is the gain of a norm, of whatever class.
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.normal_(centre, _SPREAD, generator=generator)
