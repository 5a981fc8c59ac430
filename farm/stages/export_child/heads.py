"""A task's model and its head: the class of transformers that makes it, its labels, its exporter's view."""

from __future__ import annotations

from typing import Any, cast

from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig
from transformers import PretrainedConfig, PreTrainedModel, T5EncoderModel

#: optimum-onnx knows T5 as a translator alone.
_register = TasksManager.create_register("onnx", overwrite_existing=True)


@_register("t5", "feature-extraction", "token-classification")
class T5EncoderOnnxConfig(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum is untyped
    """How the encoder of a T5 is exported: ids and mask, no token types, no decoder."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """The names of the inputs and of their axes."""
        axes = {0: "batch_size", 1: "sequence_length"}
        return {"input_ids": axes, "attention_mask": axes}


def model_class(config: PretrainedConfig, task: str) -> Any:
    """The class whose `from_pretrained` makes a model for `task`, one of the exporter's own words."""
    if config.model_type == "t5" and task == "feature-extraction":
        return T5EncoderModel
    return TasksManager.get_model_class_for_task(task, framework="pt", library="transformers")


def new_model(config: PretrainedConfig, task: str) -> PreTrainedModel:
    """A model for `task` without a checkpoint; its weights are whatever its class makes of them."""
    found = model_class(config, task)
    return cast(PreTrainedModel, getattr(found, "from_config", found)(config))


def fit_head(config: PretrainedConfig, task: str) -> None:
    """A span has a start and an end, however many labels the model was trained to tell apart."""
    if task == "question-answering":
        config.num_labels = 2
