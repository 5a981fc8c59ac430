"""The families of encoders (transformers' model_type): their tasks, positions and lowest opset."""

from __future__ import annotations

from collections.abc import Mapping

from farm.domain.errors import BadInput
from farm.domain.job import TASKS, Task
from farm.domain.options import one_of

#: The families a model can be built of without its files, each with the lowest opset that has its operators.
LOWEST_OPSET: Mapping[str, int] = {
    "albert": 13,
    "bert": 13,
    "camembert": 13,
    "deberta-v2": 12,
    "distilbert": 13,
    "electra": 10,
    "mpnet": 12,
    "roberta": 13,
    "t5": 12,
    "xlm-roberta": 13,
}
#: What transformers can put on the encoder of a T5 alone; its other heads read the decoder.
_HEADS: Mapping[str, tuple[Task, ...]] = {
    "t5": ("default", "token-classification", "feature-extraction", "sentence-similarity"),
}
#: Families whose positions start behind the padding id, so that the table is that much longer than an input.
_BEHIND_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl"}


def tasks_of(family: str | None) -> tuple[Task, ...]:
    """The tasks a model of the family can be exported for; all of them for a family not known."""
    return _HEADS.get(family or "", TASKS)


def no_head(family: str | None, task: str) -> str | None:
    """Why no model of the family can do `task`, None where one can."""
    known = tasks_of(family)
    if task in known:
        return None
    return f"the encoder of a {family} has no head for {task}; choose {one_of(known)}"


def check_opset(family: str, opset: int) -> None:
    """Raises BadInput for an opset the user named that lacks operators of the family."""
    lowest = LOWEST_OPSET.get(family, 0)
    if opset < lowest:
        raise BadInput(
            f"--opset {opset}: a {family} needs opset {lowest} or higher; leave --opset out for the default"
        )


def usable_positions(family: str, positions: int | None, pad_id: int | None) -> int | None:
    """The longest input in tokens of a table of `positions`, None where the family sets no limit."""
    if positions is None or positions <= 0:
        return None
    if family not in _BEHIND_PADDING:
        return positions
    # MPNet's padding index is 1 whatever its configuration says.
    padding = 1 if family == "mpnet" or pad_id is None else pad_id
    return positions - padding - 1
