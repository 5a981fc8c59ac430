"""qaic-util's text, of every SDK version known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sdk.devices import Device, parse_devices

MODERN = """LRT QC_IMAGE_VERSION: LRT.AIC.5.2.1.5.6
LRT IMAGE_VARIANT: LRT.AIC.REL
Number of devices: 2
QID 0
\tStatus:Ready
\tPCI Address:0000:01:00.0
\tPCI Info:Processing accelerators Qualcomm Device a100
\tDev Link:/dev/accel/accel3 
\tHW Version:0.2.0.0
\tFW Version:1.5.6
\tFW OEM_IMAGE_VERSION:
\tDram Total:16308 MB
\tDram Free:16000 MB
\tVc Total:16
\tVc Free:15
\tNsp Total:14
\tNsp Free:12
\tLast 100ms Average Dram Bw:12.5 KBps
\tNetworks Active:1
\tNSP Frequency(Mhz):825.50
\tNSP Defective PG Mask: 0x0
\tSku Type:PCIe
\tBoard serial:PN471-12-343016
\tSoC temperature(degree C):42.00
\tBoard power(Watts):17.50
\tTDP Cap(Watts):75.00
\tA Future Field:whatever: it says
QID 1
\tStatus:Error
\tPCI Address:0000:81:00.0
\tPCI Info:Processing accelerators Qualcomm Device a100

"""  # noqa: W291

OLD = """QID 15
        Status:Ready
        PCI Address:0000:A1:00.0
        Dram Total:33554432 KB
        Dram Free:33554432 KB
        Nsp Total:16
        Nsp Free:16
        NSP Frequency(Mhz):1450
        Compiler Version:0
"""


def test_a_modern_record() -> None:
    ready, error = parse_devices(MODERN)
    assert ready == Device(
        qid=0,
        status="Ready",
        pci_address="0000:01:00.0",
        node="/dev/accel/accel3",
        serial="PN471-12-343016",
        sku="PCIe",
        firmware="1.5.6",
        nsp_total=14,
        nsp_free=12,
        vc_free=15,
        networks_active=1,
        dram_total_mb=16308,
        dram_free_mb=16000,
        nsp_mhz=825.5,
        temperature_c=42,
        power_w=17.5,
        tdp_w=75,
        fields=ready.fields,
    )
    assert ready.ready
    assert ready.fields["A Future Field"] == "whatever: it says"
    assert (error.qid, error.status, error.nsp_free, error.ready) == (1, "Error", None, False)


def test_an_old_record_with_blanks_kilobytes_and_a_high_qid() -> None:
    [card] = parse_devices(OLD)
    assert (card.qid, card.nsp_free, card.dram_total_mb, card.nsp_mhz) == (15, 16, 32768, 1450)
    assert card.pci_address == "0000:a1:00.0"
    assert (card.temperature_c, card.power_w, card.serial) == (None, None, None)
    assert card.ready


@pytest.mark.parametrize(
    "without", ["Nsp Free", "Nsp Total", "Status"], ids=lambda name: name.lower().replace(" ", "-")
)
def test_what_is_not_printed_is_not_assumed(without: str) -> None:
    text = "\n".join(line for line in MODERN.splitlines() if f"{without}:" not in line)
    assert not parse_devices(text)[0].ready


@pytest.mark.parametrize("free", ["", "many", "-1", "13.5", "0x0e"])
def test_a_number_that_is_none_is_unusable(free: str) -> None:
    assert not parse_devices(MODERN.replace("Nsp Free:12", f"Nsp Free:{free}"))[0].ready


def test_the_status_line_alone_tells_the_status() -> None:
    text = OLD.replace("Compiler Version:0", "Link Status:Error")
    assert parse_devices(text)[0].status == "Ready"


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    for card in parse_devices(text) + parse_devices("QID 0\n" + text):
        assert isinstance(card.qid, int)
        assert card.nsp_free is None or card.nsp_free >= 0


NAMES = st.sampled_from(["Status", "Nsp Free", "Nsp Total", "Dram Free", "Board serial", "New Thing"])
LINES = st.lists(st.tuples(NAMES, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)))


RECORDS = st.lists(st.tuples(st.integers(0, 300), LINES), max_size=5, unique_by=lambda record: record[0])


@given(RECORDS, st.sampled_from(["\t", "        "]))
def test_every_record_is_found_with_its_own_fields(
    records: list[tuple[int, list[tuple[str, str]]]], pad: str
) -> None:
    text = "Number of devices: 9\n"
    for qid, lines in records:
        text += f"QID {qid}\n" + "".join(f"{pad}{name}:{value}\n" for name, value in lines)
    cards = parse_devices(text)
    assert [card.qid for card in cards] == [qid for qid, _ in records]
    for card, (_, lines) in zip(cards, records, strict=True):
        first = {name: value.strip() for name, value in reversed(lines)}
        assert card.fields == first
        if first.get("Nsp Free", "x").isdigit():
            assert card.nsp_free == int(first["Nsp Free"])
