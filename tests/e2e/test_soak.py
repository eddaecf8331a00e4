"""Memory over a long time of mixed traffic (pitfall 62), and how it is drawn."""

import itertools
import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.soak import HOUR_S, MIB, Sample, Soak, chart, soak, written

SVG = "{http://www.w3.org/2000/svg}"
KINDS = {"relay", "stream", "cached", "translated", "translated stream", "embed"}


def held(*mib: float, every_s: float = 60.0) -> Soak:
    return Soak([Sample(number * every_s, int(each * MIB)) for number, each in enumerate(mib)])


def test_growth_is_that_after_the_warm_up() -> None:
    flat = held(50, 150, 200, *[250] * 57)
    grows = held(50, 150, 200, *(250 + minute / 60 for minute in range(57)))

    assert flat.growth_mib_an_hour() == pytest.approx(0, abs=0.01)
    assert grows.growth_mib_an_hour() == pytest.approx(1, abs=0.01)
    assert min(sample.at_s for sample in grows.after_warm_up()) == 15 * 60


def test_chart_shows_every_sample_and_the_growth() -> None:
    drawn = ET.fromstring(chart(held(50, 150, 200, *[250] * 57)))  # noqa: S314  likewise

    (line,) = drawn.iter(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) == 60
    assert any("MiB an hour" in (text.text or "") for text in drawn.iter(f"{SVG}text"))


def test_samples_are_written_down_with_the_traffic() -> None:
    found = held(50, 60, 60, 60, 60)
    found.seen["relay"] = 7

    said = json.loads(written(found))

    assert said["seen"] == {"relay": 7}
    assert said["samples"][1] == [60.0, 60 * MIB]


def mixed(seen: Counter[str], *, reloads: int) -> bool:
    """Whether it was the traffic that is meant: all kinds, one of twenty leaving, and catalogs that changed."""
    asked = sum(seen[kind] for kind in KINDS)
    return min(seen[kind] for kind in KINDS) > 0 and 0.03 < seen["left"] / asked < 0.08 and seen["reloads"] >= reloads


@pytest.mark.timeout(120)
async def test_pitfall_062_a_minute_of_mixed_traffic_does_not_grow_the_process(tmp_path: Path) -> None:
    found = await soak(tmp_path, seconds=60, sample_s=1, reload_s=5)

    assert mixed(found.seen, reloads=9), found.seen
    late = [sample.held_bytes for sample in found.samples[len(found.samples) // 3 :]]
    rounds = [max(late[at : at + 8]) for at in range(0, 40, 8)]
    # A leak grows all the time; what a buffer or the allocator takes once does not.
    assert min(after - before for before, after in itertools.pairwise(rounds)) < MIB / 4, found.samples
    assert rounds[-1] - rounds[0] < 8 * MIB, found.samples


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(2 * HOUR_S)
async def test_pitfall_062_an_hour_of_mixed_traffic_grows_the_process_by_less_than_a_megabyte(tmp_path: Path) -> None:
    found = await soak(tmp_path, seconds=HOUR_S, sample_s=10, reload_s=60)

    assert mixed(found.seen, reloads=55), found.seen
    assert found.growth_mib_an_hour() < 1, written(found)
