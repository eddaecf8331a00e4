"""LiteLLM's import, and its own calls."""

import asyncio
import json
import logging
import subprocess
import sys

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import InvalidRequestError, UpstreamError
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.library import Library, library_arguments, load_litellm
from llmgateway.upstream.transport import Transport
from tests.upstream.translated import BEDROCK, call, streamed, whole
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

_OFFLINE = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"a connection was tried: {args}")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from llmgateway.upstream.litellm import LiteLLMUpstream
assert "litellm" not in sys.modules, "imported too early"
from llmgateway.upstream.litellm.library import load_litellm
module = load_litellm()
print(module.suppress_debug_info, module.telemetry, module.drop_params, module.num_retries, module.callbacks)
"""

_ONE_TABLE = """
import gc
from llmgateway.upstream.litellm.library import load_litellm
litellm = load_litellm()
from litellm.litellm_core_utils.get_model_cost_map import GetModelCostMap
in_file = GetModelCostMap.load_local_model_cost_map()
del in_file["fallback_generalizations"]  # rules, not a model
litellm.AnthropicConfig._get_model_capability("of-my-own", "supports_vision")  # looks in all tables there are
entry = next(entry for entry in in_file.values() if isinstance(entry.get("supported_endpoints"), list))
kept = [one for one in gc.get_objects() if type(one) is dict and one == entry and one is not entry]
print({name: litellm.model_cost[name] for name in in_file} == in_file, len(kept))
"""

_GROWN = """
import os, sys
from pathlib import Path
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256
import httpx, pydantic
import llmgateway.upstream.litellm.library as ours
before_mb = resident_mb()
if sys.argv[1] == "ours":
    litellm = ours.load_litellm()
else:
    import litellm
