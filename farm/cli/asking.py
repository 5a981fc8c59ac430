"""From what was typed to jobs: which models, which look-up table, and each value with its source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.cli.job_options import given
from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.errors import BadInput
from farm.domain.job import Job
from farm.domain.lut import LookupTable, read_lut
from farm.domain.models_file import read_models_file
from farm.domain.options import Request
from farm.domain.resolve import DEFAULT_NSPS, resolve_all
from farm.sdk.extra import check_extra


@dataclass(frozen=True)
class Models:
    """The ways to name models; exactly one is used."""

    names: tuple[str, ...] = ()
    file: Path | None = None
    all_models: bool = False
    listed: bool = False


def open_table(path: Path | None) -> LookupTable:
    """The look-up table: as named, else ./lut_nlp_models.csv, else the one the package carries."""
    if path is None:
        here = Path(LOOKUP_TABLE.name)
        path = here if here.is_file() else LOOKUP_TABLE
    return read_lut(path)


def requests(
    models: Models, asked: dict[str, Any], table: LookupTable, catalogue: Catalogue
) -> list[Request]:
    """The requests of a command line. Raises BadInput unless models are named in exactly one way."""
    ways = [bool(models.names), models.file is not None, models.all_models, models.listed]
    if sum(ways) != 1:
        raise BadInput(
            "name the models in one way: -m NAME (repeatable), --models-file, --all-models or --listed"
        )
    fields = given(asked)
    if models.file is not None:
        return read_models_file(models.file, Request(models=(), **fields))
    names = models.names or (table.models if models.all_models else catalogue.listed())
    return [Request(models=names, whole_list=models.all_models or models.listed, **fields)]


def jobs_of(
    asked: Iterable[Request], table: LookupTable, catalogue: Catalogue, card_nsps: int = DEFAULT_NSPS
) -> list[Job]:
    """Every job the requests make, each once. Raises BadInput for what no card or model could do."""
    return resolve_all(asked, table, catalogue, card_nsps, check_extra)


def nsps_of(cards: Sequence[dict[str, Any]]) -> int:
    """The NSPs of the largest card known, else of the usual one."""
    return max((card["nsp_total"] for card in cards if card["nsp_total"]), default=DEFAULT_NSPS)


def job_document(job: Job) -> dict[str, Any]:
    """One job of `submit --dry-run --json`: every value under a result's names, and who decided it."""
    document = job.to_json()
    config = document.pop("config")
    published = document.pop("published")
    sources = document.pop("sources")
    return {
        **{name: document.pop(name) for name in ("model", "task", "objective")},
        **{name: list(value) if isinstance(value, tuple) else value for name, value in config.items()},
        **document,
        "published_inf_s": published and published["inf_s"],
        "published_latency_ms": published and published["latency_ms"],
        "sources": sources,
    }
