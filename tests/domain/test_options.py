"""Options: what their texts mean, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.domain.options import BY_FIELD, BY_FLAG, OPTIONS, Request, parse_devices, split_extra

#: What a request says of its models: chosen by options of their own, not of a job.
CHOSEN = {"models", "whole_list"}


def test_each_option_fills_a_field_and_no_flag_is_used_twice() -> None:
    assert {option.field for option in OPTIONS} == {f.name for f in fields(Request)} - CHOSEN
    assert len(BY_FLAG) == sum(len(option.flags) for option in OPTIONS)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("batch_size", "1,2, 4", (1, 2, 4)),
        ("batch_size", "8.0", (8,)),
        ("mos", "12", 12),
        ("min_cosine", "0.999", 0.999),
        ("objectives", "balanced,best-latency", ("balanced", "best-latency")),
        ("task", "default", "default"),
        ("devices", "0-2,5", ("0", "1", "2", "5")),
        ("extra", " -a  b ", " -a  b "),
    ],
)
def test_texts(field: str, text: str, value: object) -> None:
    assert BY_FIELD[field].parse(text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("batch_size", "1,,2"),
        ("batch_size", ""),
        ("mos", "1 -x"),
        ("mos", "1e3"),
        ("min_cosine", "nan"),
        ("devices", ""),
    ],
)
def test_texts_that_are_refused(field: str, text: str) -> None:
    with pytest.raises(BadInput, match=BY_FIELD[field].flags[0]):
        BY_FIELD[field].parse(text)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"batch_size": (0,)}, "--batch-size 0 is out of range; allowed: 1 to 4096"),
        ({"batch_size": (8, True)}, "--batch-size True is not a number"),
        ({"batch_size": ()}, "--batch-size names no value"),
        ({"seq_length": (65537,)}, "--seq-length 65537"),
        ({"cores": (0,)}, "--cores 0 is out of range; allowed: 1 or more"),
        ({"instances": (-1,)}, "--instances -1"),
        ({"set_size": (1, 11)}, "--set-size 11 is out of range; allowed: 1 to 10"),
        ({"ols": 0}, "--ols 0"),
        ({"mos": "4"}, "--mos '4' is not a number"),
        ({"opset": 21}, "--opset 21"),
        ({"seconds": 0}, "--time 0"),
        ({"seed": -1}, "--seed -1"),
        ({"repeat": 0}, "--repeat 0"),
        ({"min_cosine": float("nan")}, "--min-cosine nan is out of range"),
        ({"task": "translation"}, "--task 'translation' is not known; choose default, fill-mask"),
        ({"objectives": ("balanced", "fastest")}, "--objective 'fastest'"),
        ({"precision": "int8"}, "--precision 'int8' is not known; choose fp16"),
        ({"weights": "local"}, "--weights 'local'"),
        ({"route": "carrier pigeon"}, "--api-run"),
        ({"models": ()}, "no model named"),
    ],
)
def test_values_that_are_refused(asked: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput) as refused:
        Request(**({"models": ("bert-base-cased",)} | asked)).check()
    assert str(refused.value).startswith(part)


def test_what_is_allowed_passes() -> None:
    Request(
        models=("a",),
        objectives=("all",),
        task="all",
        batch_size=(1, 4096),
        cores=(16,),
        set_size=(10,),
        ols=4,
        mos=99,
        opset=20,
        seconds=1,
        seed=2**32 - 1,
        weights="random",
        route="api",
        repeat=1000,
        min_cosine=1,
    ).check()


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("3", ("3",)),
        ("0-3,2", ("0", "1", "2", "3")),
        ("15", ("15",)),
        ("device.7", ("7",)),
        ("n1.0-1, n-2.3", ("n1.0", "n1.1", "n-2.3")),
        ("device.n1.4", ("n1.4",)),
    ],
)
def test_devices(text: str, cards: tuple[str, ...]) -> None:
    assert parse_devices(text) == cards


@pytest.mark.parametrize("text", ["", "3-1", "a", "-1", "0-", "0;1", "0-99999", "0,,1", "n 1.0", "n1."])
def test_devices_that_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--devices"):
        parse_devices(text)


def test_extra_is_split_as_a_shell_would_and_never_run() -> None:
    assert split_extra(" -a 'b c'  -d=\"e f\" ") == ("-a", "b c", "-d=e f")
    assert split_extra("$(id) `id` ;") == ("$(id)", "`id`", ";")
    assert split_extra("") == ()


@given(st.text(max_size=30))
def test_extra_is_split_or_refused(text: str) -> None:
    try:
        parts = split_extra(text)
    except BadInput:
        return
    assert "\x00" not in "".join(parts)


@given(st.sampled_from([o for o in OPTIONS if o.kind not in ("text", "switch")]), st.text(max_size=20))
def test_no_text_raises_anything_but_bad_input(option: Any, text: str) -> None:
    try:
        value = option.parse(text)
        option.check(value)
    except BadInput:
        return
    assert value not in (None, (), "")
