"""What every test starts from: no setting of the developer's machine reaches the code under test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

#: Settings of the farm, of the emulated SDK and of the model hub's client.
_PREFIXES = ("FARM_", "AIC_EMULATOR_", "HF_", "HUGGING_FACE_")


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Drop the environment's farm settings; the farm's home is a folder of this test run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
            patch.delenv(name)
        patch.setenv("FARM_HOME", str(tmp_path_factory.mktemp("farm-home")))
        yield
