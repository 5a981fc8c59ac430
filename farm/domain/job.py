"""A job: one model, task, objective, card configuration and route, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Task = Literal[
    "default",
    "fill-mask",
    "question-answering",
    "text-classification",
    "token-classification",
    "feature-extraction",
    "sentence-similarity",
]
Objective = Literal["best-throughput", "best-latency", "balanced"]
Route = Literal["runner", "api"]
Weights = Literal["hub", "local", "random"]
Source = Literal["user", "table", "default", "derived"]
StageKind = Literal["export", "reference", "compile", "run", "compare"]

TASKS: tuple[Task, ...] = get_args(Task)
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
STAGE_KINDS: tuple[StageKind, ...] = get_args(StageKind)

#: The opset of the export where the user names none.
DEFAULT_OPSET = 13
#: Seconds of one run where the user names none (as the SDK's single-model script).
DEFAULT_SECONDS = 20


@dataclass(frozen=True)
class CardConfiguration:
    """How a model is compiled and run. ols/mos None: the flag is left out and the compiler chooses.

    cores is NSPs per instance, instances are activations, set_size is inferences in flight per
    activation; extra holds further compiler arguments, already split.
    """

    batch_size: int
    seq_length: int
    cores: int
    instances: int
    set_size: int
    ols: int | None = None
    mos: int | None = None
    extra: tuple[str, ...] = ()

    @property
    def cores_needed(self) -> int:
        """NSPs the configuration occupies on a card."""
        return self.cores * self.instances


@dataclass(frozen=True)
class Published:
    """The figures of a table row: samples per second, and p95 of one batched request in ms."""

    inf_s: float
    latency_ms: float


@dataclass(frozen=True)
class Job:
    """What a user submits and reads a result for. Serialised with `to_json`/`from_json`.

    model is a hub id without revision, or the absolute path of a checkpoint folder or .onnx file.
    published is set only when every configuration value, task and precision equal the row's.
    devices are the QIDs the job may run on, None for any.
    """

    model: str
    task: Task
    objective: Objective
    config: CardConfiguration
    revision: str | None = None
    weights: Weights = "hub"
    precision: str = "fp16"
    opset: int = DEFAULT_OPSET
    seed: int = 0
    seconds: int = DEFAULT_SECONDS
    route: Route = "runner"
    repeat: int = 0
    min_cosine: float = 0.99
    trust_remote_code: bool = False
    run_only: bool = False
    devices: tuple[str, ...] | None = None
    lut_digest: str | None = None
    published: Published | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; tuples become lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """The job that `to_json` wrote."""
        fields = dict(data)
        config = dict(fields["config"])
        config["extra"] = tuple(config["extra"])
        fields["config"] = CardConfiguration(**config)
        if fields.get("devices") is not None:
            fields["devices"] = tuple(fields["devices"])
        if fields.get("published") is not None:
            fields["published"] = Published(**fields["published"])
        return cls(**fields)
