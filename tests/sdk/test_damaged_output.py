"""What the SDK's tools print, damaged: believed with its figures in order, or refused; nothing in between."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farm.domain.errors import StageFailed
from farm.sdk.devices import parse_devices
from farm.sdk.latency import COLUMN, read_latency
from farm.sdk.stats import parse_stats
from tests.hostile import TEXTS, damaged
from tests.sdk.test_devices import MODERN, OLD
from tests.sdk.test_latency import NAMES, row

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

RUN = """loading /opt/qti-aic/libQAic.so
Input file: inputFiles/input_ids_8x128.raw
 ---- Stats ----
InferenceCnt 4252 TotalDuration 10001975us BatchSize 8 Inf/Sec 3400.928
 ---- Stats ----
InferenceCnt 6517 TotalDuration 20215390us BatchSize 8 Inf/Sec 2579.025
Writing file:outputFiles/logits-activation-0-inf-0.bin
"""
LATENCIES = "\n".join(
    ["preamble"] * 4 + [NAMES] + [row(n, total) for n, total in enumerate([2232.1, "1e+03", 987])]
)


def refused(error: StageFailed, path: Path) -> None:
    """The failure is one printable line of bounded length that names the file."""
    message = str(error)
    assert message.isprintable()
    assert len(message) < 600
    assert path.name in message
    assert error.log == str(path)


@given(TEXTS | damaged(RUN))
@one_folder
def test_stats(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.log"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        stats = parse_stats(path, 8)
    except StageFailed as error:
        refused(error, path)
        return
    assert min(stats.inferences, stats.duration_us, stats.inf_s) > 0
    assert stats.batch_size == 8
    assert math.isclose(stats.inf_s, stats.inferences * 8e6 / stats.duration_us, rel_tol=1e-12, abs_tol=0.001)
    for figure in (stats.inferences, stats.duration_us):
        assert str(figure) in text


@given(TEXTS | damaged(LATENCIES))
@one_folder
def test_latencies(tmp_path: Path, text: str) -> None:
    path = tmp_path / "aic-profiling-program-0-latency.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        profile = read_latency(tmp_path, 1, 0)
    except StageFailed as error:
        refused(error, path)
        return
    [values] = profile.per_activation
    assert len(values)
    assert all(0 < value < math.inf for value in values)
    lines = re.split("\r\n|\r|\n", text)
    # Every line below the header is a sample: none is lost, none is made up.
    header = [
        at for at, line in enumerate(lines[:12]) if COLUMN in [cell.strip() for cell in line.split(",")]
    ]
    below = lines[(header[0] if header else 4) + 1 :]
    assert len(values) == sum(bool(line.strip()) for line in below)
    assert profile.by_place is not bool(header)


@given(TEXTS | damaged(MODERN) | damaged(OLD) | damaged(MODERN + OLD + MODERN))
def test_cards(text: str) -> None:
    cards = parse_devices(text)
    assert len({card.qid for card in cards}) == len(cards)
    for card in cards:
        counts = (card.nsp_total, card.nsp_free, card.vc_free, card.networks_active)
        assert all(count is None or 0 <= count < 10**9 for count in counts)
        figures = (card.dram_total_mb, card.dram_free_mb, card.nsp_mhz, card.temperature_c, card.power_w)
        assert all(figure is None or math.isfinite(figure) for figure in figures)
        words = (card.status, card.pci_address, card.node, card.serial, card.sku, card.firmware)
        assert all(word is None or word.isprintable() for word in words)
        if card.ready:
            assert card.nsp_total is not None
            assert card.nsp_free is not None
            assert 0 <= card.nsp_free <= card.nsp_total > 0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filler", [" ", "\t ", "\t:", "\tQID 0", "\x0c", "\r", "QID 0\n", "InferenceCnt 1 "])
def test_long_output_takes_no_longer_than_its_length(tmp_path: Path, filler: str) -> None:
    """Some 200 kB of anything; a pattern that backtracks would take hours."""
    text = filler * (200_000 // len(filler))
    assert len(parse_devices(f"QID 1\n\tStatus:{text}\n{text}x")) <= 2
    path = tmp_path / "aic-profiling-program-0-latency.txt"
    path.write_text(text)
    with pytest.raises(StageFailed):
        parse_stats(path, 8)
    with pytest.raises(StageFailed):
        read_latency(tmp_path, 1, 0)


@given(st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), max_size=20))
@example("²")
@one_folder
def test_any_name_of_a_latency_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "names"
    folder.mkdir(exist_ok=True)
    path = folder / f"aic-profiling-program-{name}-latency.txt"
    path.write_text(LATENCIES)
    try:
        assert read_latency(folder, 1, 0).files == (path,)
    finally:
        path.unlink()


def test_a_latency_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "aic-profiling-program-0-latency.txt").mkdir()
    with pytest.raises(StageFailed, match=r"latency\.txt cannot be read: Is a directory"):
        read_latency(tmp_path, 1, 0)


def test_a_header_that_is_missing_costs_no_sample(tmp_path: Path) -> None:
    path = tmp_path / "aic-profiling-program-0-latency.txt"
    path.write_text("\n".join(line for line in LATENCIES.split("\n") if line != NAMES))
    with pytest.raises(StageFailed, match="no header of latency columns"):
        read_latency(tmp_path, 1, 0)


def test_more_free_cores_than_there_are_is_no_ready_card() -> None:
    assert not parse_devices(MODERN.replace("Nsp Free:12", "Nsp Free:15"))[0].ready
