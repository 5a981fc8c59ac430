"""Model names, the folders made from them, and motifs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.data import model_rows
from farm.domain.errors import BadInput
from farm.domain.job import CardConfiguration, Job
from farm.domain.lut import read_lut
from farm.domain.names import MULTICAST, folder_name, motif, require_local, split_model
from tests.domain.strategies import JOBS

JOB = Job("bert-base-cased", "fill-mask", "balanced", CardConfiguration(8, 128, 2, 7, 4))


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("bert-base-cased", ("hub", "bert-base-cased", None)),
        ("google/bert_uncased_L-2_H-128_A-2", ("hub", "google/bert_uncased_L-2_H-128_A-2", None)),
        ("org/_private", ("hub", "org/_private", None)),
        ("BAAI/bge-base-en-v1.5@refs/pr/1", ("hub", "BAAI/bge-base-en-v1.5", "refs/pr/1")),
        ("bert-base-cased@5532cc56f746", ("hub", "bert-base-cased", "5532cc56f746")),
        ("/models/my model", ("folder", "/models/my model", None)),
        ("/home/u/.cache/checkpoint/", ("folder", "/home/u/.cache/checkpoint", None)),
        ("/models/a.onnx", ("onnx", "/models/a.onnx", None)),
    ],
)
def test_what_a_name_means(name: str, meaning: tuple[str, str, str | None]) -> None:
    assert split_model(name) == meaning


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_model("./checkpoint") == ("folder", str(tmp_path / "checkpoint"), None)
    assert split_model("made/model.onnx") == ("onnx", str(tmp_path / "made" / "model.onnx"), None)


def test_a_folder_in_the_way_does_not_change_what_a_hub_id_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bert-base-cased").mkdir()
    monkeypatch.chdir(tmp_path)
    assert split_model("bert-base-cased") == ("hub", "bert-base-cased", None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "..a/b",
        "a..b",
        "a--b",
        "/",
        "//",
        "-m",
        "--all",
        "a/-b",
        ".hidden",
        "a/.hidden",
        "_local/x",
        "a/b/c",
        "a/",
        "/..",
        "./../x",
        "/tmp/../etc/x",
        "~/x",
        ";rm",
        "a;rm",
        "$(id)",
        "`id`",
        "a|b",
        "a b",
        "a\nb",
        "a\x00b",
        "a\\b",
        "a*",
        "é",
        "a.git",
        "x" * 97,
        "a@",
        "a@b@c",
        "a@../x",
        "a@-x",
        "a@b//c",
        "a@b;c",
        "@main",
        "a@" + "x" * 129,
        "./a;b.onnx",
        "./$HOME",
        "/a/b\n",
        "/a/\x1b[31m",
        "/a/-rf",
        "-x.onnx",
        "x;.onnx",
        "/" + "x" * 1025,
        "./a\u202eb",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        split_model(name)
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.text(max_size=40) | st.from_regex(r"[./@A-Za-z0-9_-]{1,20}", fullmatch=True))
def test_no_name_gets_out_of_its_folder(name: str) -> None:
    try:
        _, model, revision = split_model(name)
    except BadInput:
        return
    folder = PurePosixPath(folder_name(model))
    assert not folder.is_absolute()
    assert ".." not in folder.parts
    assert not any(part.startswith((".", "-")) for part in folder.parts)
    assert revision is None or ".." not in revision


def test_every_known_model_has_its_name_for_a_folder(shipped_table: Path) -> None:
    names = {row["model"] for row in model_rows()} | set(read_lut(shipped_table).models)
    assert {folder_name(name) for name in names} == names


def test_local_models_of_one_name_have_folders_of_their_own() -> None:
    one, other = folder_name("/a/my model"), folder_name("/b/my model")
    assert one != other
    assert one.startswith("_local/my-model-")


def test_a_local_model_must_be_there(tmp_path: Path) -> None:
    require_local("hub", "no/such-thing")
    require_local("folder", str(tmp_path))
    (tmp_path / "m.onnx").touch()
    require_local("onnx", str(tmp_path / "m.onnx"))
    with pytest.raises(BadInput, match="no such folder"):
        require_local("folder", str(tmp_path / "gone"))
    with pytest.raises(BadInput, match="no such file"):
        require_local("onnx", str(tmp_path))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CardConfiguration(8, 128, 2, 7, 4), "B8-S128-C2-A7-Z4-balanced"),
        (CardConfiguration(8, 128, 2, 7, 4, ols=2, mos=1), "B8-S128-C2-A7-Z4-OLS2-MOS1-balanced"),
        (
            CardConfiguration(1, 512, 12, 1, 1, mos=12, extra=(MULTICAST,)),
            "B1-S512-C12-A1-Z1-MOS12-MW-balanced",
        ),
    ],
)
def test_the_motif_of_a_configuration(config: CardConfiguration, expected: str) -> None:
    assert motif(replace(JOB, config=config)) == expected


def test_what_else_matters_is_digested_into_the_motif() -> None:
    plain = motif(JOB)
    others = [
        replace(JOB, config=replace(JOB.config, extra=("-mxfp6-matmul",))),
        replace(JOB, config=replace(JOB.config, extra=("-mxfp6-matmul", "-x"))),
        replace(JOB, opset=17),
        replace(JOB, revision="main"),
        replace(JOB, weights="random"),
        replace(JOB, seed=1),
        replace(JOB, route="api"),
    ]
    motifs = [motif(job) for job in others]
    assert len({plain, *motifs}) == len(others) + 1
    assert all("-X" in text and text.endswith("-balanced") for text in motifs)


def test_what_does_not_shape_an_artifact_leaves_the_motif_alone() -> None:
    same = replace(JOB, weights="local", seconds=5, repeat=3, devices=("1",), min_cosine=0.5)
    assert motif(same) == motif(JOB)


@given(JOBS, JOBS)
def test_jobs_of_one_motif_share_every_value_that_matters(one: Job, other: Job) -> None:
    def matters(job: Job) -> tuple[object, ...]:
        flags = job.config.extra
        config = replace(job.config, extra=tuple(flag for flag in flags if flag != MULTICAST))
        return (
            config,
            MULTICAST in flags,
            job.objective,
            job.opset,
            job.revision,
            job.weights,
            job.seed,
            job.route,
        )

    assert (motif(one) == motif(other)) == (matters(one) == matters(other))


@given(JOBS)
def test_a_motif_is_a_plain_file_name(job: Job) -> None:
    assert set(motif(job)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")
