"""Whatever a user gives, a file or a value, becomes what it says or is refused in one line that names it."""

from __future__ import annotations

import csv
import io
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.catalogue import Catalogue
from farm.domain.errors import BadInput
from farm.domain.job import OBJECTIVES, TASKS, Job
from farm.domain.lut import COLUMNS, LookupTable, read_lut
from farm.domain.models_file import read_models_file
from farm.domain.names import split_model
from farm.domain.options import OPTIONS, Option, Request
from farm.domain.resolve import MOST_JOBS, resolve
from farm.domain.sizes import MIB, parse_size
from farm.sdk.extra import check_extra
from tests.hostile import CONTROLS, NUMBERS, SYNTAX, TEXTS, damaged

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

HEADER = ",".join(COLUMNS)
TABLE = f"""{HEADER}
bert-base-cased,fill-mask,8,128,2,7,2,1,-multicast-weights,4,fp16,best-throughput,741.4,44.4
bert-base-cased,fill-mask,1,128,12,1,,,,1,fp16,best-latency,412,2.06

"org/name",default,2.0,384,6,2,1,6," -mxfp6-matmul -stats-level=70",1,fp16,balanced,,
"""
MODELS = """# of last week
bert-base-cased -b 1,8 -s 128 --seed 7
org/name@main --task=fill-mask -o best-latency -o balanced --extra "-mxfp6-matmul -stats-level=70"
albert-base-v2 -d 0-3 -d n1.4 --min-cosine 0.5 --trust-remote-code -a  # the short ones
"""


def refused(error: BadInput, *named: str) -> None:
    """The refusal is one printable line of bounded length that names what was wrong."""
    message = str(error)
    assert message.isprintable()
    assert len(message) < 1000
    assert all(name in message for name in named), message


def lines_of(text: str) -> int:
    return len(re.findall("\r\n|\r|\n", text)) + 1


@given(TEXTS | damaged(TABLE), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
@one_folder
def test_a_table(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding, "surrogatepass" if encoding[:3] == "utf" else "replace"))
    try:
        table = read_lut(path)
    except BadInput as error:
        refused(error, "table.csv")
        found = re.search(r"line (\d+)", str(error))
        assert found is None or 1 <= int(found[1]) <= lines_of(text)
        return
    # An independent reading of the same bytes has the same rows, and no value is another one.
    read = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    cells = [[cell.strip() for cell in row] for row in read if any(cell.strip() for cell in row)]
    names = [name.upper() for name in cells[0]]
    assert len(table.rows) == len(cells) - 1
    for row, given_ in zip(table.rows, cells[1:], strict=True):
        by_name = dict(zip(names, given_, strict=False))
        config = row.config
        assert (row.model, row.task, row.objective) == tuple(
            by_name[name] for name in ("MODEL_NAME", "TASK", "OBJECTIVE")
        ) or row.model.startswith("/")
        for name, value in (
            ("BATCH_SIZE", config.batch_size),
            ("CORES", config.cores),
            ("OLS", config.ols),
            ("SET_SIZE", config.set_size),
        ):
            assert value is None or value == float(by_name[name]) >= 1
        assert config.set_size <= 10
        if row.published:
            assert row.published.inf_s == float(by_name["THPS"])
            assert min(row.published.inf_s, row.published.latency_ms) > 0
            assert max(row.published.inf_s, row.published.latency_ms) < math.inf


