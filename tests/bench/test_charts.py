from xml.etree import ElementTree as ET

import pytest

from bench.charts import bars, draw
from tests.bench.test_report import repetition, results


def test_bars_are_whole_xml_with_a_bar_and_a_value_for_each_row() -> None:
    drawn = ET.fromstring(bars("CPU & time", [("this <gateway>", 25.0, True), ("peer", 100.0, False)]))  # noqa: S314 - ours

    bar = [element for element in drawn.iter() if element.tag.endswith("rect")]
    told = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert told == ["CPU & time", "this <gateway>", "25.0", "peer", "100"]
    assert float(bar[0].attrib["width"]) == pytest.approx(float(bar[1].attrib["width"]) / 2, rel=0.01)
    assert bar[0].attrib["fill"] != bar[1].attrib["fill"]


def test_nothing_and_less_than_nothing_can_be_drawn() -> None:
    assert "<rect" not in bars("empty", [])
    assert 'width="1.0"' in bars("faster than no gateway", [("nginx", -0.2, False), ("null", 0.0, False)])


def test_what_was_not_measured_has_no_chart() -> None:
    drawn = draw(results(repetition("gateway", 100), repetition("portkey", 900)))

    assert set(drawn) == {"cpu-request", "memory"}
    assert "portkey" in drawn["cpu-request"]
