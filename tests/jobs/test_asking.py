import anyio
import pytest

from llmgateway.errors import ConflictError, GatewayError, InvalidRequestError, LedgerAwayError
from llmgateway.jobs.asking import in_time, told
from llmgateway.storage.jobs.rows import RepeatedError


async def test_an_answer_is_given_as_it_is() -> None:
    async def question() -> int:
        await anyio.lowlevel.checkpoint()
        return 5

    assert await in_time(question) == 5


@pytest.mark.parametrize(
    ("raised", "expected", "code"),
    [
        (OSError("10.0.0.7 refused"), LedgerAwayError, "ledger_unavailable"),
        (TimeoutError(), LedgerAwayError, "ledger_unavailable"),
        (RepeatedError(), ConflictError, "idempotency_conflict"),
        (ValueError("a NUL"), InvalidRequestError, "invalid_value"),
    ],
)
async def test_what_goes_wrong_is_told_so_that_one_can_act(
    raised: Exception, expected: type[GatewayError], code: str
) -> None:
    async def question() -> None:
        await anyio.lowlevel.checkpoint()
        raise raised

    with pytest.raises(expected) as caught:
        await in_time(question)

    assert caught.value.code == code
    assert "10.0.0.7" not in caught.value.message


def test_a_database_that_is_away_is_no_bug() -> None:
    with pytest.raises(LedgerAwayError), told():
        raise OSError
