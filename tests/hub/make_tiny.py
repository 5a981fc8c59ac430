"""Writes tiny random checkpoints (hidden 32, two layers), one folder each: python -m tests.hub.make_tiny DIR

A program of its own, so that no test process loads torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: Families served as `tiny/<family>`, each with the class its checkpoint was saved from.
FAMILIES = {
    "bert": "BertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "electra": "ElectraForQuestionAnswering",
    "distilbert": "DistilBertForSequenceClassification",
}


def main(root: Path) -> None:
    """Saves each family's checkpoint with safetensors weights below `root`."""
    import torch
    import transformers

    sizes = {
        "vocab_size": 120,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "embedding_size": 16,
        "pad_token_id": 0,
    }
    named = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    for family, class_name in FAMILIES.items():
        torch.manual_seed(len(family))
        values = sizes
        if family == "distilbert":
            values = {named.get(key, key): value for key, value in sizes.items()} | {"hidden_dim": 64}
        config = transformers.AutoConfig.for_model(family, **values)
        model = getattr(transformers, class_name)(config)
        model.save_pretrained(root / family, safe_serialization=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
