"""A hub that serves every model of the table, tiny random checkpoints standing in for the weights.

Each model has its family's architecture at hidden size 32 with two layers; a family the exporter does not
take from its own configuration class (T5, remote code) is stood in for by BERT.
    python -m tests.integration.listed_hub DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from farm.domain.catalogue import Catalogue

POSITIONS = 600
VOCABULARY = 160
FAMILIES = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "mpnet",
    "roberta",
    "xlm-roberta",
)


def main(root: Path) -> None:
    """Saves one checkpoint a family and a link a model."""
    import torch
    import transformers

    torch.manual_seed(0)
    for family in FAMILIES:
        if family == "distilbert":
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        else:
            sizes = {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
            }
            sizes |= {"embedding_size": 16} if family in ("albert", "electra") else {}
        config = transformers.AutoConfig.for_model(
            family, vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, pad_token_id=1, **sizes
        )
        model_class: Any = transformers.AutoModel
        model_class.from_config(config).save_pretrained(root / ".tiny" / family)
    sentence = _sentence_transformer(root, VOCABULARY)
    for model in Catalogue.load().select():
        family = model.model_type if model.model_type in FAMILIES else "bert"
        place = root / model.model
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(sentence if model.task == "sentence-similarity" else root / ".tiny" / family)


def _sentence_transformer(root: Path, vocabulary: int) -> Path:
    """BERT with a tokenizer and mean pooling, as sentence-transformers stores it."""
    folder = root / ".tiny" / "sentence"
    (folder / "1_Pooling").mkdir(parents=True)
    for file in (root / ".tiny" / "bert").iterdir():
        (folder / file.name).symlink_to(file)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(vocabulary - 5))]
    (folder / "vocab.txt").write_text("\n".join(words))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))
