"""Jobs survive serialisation."""

from __future__ import annotations

import json

from hypothesis import given

from farm.domain.digest import digest
from farm.domain.job import Job
from tests.domain.strategies import JOBS


@given(JOBS)
def test_a_job_survives_json(job: Job) -> None:
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@given(JOBS)
def test_the_digest_of_a_job_is_that_of_its_json(job: Job) -> None:
    assert digest(job.to_json()) == digest(json.loads(json.dumps(job.to_json())))
