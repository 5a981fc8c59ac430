"""The catalogue: what it knows of the models, by which names, and its limits."""

from __future__ import annotations

import pytest

from farm.domain.catalogue import Catalogue
from farm.domain.lut import LookupTable


def test_the_catalogue_knows_every_model_of_the_table(catalogue: Catalogue, table: LookupTable) -> None:
    assert {facts.model for facts in catalogue.models} == set(table.models)
    assert len(catalogue.listed()) == 80


def test_a_canonical_id_is_another_name_of_the_model(catalogue: Catalogue) -> None:
    facts = catalogue.get("google-bert/bert-base-cased")
    assert facts is not None
    assert facts is catalogue.get("bert-base-cased")
    assert catalogue.get("nobody/nothing") is None


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("bert-base-cased", 512),
        ("beomi/kcbert-base", 300),
        ("roberta-base", 512),
        ("xlm-roberta-large", 512),
        ("camembert-base", 512),
        ("sentence-transformers/all-mpnet-base-v2", 512),
        ("vinai/bertweet-base", 128),
        ("vinai/phobert-base", 256),
        ("BAAI/bge-reranker-v2-m3", 8192),
        ("microsoft/deberta-v3-base", 512),
        ("Rostlab/prot_bert", 40000),
        ("sentence-transformers/gtr-t5-large", None),
        ("nobody/nothing", None),
    ],
)
def test_usable_positions(catalogue: Catalogue, model: str, tokens: int | None) -> None:
    assert catalogue.usable_positions(model) == tokens


def test_every_row_of_the_table_fits_its_model(catalogue: Catalogue, table: LookupTable) -> None:
    for row in table.rows:
        limit = catalogue.usable_positions(row.model)
        assert limit is None or row.config.seq_length <= limit


def test_shapes_are_sound(catalogue: Catalogue) -> None:
    for facts in catalogue.models:
        assert facts.hidden % facts.heads == 0
        assert facts.params > facts.hidden * facts.layers
        assert facts.pad_id is None or facts.pad_id < facts.vocab
        assert facts.usable_length is None or facts.usable_length <= (facts.max_positions or 0)


def test_select(catalogue: Catalogue) -> None:
    small = catalogue.select(family="bert", max_params=5_000_000)
    assert {facts.model for facts in small} == {"google/bert_uncased_L-2_H-128_A-2", "prajjwal1/bert-tiny"}
    assert {f.model_type for f in catalogue.select(task="fill-mask")} >= {"bert", "roberta", "albert"}
    assert catalogue.select() == catalogue.models


def test_what_random_weights_are_made_from(catalogue: Catalogue) -> None:
    facts = catalogue.get("distilbert-base-cased")
    assert facts is not None
    assert facts.architecture_facts() == {
        "model_type": "distilbert",
        "num_hidden_layers": 6,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 28996,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "hidden_act": "gelu",
    }
