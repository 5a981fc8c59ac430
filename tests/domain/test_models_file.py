"""The models file: a model a line, options of its jobs after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadInput
from farm.domain.models_file import read_models_file
from farm.domain.options import Request

BASE = Request(models=(), seconds=5, objectives=("balanced",))


def write(folder: Path, text: str) -> Path:
    path = folder / "models.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_comments_and_options(tmp_path: Path) -> None:
    text = """\ufeff# the models
    bert-base-cased

    roberta-base@main -b 1 -b 2 --seq-length=64 -t fill-mask  # short ones
    albert-base-v2 -o best-latency -o best-throughput --extra -multicast-weights --time 7 -a -r
    org/x --extra="-a 'b c'" --devices 0-1 -d 4 --min-cosine 0.5 --trust-remote-code
    """
    first, second, third, fourth = read_models_file(write(tmp_path, text), BASE)
    assert first == Request(models=("bert-base-cased",), seconds=5, objectives=("balanced",))
    assert (second.models, second.batch_size, second.seq_length) == (("roberta-base@main",), (1, 2), (64,))
    assert (second.task, second.objectives, second.seconds) == ("fill-mask", ("balanced",), 5)
    assert third.objectives == ("best-latency", "best-throughput")
    assert (third.extra, third.seconds, third.route, third.run_only) == ("-multicast-weights", 7, "api", True)
    assert (fourth.extra, fourth.devices) == ("-a 'b c'", ("0", "1", "4"))
    assert (fourth.min_cosine, fourth.trust_remote_code, fourth.route) == (0.5, True, "runner")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("../x", "is not a model name"),
        (";rm -rf", "is not a model name"),
        ("a -b", "-b needs a value"),
        ("a -b 0", "--batch-size 0 is out of range"),
        ("a -b x", "--batch-size 'x' is not a whole number"),
        ("a --batch-size 1 -b2", "'-b2' is no option of a job"),
        ("a b", "'b' is no option of a job"),
        ("a --priority 3", "'--priority' is no option of a job"),
        ("a --mos 1 --mos 2", "--mos is given twice"),
        ("a --run-only=yes", "--run-only takes no value"),
        ("a -o fastest", "--objective 'fastest' is not known"),
        ("a --extra 'x", "No closing quotation"),
        ("bert#large", "'bert#large' is not a model name"),
        ("a --seed 1#2", "--seed '1#2' is not a whole number"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: str, part: str) -> None:
    path = write(tmp_path, f"bert-base-cased\n{line}\n")
    with pytest.raises(BadInput) as refused:
        read_models_file(path, BASE)
    assert str(refused.value).startswith(f"{path}, line 2: ")
    assert part in str(refused.value)


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_a_file_without_models_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="names no model"):
        read_models_file(write(tmp_path, text), BASE)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "gone", tmp_path / "binary"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_models_file(path, BASE)


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_a_line_end_ends_a_comment(tmp_path: Path, end: str) -> None:
    text = f"bert-base-cased # not{end}roberta-base\n;rm\n"
    with pytest.raises(BadInput, match="line 2: ';rm'"):
        read_models_file(write(tmp_path, text), BASE)


@given(st.lists(st.text(max_size=30) | st.just("bert-base-cased -b 1"), max_size=4).map("\n".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_raises_anything_but_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        requests = read_models_file(path, BASE)
    except BadInput:
        return
    assert requests
    assert all(len(request.models) == 1 for request in requests)
