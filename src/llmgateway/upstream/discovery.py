"""Which models an account has, as its provider lists them: one question, on OpenAI's wire or Azure's form of it."""

import msgspec
from msgspec import Struct

from llmgateway.catalog.model import Account
from llmgateway.errors import UpstreamError
from llmgateway.upstream.errors import upstream_error
from llmgateway.upstream.relay import credentials, models_address
from llmgateway.upstream.transport import Transport, read_body

_MOST_MODELS = 10_000
_LONGEST_NAME = 256


class _Model(Struct):
    id: str = ""


class _List(Struct):
    models: list[_Model] = msgspec.field(name="data")


_LIST = msgspec.json.Decoder(_List)


async def models_of(transport: Transport, account: Account) -> list[str]:
    """Ask an account of OpenAI's wire for the names of its models.

    Raises:
        UpstreamError: It did not list them.
    """
    url = models_address(account.wire, account.api_base or "", account.api_version)
    response = await transport.get(account, url, credentials(account.wire, account.api_key))
    body = await read_body(response, account)
    if response.status != 200:  # noqa: PLR2004  OK
        raise upstream_error(response.status, body, response.headers, account)
    try:
        listed = _LIST.decode(body).models
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(f"The provider `{account.name}` answered with no list of models.") from None
    names = (model.id for model in listed[:_MOST_MODELS])
    return sorted({name for name in names if 0 < len(name) <= _LONGEST_NAME and name.isprintable()})
