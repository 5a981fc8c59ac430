"""The working directory's layout and the view of the newest finished job."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from farm.domain.errors import BadInput, FarmError
from farm.stages.workdir import link_files, publish_view, tree
from tests.stages.conftest import job


def attempt(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / "attempts" / name
    place = tree(folder, job())
    place.make()
    (place.folder / "who").write_text(name)
    return folder


def test_the_layout(tmp_path: Path) -> None:
    place = tree(tmp_path, job())
    motif = "B2-S16-C2-A3-Z2-OLS1-balanced"
    names = {
        place.model: "model/model.onnx",
        place.batch_io: "inputFiles/aic_batch_io_2x16.json",
        place.outputs: f"outputFiles/fp16-{motif}",
        place.qpc: f"compiled-bin-fp16-{motif}",
        place.input_list: "list_2x16.txt",
        place.commands: f"commands-{motif}.txt",
    }
    for path, name in names.items():
        assert path == tmp_path / "org/small/feature-extraction" / name


@pytest.mark.parametrize("model", ["../x", "a/../../x", "a/b/c", "-x", "org/.hidden", "x;rm"])
def test_a_hostile_name_never_leaves_the_folder(tmp_path: Path, model: str) -> None:
    with pytest.raises(BadInput):
        tree(tmp_path, job(model=model))
    with pytest.raises(BadInput):
        publish_view(tmp_path, tmp_path, model, "default")


def test_a_local_models_folder_stays_inside(tmp_path: Path) -> None:
    place = tree(tmp_path, job(model="/data/my model"))
    assert place.folder.is_relative_to(tmp_path / "_local")


def test_the_view_shows_the_newest(tmp_path: Path) -> None:
    view = tmp_path / "view"
    for name in ("first", "second"):
        shown = publish_view(attempt(tmp_path, name), view, "org/small", "feature-extraction")
        assert shown == view / "org/small/feature-extraction"
        assert (shown / "who").read_text() == name
    assert [entry.name for entry in (view / "org/small").iterdir()] == ["feature-extraction"]
    assert (tmp_path / "attempts/first/org/small/feature-extraction/who").read_text() == "first"


def test_the_view_outlives_a_move_of_both(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    publish_view(attempt(tmp_path / "a", "first"), tmp_path / "a/view", "org/small", "feature-extraction")
    (tmp_path / "a").rename(tmp_path / "b")
    assert (tmp_path / "b/view/org/small/feature-extraction/who").read_text() == "first"


def test_the_view_is_there_at_every_moment(tmp_path: Path) -> None:
    view = tmp_path / "view"
    attempts = [attempt(tmp_path, str(number)) for number in range(2)]
    shown = publish_view(attempts[0], view, "org/small", "feature-extraction")
    stop = threading.Event()
    misses: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                (shown / "who").read_text()
            except OSError as error:
                misses.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        publish_view(attempts[number % 2], view, "org/small", "feature-extraction")
    stop.set()
    reader.join()
    assert misses == []


def test_what_is_not_a_view_is_never_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "view/org/small/feature-extraction/mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    with pytest.raises(FarmError, match="not a view made by the farm"):
        publish_view(attempt(tmp_path, "first"), tmp_path / "view", "org/small", "feature-extraction")
    assert mine.read_text() == "keep"
    assert [entry.name for entry in mine.parent.parent.iterdir()] == ["feature-extraction"]


def test_links_of_the_files_that_belong_together(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("model.onnx", "model.onnx_data", "facts.json"):
        source.mkdir(exist_ok=True)
        (source / name).write_text(name)
    (source / "model.onnx.d").mkdir()
    target.mkdir()
    link_files(source, target, prefix="model.onnx")
    assert sorted(entry.name for entry in target.iterdir()) == ["model.onnx", "model.onnx_data"]
    assert (target / "model.onnx_data").read_text() == "model.onnx_data"
