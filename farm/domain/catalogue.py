"""The models the farm knows: what their configurations say, and how long an input they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from farm.data import model_rows


@dataclass(frozen=True)
class ModelFacts:
    """One model of the catalogue. Sizes count elements, params weights (tied embeddings once).

    listed: one of the 80 models the SDK's encoder sample lists. task: what the weights can do.
    usable_length: the longest sequence in tokens, None where the architecture sets no limit.
    confidence is `verified` or `derived`; doubt says what is not certain.
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
    type_vocab: int | None
    embedding: int | None
    labels: int | None
    pad_id: int | None
    activation: str
    params: int
    packages: tuple[str, ...]
    remote_code: bool
    confidence: str
    doubt: str | None

    def architecture_facts(self) -> dict[str, str | int]:
        """What a model with random weights is built from, under BERT's own configuration names."""
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
            "pad_token_id": self.pad_id,
            "hidden_act": self.activation,
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

    def select(
        self, *, family: str | None = None, task: str | None = None, max_params: int | None = None
    ) -> tuple[ModelFacts, ...]:
        """The models of a family (model_type) whose weights serve a task, up to a number of parameters."""
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
        type_vocab=number("type_vocab"),
        embedding=number("embedding"),
        labels=number("labels"),
        pad_id=number("pad_id"),
        activation=row["activation"],
        params=int(row["params"]),
        packages=tuple(row["packages"].split()),
        remote_code=row["remote_code"] == "yes",
        confidence=row["confidence"],
        doubt=row["doubt"] or None,
    )
