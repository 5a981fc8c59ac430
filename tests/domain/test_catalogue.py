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


def test_roberta_like_models_never_use_two_of_their_positions(catalogue: Catalogue) -> None:
    for facts in catalogue.models:
        if facts.usable_length is None:
            assert facts.model_type == "t5"
            continue
        behind_padding = facts.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
        assert facts.max_positions == facts.usable_length + (2 if behind_padding else 0)


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


def test_the_tasks_of_a_checkpoint_are_those_it_has_all_weights_for(catalogue: Catalogue) -> None:
    for facts in catalogue.models:
        assert facts.task in facts.tasks
        assert {"default", "feature-extraction", "sentence-similarity"} <= set(facts.tasks)
        assert len(facts.tasks) <= 4


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("bert-base-casd", "bert-base-cased"),
        ("google-bert/bert-base-uncase", "bert-base-uncased"),
        ("E5-Large", "intfloat/e5-large"),
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_near_names(catalogue: Catalogue, name: str, nearest: str) -> None:
    found = catalogue.near(name)
    assert found[0] == nearest
    assert len(set(found)) == len(found) <= 3


def test_nothing_is_near_to_what_is_like_no_name(catalogue: Catalogue) -> None:
    assert catalogue.near("zzzzzz") == ()
    assert catalogue.near("") == ()


def test_what_is_not_certain_is_said(catalogue: Catalogue) -> None:
    assert {facts.confidence for facts in catalogue.models} == {"verified", "derived"}
    assert sum(facts.confidence == "verified" for facts in catalogue.models) == 78
    assert all(facts.evidence for facts in catalogue.models)
    remote = [facts for facts in catalogue.models if facts.remote_code]
    assert [facts.positions for facts in remote] == ["alibi"]
    own = [facts for facts in catalogue.models if "own_code" in facts.architecture_facts()]
    assert own == remote


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
