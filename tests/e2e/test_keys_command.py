"""Keys made and taken away beside a gateway that runs, by the command of whoever has its database."""

from pathlib import Path

import anyio
import openai
import pytest
from anyio import to_thread

from llmgateway.cli import main
from tests.conftest import Serve
from tests.running import Running

ADMIN_KEY = "admin-key-of-the-tests-0123456789abcdef"


class Command:
    """The command, run beside the gateway; gives what it printed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._environ = {"LLMGATEWAY_DATA_DIR": str(folder / "data")}
        self._capsys = capsys

    async def run(self, *arguments: str) -> str:
        assert await to_thread.run_sync(main, arguments, self._environ) == 0
        return self._capsys.readouterr().out

    async def made(self, *arguments: str) -> tuple[str, str]:
        """Run what makes a secret; gives it and the key's id."""
        secret, key_id = (await self.run("keys", *arguments)).split()[1::2]
        return secret, key_id


async def accepted(gateway: Running, key: str, model: str = "chat") -> bool:
    """Tell whether a call with this key is answered."""
    client = gateway.openai.with_options(api_key=key)
    try:
        await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError):
        return False
    return True


async def until_refused(gateway: Running, key: str) -> None:
    with anyio.fail_after(5):  # without Redis, what was taken away holds no longer than this
        while await accepted(gateway, key):  # noqa: ASYNC110  another process writes
            await anyio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_pitfall_091_command_gives_and_takes_keys_of_a_gateway_that_runs(
    gateway: Serve, catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(tmp_path, capsys)
    g = await gateway(catalog, auth__mode="client", admin_key=ADMIN_KEY, limits__enabled=False)

    first, first_id = await command.made("create", "--name", "first", "--models", "chat")
    second, _ = await command.made("create", "--name", "second")
    assert await accepted(g, first)
    assert await accepted(g, second)

    await command.run("keys", "revoke", second[:12])
    await until_refused(g, second)
    assert await accepted(g, first)

    anew, same_id = await command.made("rotate", first_id, "--overlap", "1h")
    assert same_id == first_id
    assert await accepted(g, anew)
    assert await accepted(g, first)
    last, _ = await command.made("rotate", first_id)
    await until_refused(g, first)
    assert await accepted(g, last)
    assert not await accepted(g, second)
    assert (await command.run("audit", "verify")).startswith("audit: 5 rows")
