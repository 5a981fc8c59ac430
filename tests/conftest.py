"""What every test starts from: no setting of the developer's machine reaches the code under test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from farm.records import Records, connect
from tests.redis_server import RedisProcess

#: Settings of the farm, of the emulated SDK and of the model hub's client.
_PREFIXES = ("FARM_", "AIC_EMULATOR_", "HF_", "HUGGING_FACE_")


#: `HYPOTHESIS_PROFILE=long pytest FILE`: ten thousand examples where the suite has a hundred; takes minutes.
settings.register_profile(
    "long", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
#: No test tells of time by a single example, on a machine that does something else too.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Drop the environment's farm settings; the farm's home is a folder of this test run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
            patch.delenv(name)
        patch.setenv("FARM_HOME", str(tmp_path_factory.mktemp("farm-home")))
        yield


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisProcess]:
    """A real Redis, one server for all tests that only need its records."""
    server = RedisProcess()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def records(redis_process: RedisProcess) -> Iterator[Records]:
    """Empty records, without a coordinator."""
    client = connect(redis_process.url)
    client.flushall()
    shutil.rmtree(Path(os.environ["FARM_HOME"]) / "records", ignore_errors=True)
    yield Records(client)
    client.close()
