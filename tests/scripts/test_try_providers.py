import pytest

from scripts import try_providers


def test_without_a_key_nobody_is_called_and_the_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = try_providers.main(["--only", "openai,azure"], environ={})

    printed = capsys.readouterr().out
    assert code == 2
    assert "1 of 2  openai" in printed
    assert "not called: set OPENAI_API_KEY" in printed
    assert "AZURE_API_KEY or AZURE_OPENAI_API_KEY and AZURE_API_BASE or AZURE_OPENAI_ENDPOINT" in printed


def test_steps_go_through_a_gateway_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with try_providers.gateway({}) as client:
        well = try_providers.attempt(client, "demo/echo")
        unwell = try_providers.attempt(client, "demo/no-such-model")

    printed = capsys.readouterr().out.splitlines()
    assert well
    assert printed[0].startswith("    chat: ok: ")
    assert printed[1].startswith("    stream: ok: ")
    assert not unwell
    assert printed[2].startswith("    chat: FAILED: Error code: 404")