def test_a_table_whose_own_name_is_hostile(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31mb.csv"
    path.write_text("x\n")
    with pytest.raises(BadInput) as error:
        read_lut(path)
    refused(error.value, r"a \x1b[31mb.csv, line 1: column MODEL_NAME is missing")


BASE = Request(models=(), seconds=5)


@given(TEXTS | damaged(MODELS))
@one_folder
def test_a_models_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        requests = read_models_file(path, BASE)
    except BadInput as error:
        refused(error, "models.txt")
        found = re.search(r"line (\d+)", str(error))
        assert found is None or 1 <= int(found[1]) <= lines_of(text)
        return
    assert 1 <= len(requests) <= lines_of(text)
    for request in requests:
        [model] = request.models
        # The name stands in the file as it was taken: nothing was cut off it.
        unquoted = re.sub(r"['\"\\\ufeff]", "", text)
        assert re.search(rf"(?:^|\s){re.escape(model)}(?=\s|$)", unquoted)
        split_model(model)
        request.check()


#: Values near right ones, one option each.
WORDS = TEXTS | NUMBERS | st.sampled_from(["1,2", "0-7", "n1.0-3", "1,,2", "fill-mask", "balanced,all"])


@given(st.sampled_from([option for option in OPTIONS if option.kind != "switch"]), WORDS)
def test_an_option(option: Option, text: str) -> None:
    try:
        value = option.parse(text)
        option.check(value)
    except BadInput as error:
        refused(error, "--devices" if option.kind == "devices" else option.flags[0])
        return
    if option.choices:
        assert all(v in option.choices for v in (value if isinstance(value, tuple) else (value,)))
    elif option.kind in ("whole", "wholes", "number"):
        parts = text.split(",") if option.kind == "wholes" else [text]
        values = value if option.kind == "wholes" else (value,)
        assert list(values) == [float(part.strip()) for part in parts]
        assert all(option.low is None or v >= option.low for v in values)
        assert all(option.high is None or v <= option.high for v in values)
    elif option.kind == "devices":
        assert all(re.fullmatch(r"(?:[A-Za-z0-9][\w-]*\.)?[0-9]{1,4}", device, re.ASCII) for device in value)


MODEL_NAMES = st.sampled_from(["bert-base-cased", "org/x@main", "albert-base-v2"])
FEW = st.none() | st.lists(st.integers(1, 14), min_size=1, max_size=2).map(tuple)
MANY = st.none() | st.lists(st.integers(-1, 70_000), max_size=3).map(tuple)
#: A field's usual values, and unusual ones.
FIELDS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "models": (MODEL_NAMES.map(lambda name: (name,)), st.lists(TEXTS, max_size=2).map(tuple)),
    "objectives": (st.none() | st.sampled_from(OBJECTIVES).map(lambda o: (o,)), st.just(("all", "x"))),
    "task": (st.none() | st.sampled_from([*TASKS, "all"]), TEXTS),
    "batch_size": (FEW, MANY),
    "seq_length": (FEW, MANY),
    "cores": (FEW, MANY),
    "instances": (FEW, MANY),
    "set_size": (st.none() | st.just((1, 4)), MANY),
    "ols": (st.none() | st.integers(1, 14), st.integers(-1, 10**12)),
    "extra": (st.none() | st.just("-mxfp6-matmul -v"), TEXTS | damaged("-mxfp6-matmul -stats-level=70 -v")),
    "opset": (st.none() | st.integers(13, 17), st.integers(5, 22)),
    "seconds": (st.none() | st.integers(1, 60), st.integers(-1, 90_000)),
    "weights": (st.sampled_from([None, "hub", "random"]), TEXTS),
    "repeat": (st.integers(1, 3), st.integers(-1, 1001)),
    "min_cosine": (st.none() | st.floats(0, 1), st.floats()),
}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request of usual values but for at most one."""
    odd = draw(st.sampled_from([None, *FIELDS]))
    return Request(**{name: draw(both[name == odd]) for name, both in FIELDS.items()})


@given(request=requests())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_a_request(request: Request, table: LookupTable, catalogue: Catalogue) -> None:
    try:
        jobs = resolve(request, table, catalogue, 14, check_extra)
    except BadInput as error:
        refused(error)
        return
    assert 1 <= len(jobs) <= MOST_JOBS
    for job in jobs:
        check_job(job, request)


def check_job(job: Job, request: Request) -> None:
    """The job fits the card, its values are in range, and what the user said is what it has."""
    config = job.config
    assert 1 <= config.cores_needed <= 14
    assert 1 <= config.set_size <= 10
    assert 1 <= config.batch_size <= 4096
    assert 1 <= job.seconds <= 86400
    assert 0 <= job.min_cosine <= 1
    assert job.task in TASKS
    assert job.objective in OBJECTIVES
    assert check_extra(config.extra) == config.extra
    for name in ("batch_size", "seq_length", "cores", "instances", "set_size"):
        listed: Any = getattr(request, name)
        if job.sources[name] == "user":
            assert getattr(config, name) in listed
        else:
            assert listed is None
    assert Job.from_json(job.to_json()) == job


def test_lists_that_multiply_beyond_reason_are_refused_at_once(
    table: LookupTable, catalogue: Catalogue
) -> None:
    many = tuple(range(1, 1000))
    request = Request(models=("bert-base-cased",), batch_size=many, seq_length=many, set_size=(1, 2))
    with pytest.raises(BadInput, match=f"make 1996002 jobs of 'bert-base-cased', more than {MOST_JOBS}"):
        resolve(request, table, catalogue)


UNITS = st.sampled_from(["", "K", "M", "g", "T", "GiB", "MB", "\u212a", "iB", "P", " G", ".G"])
COUNTS = NUMBERS | st.integers(0, 10**6).map(str) | st.decimals(0, 10**6, places=3).map(str)


@given(TEXTS | st.tuples(COUNTS, UNITS).map("".join))
def test_a_size(text: str) -> None:
    try:
        size = parse_size(text, "--store-limit")
    except BadInput as error:
        refused(error, "--store-limit")
        return
    found = re.fullmatch(r"([0-9.]+)\s*([KMGT]?)I?B?", text.strip().upper())
    assert found
    exact = Fraction(found[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[found[2]]
    assert size >= MIB
    assert math.isclose(size, exact, rel_tol=1e-9, abs_tol=1)


@pytest.mark.parametrize("text", ["9" * 400, "4\u212a", "٣G", f"{'9' * 5000}T", "1e9", "-30G", ""])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_size(text, "--store-limit")
    refused(error.value, "--store-limit")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filler", [" ", '"', "'", ",", "\\", "#", "a ", "-b 1 ", "\r", '",'])
def test_long_input_takes_no_longer_than_its_length(tmp_path: Path, filler: str) -> None:
    path = tmp_path / "long"
    text = filler * (100_000 // len(filler))
    for read in (read_lut, lambda path: read_models_file(path, BASE)):
        for before in ("", f"{HEADER}\n", "bert-base-cased "):
            path.write_text(before + text)
            try:
                read(path)
            except BadInput as error:
                refused(error, "long")


@given(CONTROLS | SYNTAX | TEXTS)
def test_every_refusal_is_one_printable_line(text: str) -> None:
    assert str(BadInput(f"value {text} is none")).isprintable()
