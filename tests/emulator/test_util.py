"""qaic-util prints the documented text for both SDK profiles, and misbehaves as asked."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from farm.emulator import write_root
from farm.emulator.runtime.card import Cards
from tests.emulator.emulated import call, record_of, write_scenario


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {sdk: tmp_path_factory.mktemp("root") / sdk for sdk in ("1.12", "1.21")}
    for sdk, directory in made.items():
        write_root(directory, cards=3, sdk=sdk)
    return made


@pytest.mark.parametrize("sdk", ["1.12", "1.21"])
def test_every_card_has_a_record_of_the_documented_form(roots: dict[str, Path], sdk: str) -> None:
    ran = call(roots[sdk] / "tools/qaic-util", "-q")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.findall(r"^QID (\d+)\s*$", ran.stdout, re.M) == ["0", "1", "2"]
    assert re.findall(r"^\s*Nsp Total:(\d+)", ran.stdout, re.M) == ["14"] * 3
    body = ran.stdout.split("QID 0\n", 1)[1]
    assert all(line.startswith(("\t", "QID ")) for line in body.splitlines())
    record = record_of(ran.stdout, 1)
    assert (record["Status"], record["Nsp Free"], record["Networks Active"]) == ("Ready", "14", "0")
    assert record["NSP Defective PG Mask"] == " 0x0"
    assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", record["PCI Address"])
    assert float(record["SoC temperature(degree C)"]) > 0


def test_profiles_differ_as_documented(roots: dict[str, Path]) -> None:
    old = record_of(call(roots["1.12"] / "tools/qaic-util").stdout, 0)
    new = record_of(call(roots["1.21"] / "tools/qaic-util").stdout, 0)
    assert (old["Dram Total"], new["Dram Total"]) == ("16699392 KB", "16308 MB")
    assert (old["NSP Frequency(Mhz)"], new["NSP Frequency(Mhz)"]) == ("825", "825.00")
    assert "Dev Link" not in old
    assert new["Dev Link"] == "/dev/accel/accel1"


def test_only_the_named_cards_are_printed(roots: dict[str, Path]) -> None:
    ran = call(roots["1.21"] / "tools/qaic-util", "-q", "-d", "2", "-d", "0")
    assert re.findall(r"^QID (\d+)$", ran.stdout, re.M) == ["0", "2"]
    assert re.findall(r"^QID (\d+)$", call(roots["1.21"] / "tools/qaic-util", "-d", "abc").stdout, re.M) == [
        "0"
    ]


@pytest.mark.parametrize(
    ("arguments", "error"), [(["-q", "-d", "0", "-d", "7"], "Device 7 invalid\n"), (["-x"], ""), (["-h"], "")]
)
def test_wrong_use_ends_with_255(roots: dict[str, Path], arguments: list[str], error: str) -> None:
    ran = call(roots["1.21"] / "tools/qaic-util", *arguments)
    assert (ran.returncode, ran.stderr) == (255, error)
    assert "QID" not in ran.stdout


def test_free_resources_follow_an_activation(roots: dict[str, Path]) -> None:
    root = roots["1.21"]
    idle = record_of(call(root / "tools/qaic-util").stdout, 1)
    with Cards(root).activate(1, 4, 2, "x", 300 * 2**20):
        busy = record_of(call(root / "tools/qaic-util").stdout, 1)
    assert (busy["Nsp Free"], busy["Networks Active"], busy["Dram Free"]) == ("6", "2", "16008 MB")
    again = record_of(call(root / "tools/qaic-util").stdout, 1)
    warming = {"SoC temperature(degree C)", "Board power(Watts)"}
    assert {k: v for k, v in again.items() if k not in warming} == {
        k: v for k, v in idle.items() if k not in warming
    }


@pytest.mark.parametrize("status", ["Error", "Initializing", "Unknown"])
def test_a_card_that_is_not_ready_has_a_truncated_record(
    roots: dict[str, Path], tmp_path: Path, status: str
) -> None:
    path = write_scenario(
        tmp_path / "s.json", {"tool": "card", "fault": "status", "qid": 1, "status": status}
    )
    ran = call(roots["1.21"] / "tools/qaic-util", scenario=path)
    assert ran.returncode == 0
    assert record_of(ran.stdout, 1)["Status"] == status
    assert not [name for name in record_of(ran.stdout, 1) if name.startswith(("Nsp", "Dram", "Vc"))]
    assert record_of(ran.stdout, 0)["Nsp Free"] == "14"


def test_without_permission_every_card_says_error(roots: dict[str, Path], tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-util", "fault": "permission"})
    ran = call(roots["1.12"] / "tools/qaic-util", scenario=path)
    assert ran.returncode == 0
    assert re.findall(r"Status:(\w+)", ran.stdout) == ["Error"] * 3


def test_json_list(roots: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    assert call(roots["1.21"] / "tools/qaic-util", "-q", "-j", str(file)).returncode == 0
    listed = json.loads(file.read_text())["device_info"]
    assert [(entry["qid"], entry["nsp_total"], entry["sku_type"]) for entry in listed] == [
        (qid, 14, "PCIe") for qid in range(3)
    ]
    assert call(roots["1.12"] / "tools/qaic-util", "-q", "-j", str(file)).returncode == 255


def test_filter_by_a_field(roots: dict[str, Path]) -> None:
    serial = record_of(call(roots["1.21"] / "tools/qaic-util").stdout, 2)["Board serial"]
    ran = call(roots["1.21"] / "tools/qaic-util", "-q", "-f", f"Board serial=={serial}")
    assert re.findall(r"^QID (\d+)$", ran.stdout, re.M) == ["2"]


def test_choices_change_the_text(roots: dict[str, Path], tmp_path: Path) -> None:
    options = {"dram_unit": "KB", "frequency_decimals": False, "extra_fields": True, "telemetry": False}
    path = write_scenario(tmp_path / "s.json", options=options)
    record = record_of(call(roots["1.21"] / "tools/qaic-util", scenario=path).stdout, 0)
    assert record["Dram Free"].endswith(" KB")
    assert record["DDR Frequency(Mhz)"] == "2133"
    assert "Reserved Field" in record
    assert not [name for name in record if "temperature" in name]


def test_a_hanging_tool_says_nothing_and_ends_by_a_signal(roots: dict[str, Path], tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-util", "fault": "hang"})
    process = subprocess.Popen(
        [roots["1.21"] / "tools/qaic-util"],
        env={"AIC_EMULATOR_SCENARIO": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.terminate()
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == -15


def test_an_absent_tool(roots: dict[str, Path], tmp_path: Path) -> None:
    path = write_scenario(tmp_path / "s.json", {"tool": "qaic-util", "fault": "absent"})
    ran = call(roots["1.21"] / "tools/qaic-util", scenario=path)
    assert (ran.returncode, ran.stdout) == (127, "")
