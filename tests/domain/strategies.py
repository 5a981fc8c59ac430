"""Hypothesis strategies for the values of the domain."""

from __future__ import annotations

from hypothesis import strategies as st

from farm.domain.job import OBJECTIVES, TASKS, CardConfiguration, Job, Published
from farm.domain.lut import LutRow
from farm.domain.names import MULTICAST

MODELS = st.sampled_from(["bert-base-cased", "prajjwal1/bert-tiny", "org/model_x.v2", "albert-base-v2"])
EXTRAS = st.lists(st.sampled_from([MULTICAST, "-a b", "-x='1'", "-node=$HOME", "-y"]), max_size=3).map(tuple)
FIGURES = st.floats(min_value=1e-3, max_value=1e9, allow_nan=False)

CONFIGURATIONS = st.builds(
    CardConfiguration,
    batch_size=st.integers(1, 64),
    seq_length=st.integers(1, 512),
    cores=st.integers(1, 16),
    instances=st.integers(1, 16),
    set_size=st.integers(1, 10),
    ols=st.none() | st.integers(1, 16),
    mos=st.none() | st.integers(1, 16),
    extra=EXTRAS,
)

ROWS = st.builds(
    LutRow,
    line=st.just(1),
    model=MODELS,
    task=st.sampled_from(TASKS),
    objective=st.sampled_from(OBJECTIVES),
    precision=st.just("fp16"),
    config=CONFIGURATIONS,
    published=st.none() | st.builds(Published, FIGURES, FIGURES),
)
ROW_LISTS = st.lists(ROWS, max_size=12, unique_by=lambda row: row.key)

JOBS = st.builds(
    Job,
    model=MODELS,
    task=st.sampled_from(TASKS),
    objective=st.sampled_from(OBJECTIVES),
    config=CONFIGURATIONS,
    revision=st.none() | st.sampled_from(["main", "refs/pr/1"]),
    weights=st.sampled_from(["hub", "random"]),
    opset=st.sampled_from([13, 14, 17]),
    seed=st.integers(0, 2),
    seconds=st.sampled_from([1, 20]),
    route=st.sampled_from(["runner", "api"]),
    repeat=st.integers(0, 2),
    run_only=st.booleans(),
    devices=st.none() | st.just(("0", "3")),
    published=st.none() | st.builds(Published, FIGURES, FIGURES),
    sources=st.just({"opset": "user"}),
)
