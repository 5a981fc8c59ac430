"""The look-up table: what its reader takes and refuses, and its lookups."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.domain.job import CardConfiguration, Published
from farm.domain.lut import COLUMNS, LookupTable, LutRow, read_lut, rows_to_lut
from farm.domain.names import MULTICAST
from tests.domain.strategies import ROW_LISTS

HEADER = ",".join(COLUMNS)
ROW = "bert-base-cased,fill-mask,8,128,2,7,2,1,-multicast-weights,4,fp16,best-throughput,741.4,44.4"

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(BadInput) as refused:
        read_lut(write(folder, text))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_shipped_table(table: LookupTable, shipped_table: Path) -> None:
    assert len(table.rows) == 417
    assert len(table.models) == 89
    assert table.digest == hashlib.sha256(shipped_table.read_bytes()).hexdigest()
    assert table.rows[0].line == 2
    assert table.rows[0].model == "BAAI/bge-reranker-large"
    assert sum(row.config.ols is None for row in table.rows) == 71
    assert sum(row.config.mos is None for row in table.rows) == 48
    assert sum(row.config.extra == (MULTICAST,) for row in table.rows) == 208
    assert max(row.config.cores_needed for row in table.rows) == 14
    assert all(row.published for row in table.rows)


def test_the_table_at_the_top_is_the_one_shipped(shipped_table: Path) -> None:
    top = Path(__file__).parents[2] / "lut_nlp_models.csv"
    assert top.read_bytes() == shipped_table.read_bytes()


def test_writing_the_shipped_table_gives_it_back(table: LookupTable, shipped_table: Path) -> None:
    assert rows_to_lut(table.rows) == shipped_table.read_text()


def test_the_sdk_s_own_layout_is_taken(tmp_path: Path) -> None:
    text = (
        f"\ufeff{HEADER}\n"
        "a/b,default,4,128,1,14,2,1, ,2,fp16,best-throughput,2115,55.5\n"
        f"{',' * 13}\n"
        "a/b,default,1,128,14,1,,, -multicast-weights,1,fp16,best-latency,496.7,2.06\n"
    )
    first, second = read_lut(write(tmp_path, text)).rows
    assert (first.line, second.line) == (2, 4)
    assert first.config == CardConfiguration(4, 128, 1, 14, 2, ols=2, mos=1)
    assert second.config == CardConfiguration(1, 128, 14, 1, 1, extra=(MULTICAST,))
    assert second.published == Published(496.7, 2.06)


def test_padding_order_case_further_columns_and_spreadsheet_numbers_are_taken(tmp_path: Path) -> None:
    columns = [*reversed(COLUMNS), "THPJ", ""]
    cells = [*reversed(ROW.split(",")), "3.5", "X"]
    cells = [f"  {cell}.0 " if cell == "128" else f" {cell} " for cell in cells]
    text = "\r\n" + ", ".join(column.lower() for column in columns) + "\r\n" + ",".join(cells) + "\r\n"
    [row] = read_lut(write(tmp_path, text)).rows
    [plain] = read_lut(write(tmp_path, f"{HEADER}\n{ROW}\n")).rows
    assert (row.key, row.config, row.published) == (plain.key, plain.config, plain.published)
    assert row.config.seq_length == 128


def test_a_row_without_figures_has_none_published(tmp_path: Path) -> None:
    [row] = read_lut(write(tmp_path, f"{HEADER}\n{ROW.replace('741.4,44.4', ',')}\n")).rows
    assert row.published is None


def test_lookups(table: LookupTable) -> None:
    row = table.row("bert-base-cased", "fill-mask", "best-throughput")
    assert row is not None
    assert row.config == CardConfiguration(6, 128, 7, 2, 2, ols=2, mos=1)
    assert table.row("bert-base-cased", "default", "best-throughput") is None
    assert table.row("bert-base-cased", "fill-mask", "best-throughput", "int8") is None
    assert table.tasks("bert-base-cased") == ("question-answering", "fill-mask")
    assert set(table.objectives("bert-base-cased")) == {"best-throughput", "balanced", "best-latency"}
    assert table.objectives("intfloat/e5-large") == ("best-throughput",)
    assert table.first_task("bert-base-cased", "balanced") == "question-answering"
    assert table.first_task("intfloat/e5-large", "best-latency") == "sentence-similarity"
    assert table.first_task("nobody/nothing", "balanced") is None
    assert table.tasks("nobody/nothing") == ()
    assert table.has("bert-base-cased")
    assert not table.has("nobody/nothing")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("MODEL_NAME", "../x"),
        ("MODEL_NAME", ";rm"),
        ("MODEL_NAME", ""),
        ("MODEL_NAME", "bert-base-cased@main"),
        ("TASK", "translation"),
        ("TASK", ""),
        ("TASK", "all"),
        ("OBJECTIVE", "fastest"),
        ("PRECISION", ""),
        ("PRECISION", "fp 16"),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "-3"),
        ("BATCH_SIZE", "2.5"),
        ("BATCH_SIZE", ""),
        ("BATCH_SIZE", "eight"),
        ("BATCH_SIZE", "9" * 5000),
        ("BATCH_SIZE", "4097"),
        ("SEQUENCE_LENGTH", "0"),
        ("CORES", "0"),
        ("INSTANCES", "0"),
        ("OLS", "0"),
        ("MOS", "1 -x"),
        ("SET_SIZE", "11"),
        ("SET_SIZE", "٣"),
        ("EXTRA", "-x '"),
        ("EXTRA", "-x\x07"),
        ("THPS", "fast"),
        ("THPS", "-1"),
        ("THPS", "nan"),
        ("THPS", "1e999"),
        ("LATENCY", "0"),
        ("LATENCY", "1_0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, column: str, value: str) -> None:
    cells = ROW.split(",")
    cells[COLUMNS.index(column)] = f'"{value}"'
    message = refusal(tmp_path, f"{HEADER}\n\n{','.join(cells)}\n")
    assert message.startswith(f"{tmp_path / 'table.csv'}, line 3: column {column}:")
    assert len(message) < 500


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("\n,,\n", "is empty"),
        (HEADER.replace("MOS,", "") + "\n", "column MOS is missing"),
        (f"{HEADER},cores\n", "column CORES is there more than once"),
        (f"{HEADER}\n{ROW},further\n", "line 2: 15 cells under a header of 14"),
        (f"{HEADER}\n{ROW.rpartition(',')[0]}\n", "line 2: 13 cells under a header of 14"),
        (f'{HEADER}\n"a\n', "line 2"),
        (f'{HEADER}\n"bert"{ROW.removeprefix("bert")}\n', "line 2: ',' expected after"),
        (
            f"{HEADER}\n{ROW}\n\n{ROW}\n",
            "line 4: bert-base-cased, fill-mask, best-throughput, fp16 is already in line 2",
        ),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, text: str | bytes, part: str) -> None:
    assert part in refusal(tmp_path, text)


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_lut(path)


@given(ROW_LISTS)
@one_folder
def test_rows_come_back_as_they_were_written(tmp_path: Path, rows: list[LutRow]) -> None:
    back = read_lut(write(tmp_path, rows_to_lut(rows)))
    assert [(r.key, r.config, r.published) for r in back.rows] == [
        (r.key, r.config, r.published) for r in rows
    ]
    assert [row.line for row in back.rows] == list(range(2, len(rows) + 2))
    assert all(back.row(*row.key) is row for row in back.rows)


CELLS = st.sampled_from(
    ["", "1", "-1", "2.0", "fp16", "default", "balanced", "bert", "é", '"', "'", "\r", "\x00", " ", "nan"]
)
MANGLED = st.lists(st.lists(CELLS | st.text(max_size=5), max_size=16).map(",".join), max_size=6).map(
    "\n".join
)


@given(
    st.binary(max_size=300) | MANGLED.map(str.encode) | MANGLED.map(lambda rows: f"{HEADER}\n{rows}".encode())
)
@one_folder
def test_no_file_raises_anything_but_bad_input(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    try:
        table = read_lut(path)
    except BadInput as error:
        message = str(error)
    else:
        message = ""
        assert table.digest == hashlib.sha256(content).hexdigest()
    assert "\n" not in message


@given(st.data())
@one_folder
def test_a_damaged_table_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    good = f"{HEADER}\n{ROW}\n".encode()
    at = data.draw(st.integers(0, len(good)))
    damaged = good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(0, 4)) :]
    try:
        rows = read_lut(write(tmp_path, damaged)).rows
    except BadInput:
        return
    assert all(row.config.batch_size >= 1 and row.config.set_size in range(1, 11) for row in rows)
