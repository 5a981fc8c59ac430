"""The models the farm knows: what their configurations say, and how long an input they take."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from farm.data import model_rows
from farm.domain.job import TASKS, Task

#: Tasks that need no head: they give the encoder's own outputs, or a pooled one.
_HEADLESS = ("default", "feature-extraction", "sentence-similarity")


@dataclass(frozen=True)
class ModelFacts:
    """One model of the catalogue. Sizes count elements, params weights (tied embeddings once).

    listed: one of the 80 models the SDK's encoder sample lists. task: what the weights were trained for.
    usable_length: the longest sequence in tokens, None where the architecture sets no limit; positions:
    how the architecture knows them. pooling: what sentence-transformers puts behind the encoder, such as
    `cls normalize`; None where the repository names nothing, which makes it a mean. packages: what the
    tokenizer imports besides transformers.
    confidence is `verified` or `derived`, evidence what of; doubt says what is not certain.
    """

    model: str
    listed: bool
    canonical: str
    model_type: str
    architecture: str | None
    task: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocab: int
    max_positions: int | None
    usable_length: int | None
    positions: str
    type_vocab: int | None
    embedding: int | None
    labels: int | None
    pooling: str | None
    pad_id: int | None
    activation: str
    params: int
    tokenizer: str | None
    packages: tuple[str, ...]
    packages_note: str | None
    remote_code: bool
    confidence: str
    evidence: str
    doubt: str | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks the checkpoint has all weights for; any other of its family gets a head from the seed."""
        return tuple(task for task in TASKS if task == self.task or task in _HEADLESS)

    def architecture_facts(self) -> dict[str, str | int]:
        """What a model with random weights is built from, under BERT's own configuration names.

        own_code stands there, and is True, where no class of transformers builds the model.
        """
        facts: dict[str, str | int | None] = {
            "model_type": self.model_type,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.type_vocab,
            "embedding_size": self.embedding,
            "num_labels": self.labels,
            "pooling": self.pooling,
            "pad_token_id": self.pad_id,
            "hidden_act": self.activation,
            "own_code": True if self.remote_code else None,
        }
        return {name: value for name, value in facts.items() if value is not None}


class Catalogue:
    """The models by id; a canonical hub id (`google-bert/bert-base-cased`) is another name of its model."""

    def __init__(self, models: Iterable[ModelFacts]) -> None:
        self.models: tuple[ModelFacts, ...] = tuple(models)

    @classmethod
    def load(cls) -> Catalogue:
        """The catalogue the package carries."""
        return _shipped()

    @cached_property
    def _by_name(self) -> Mapping[str, ModelFacts]:
        return {facts.canonical: facts for facts in self.models} | {
            facts.model: facts for facts in self.models
        }

    def get(self, model: str) -> ModelFacts | None:
        """The facts of a model by its id or its canonical id, None for a model the catalogue lacks."""
        return self._by_name.get(model)

    def usable_positions(self, model: str) -> int | None:
        """The longest sequence the model takes, in tokens; None where there is no limit or none is known.

        RoBERTa and MPNet count positions from behind the padding index, so two of theirs are never used.
        """
        facts = self.get(model)
        return facts.usable_length if facts else None

    def listed(self) -> tuple[str, ...]:
        """The 80 listed models, in catalogue order."""
        return tuple(facts.model for facts in self.models if facts.listed)

    def families(self) -> tuple[str, ...]:
        """Every model_type of the catalogue, sorted."""
        return tuple(sorted({facts.model_type for facts in self.models}))

    def near(self, name: str) -> tuple[str, ...]:
        """Up to three models whose id, canonical id or bare name is like `name` or holds it."""
        spelled = {
            alias.lower(): facts.model
            for facts in self.models
            for alias in (facts.model.rpartition("/")[2], facts.canonical, facts.model)
        }
        wanted = name.lower()
        found = difflib.get_close_matches(wanted, spelled, n=6, cutoff=0.6)
        found += sorted((alias for alias in spelled if len(wanted) > 2 and wanted in alias), key=len)
        return tuple(dict.fromkeys(spelled[alias] for alias in found))[:3]

    def select(
        self, *, family: str | None = None, task: str | None = None, max_params: int | None = None
    ) -> tuple[ModelFacts, ...]:
        """The models of a family (model_type) trained for a task, up to a number of parameters."""
        return tuple(
            facts
            for facts in self.models
            if family in (None, facts.model_type)
            and task in (None, facts.task)
            and (max_params is None or facts.params <= max_params)
        )


@cache
def _shipped() -> Catalogue:
    return Catalogue(map(_facts, model_rows()))


def _facts(row: Mapping[str, str]) -> ModelFacts:
    def number(column: str) -> int | None:
        return int(row[column]) if row[column] else None

    return ModelFacts(
        model=row["model"],
        listed=row["listed"] == "yes",
        canonical=row["canonical"],
        model_type=row["model_type"],
        architecture=row["architecture"] or None,
        task=row["task"],
        layers=int(row["layers"]),
        hidden=int(row["hidden"]),
        heads=int(row["heads"]),
        intermediate=int(row["intermediate"]),
        vocab=int(row["vocab"]),
        max_positions=number("max_positions"),
        usable_length=number("usable_length"),
        positions=row["positions"],
        type_vocab=number("type_vocab"),
        embedding=number("embedding"),
        labels=number("labels"),
        pooling=row["pooling"] or None,
        pad_id=number("pad_id"),
        activation=row["activation"],
        params=int(row["params"]),
        tokenizer=row["tokenizer"] or None,
        packages=tuple(row["packages"].split()),
        packages_note=row["packages_note"] or None,
        remote_code=row["remote_code"] == "yes",
        confidence=row["confidence"],
        evidence=row["evidence"],
        doubt=row["doubt"] or None,
    )
