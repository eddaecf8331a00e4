import re
from pathlib import Path

import pytest

from bench import portkey
from bench.lineup import lineup
from bench.run import Wanted
from bench.scenarios import SCENARIOS
from bench.special import NAMES

PEERS = {"litellm", "portkey", "nginx"}


def test_everything_on_is_among_the_first_and_the_full_run_has_more(tmp_path: Path) -> None:
    core, full = ([one.name for one in lineup(PEERS, tmp_path, full=full)] for full in (False, True))

    assert core == ["null", "raw", "gateway", "plain", "one-worker", "two-workers"]
    assert set(full) > set(core)


def test_everything_is_on_in_what_the_headline_measures(tmp_path: Path) -> None:
    ours = next(one for one in lineup(PEERS, tmp_path) if one.name == "gateway")
    ours.command(1, 2)

    settings = dict(ours.environment)
    assert settings["LLMGATEWAY_AUTH__MODE"] == "client"
    assert settings["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    assert not {name for name, value in settings.items() if value == "false"}
    assert re.fullmatch(r"Bearer lgw_[\w-]+", ours.headers(2, "openai")["authorization"])


def test_portkey_is_left_out_where_there_is_no_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    chosen = lineup(PEERS - {"portkey"}, tmp_path)

    assert "portkey" not in [one.name for one in chosen]
    assert "portkey: left out, there is no node with npm" in capsys.readouterr().out


def test_portkey_is_pinned_with_all_it_needs() -> None:
    lock = (portkey.PINS / "package-lock.json").read_text()

    assert f'"@portkey-ai/gateway": "{portkey.VERSION}"' in lock
    packages = lock.count('"node_modules/')
    assert packages > 50
    assert lock.count('"integrity": "sha512-') == packages


def test_portkey_is_told_with_each_request_where_to_go() -> None:
    told = portkey.headers(1234, "anthropic")

    assert told == {"x-portkey-provider": "anthropic", "x-portkey-custom-host": "http://127.0.0.1:1234/v1"}


def test_the_core_is_measured_unless_more_is_wanted() -> None:
    core, full, one = Wanted.of([], full=False), Wanted.of([], full=True), Wanted.of(["idle_streams"], full=False)

    assert {each.name for each in core.scenarios} == {each.name for each in SCENARIOS if not each.in_full}
    assert (core.specials, core.routing) == (["idle_streams", "workers"], False)
    assert (len(full.scenarios), full.specials, full.routing) == (len(SCENARIOS), list(NAMES), True)
    assert (list(one.scenarios), one.specials) == ([], ["idle_streams"])


def test_an_unknown_scenario_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no scenario 'smal'; there are small"):
        Wanted.of(["smal"], full=False)