litellm.AnthropicConfig._get_model_capability("of-my-own", "supports_vision")  # a first call looks in all tables
print(resident_mb() - before_mb)
"""


def test_the_import_is_lazy_and_makes_no_network_call() -> None:
    ran = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _OFFLINE], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout.split("\n")[0] == "True False False 0 []", ran.stderr


async def test_pitfall_135_its_warnings_come_in_our_stream_once_and_without_their_words(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    library = Library()
    await library.ready()

    try:
        int("canary")
    except ValueError:
        logging.getLogger("LiteLLM").exception("the prompt was %s", "canary")
    logging.getLogger("LiteLLM Router").info("canary")

    (record,) = caplog.records
    assert record.getMessage().startswith("LiteLLM warned in test_library.py, test_pitfall_135")
    assert record.getMessage().endswith("(ValueError)")
    assert "canary" not in caplog.text + "".join(capfd.readouterr())
    await library.close()


def test_a_tokenizers_table_is_let_go_and_the_tokenizer_still_counts() -> None:
    litellm = load_litellm()

    # 100,000 parts of one file, kept beside its text by LiteLLM.
    tables = [value for value in vars(litellm.utils).values() if isinstance(value, dict)]
    assert not any("vocab" in str(table) for table in tables)
    assert litellm.token_counter(model="claude-3-opus-20240229", text="How many tokens are these?") > 4


def test_there_is_one_table_of_models_with_all_that_litellms_file_has() -> None:
    ran = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _ONE_TABLE], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout.split("\n")[-2] == "True 1", ran.stdout + ran.stderr


@pytest.mark.timeout(120)
def test_litellm_takes_a_sixth_less_memory_than_by_itself() -> None:
    def grown_mb(how: str) -> float:
        ran = subprocess.run(  # noqa: S603  our own interpreter
            [sys.executable, "-c", _GROWN, how], capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.stdout, ran.stderr
        return float(ran.stdout.split("\n")[-2])

    assert grown_mb("ours") < 0.84 * grown_mb("its own")


async def test_many_first_calls_share_one_import() -> None:
    library = Library()
    modules = await asyncio.gather(*(library.ready() for _ in range(20)))

    assert len({id(module) for module in modules}) == 1
    await library.close()


async def test_closing_what_was_never_used_does_nothing(transport: Transport) -> None:
    await LiteLLMUpstream(transport).close()


def test_where_a_call_goes_is_all_from_the_catalog() -> None:
    account = Account(
        name="a", provider="watsonx", wire="litellm", api_key="k-0042", timeout_s=7, options={"project_id": "p"}
    )
    arguments = library_arguments(Deployment(account=account, model="granite", drop_unsupported=True))

    assert (
        arguments.items()
        >= {
            "model": "watsonx/granite",
            "api_key": "k-0042",
            "project_id": "p",
            "timeout": 7,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,
        }.items()
    )
    assert "api_base" not in arguments


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6", "claude-3-haiku-20240307", "of-my-own"])
async def test_what_a_model_can_is_looked_up_once_and_stays_the_same(model: str) -> None:
    litellm = await Library().ready()
    config, utils = litellm.AnthropicConfig, litellm.utils
    asked = (model, "supports_native_structured_output", "anthropic")
    ability = utils.supports_factory(model, "anthropic", "supports_vision")

    assert ability == utils.supports_factory.__wrapped__(model, "anthropic", "supports_vision")
    remembered = config._supports_model_capability  # noqa: SLF001
    assert remembered(*asked) is remembered.__wrapped__(*asked)
    assert config.get_config(model=model) == config.get_config.__func__.__wrapped__(config, model=model)
    before = utils.supports_factory.cache_info().misses
    assert utils.supports_factory(model, "anthropic", "supports_vision") == ability
    assert utils.supports_factory.cache_info().misses == before
    assert (await Library().ready()).utils.supports_factory is utils.supports_factory, "not remembered twice"


async def test_bedrock_signs_with_the_catalogs_keys(upstream: LiteLLMUpstream) -> None:
    async with Player(BEDROCK.wire()) as player:
        await whole(upstream, BEDROCK.deployment(player), call())

    assert "Credential=AKIDUPSTREAM/" in player.last.headers["authorization"]
    assert "/us-east-1/bedrock/" in player.last.headers["authorization"]


async def test_a_failure_is_not_tried_again_by_litellm(upstream: LiteLLMUpstream) -> None:
    async with Player(BEDROCK.wire()) as player:
        player.always(player.wire.error(500, "no"))
        with pytest.raises(UpstreamError):
            await upstream.send(BEDROCK.deployment(player), call())

        assert player.requests_total == 1


async def test_any_other_provider_of_litellms_is_called_through_it(upstream: LiteLLMUpstream) -> None:
    async with Player(OpenAIWire()) as player:
        account = Account(name="a", provider="databricks", wire="litellm", api_key="sk-upstream", api_base=player.base)
        deployment = Deployment(account=account, model="some-model")
        answer = await whole(upstream, deployment, call())
        stream = streamed(await upstream.send(deployment, call(stream=True)))
        events = b"".join([chunk async for chunk in stream.chunks])

    assert answer["choices"][0]["message"]["content"] == "hello big wörld 🎉"
    assert events.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("url", "passes"), [("gs://bucket/cat.png", True), ("gs://bucket/cat", False)])
async def test_google_reads_its_own_storage(upstream: LiteLLMUpstream, url: str, passes: bool) -> None:
    account = Account(
        name="a", provider="vertex_ai", wire="litellm", options={"vertex_credentials": "none", "vertex_project": "p"}
    )
    part = {"type": "image_url", "image_url": {"url": url}}
    asked = call(messages=[{"role": "user", "content": [part]}])
    # Without credentials the call goes nowhere; the picture is looked at before.
    with pytest.raises(UpstreamError if passes else InvalidRequestError):
        await upstream.send(Deployment(account=account, model="gemini-2.5-flash"), asked)


async def test_a_legacy_completion_of_several_prompts_is_refused(upstream: LiteLLMUpstream) -> None:
    async with Player(BEDROCK.wire()) as player:
        with pytest.raises(InvalidRequestError, match="one text as prompt"):
            await upstream.send(BEDROCK.deployment(player), call("completion", prompt=["a", "b"]))

    assert json.dumps(player.requests_total) == "0"
