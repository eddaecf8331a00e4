import anyio
import pytest

from llmgateway.documents_api.audience import Audience


async def test_all_are_sent_away_and_nobody_takes_a_seat_after_that() -> None:
    audience, gone = Audience(), []

    async def watch(name: int) -> None:
        with audience.seated() as seat:
            await anyio.sleep_forever()
        gone.append((name, seat.cancelled_caught))

    async with anyio.create_task_group() as group:
        for name in range(3):
            group.start_soon(watch, name)
        await anyio.wait_all_tasks_blocked()
        assert len(audience) == 3
        audience.send_away()
        await anyio.wait_all_tasks_blocked()
        await watch(3)

    assert sorted(gone) == [(name, True) for name in range(4)]
    assert len(audience) == 0


async def test_whoever_leaves_gives_the_seat_up_whatever_the_reason() -> None:
    audience = Audience()

    with pytest.raises(RuntimeError), audience.seated():
        raise RuntimeError

    assert len(audience) == 0
    audience.send_away()
