from typing import Any

import pytest

from llmgateway.catalog.rows import put_together
from llmgateway.storage.admin.sealing import Seal, new_encryption_key
from tests.api.admin.office import SOMEBODY, Office

HOUSE: dict[str, Any] = {
    "name": "house",
    "provider": "hosted_vllm",
    "api_base": "http://vllm:8001/v1",
    "api_key": "sk-canary",
    "options": {
        "aws_region_name": "eu-1",
        "aws_secret_access_key": "hidden-canary",
        "extra_headers": {"x": "y-canary"},
    },
}
CANARIES = ("sk-canary", "hidden-canary", "y-canary")


async def test_a_provider_is_kept_without_its_secrets_in_clear(office: Office) -> None:
    made = await office.ask("POST", "/admin/providers", HOUSE)

    assert (made["name"], made["api_base"], made["api_key_exists"]) == ("house", HOUSE["api_base"], True)
    assert made["options"] == {"aws_region_name": "eu-1"}
    assert made["sealed_options"] == ["aws_secret_access_key", "extra_headers"]
    assert await office.ask("GET", "/admin/providers/house") == made
    assert (await office.ask("GET", "/admin/providers"))["items"] == [made]
    files = [path.read_bytes() for path in office.folder.rglob("*") if path.is_file()]
    assert any(b"hosted_vllm" in content for content in files)
    assert not any(canary.encode() in content for content in files for canary in CANARIES)
    row = await office.storage.provider("house")
    assert row is not None
    assert row.sealed_key is not None
    assert put_together(row.fields, office.seal.unseal(row.sealed_key)) == {
        name: value for name, value in HOUSE.items() if name != "name"
    }


async def test_it_is_served_once_the_catalog_heard_of_it(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    await office.reloaded()

    account = office.source.current.accounts["house"]
    assert (account.api_key, account.options["aws_secret_access_key"]) == ("sk-canary", "hidden-canary")
    await office.ask("DELETE", "/admin/providers/house")
    await office.reloaded()
    assert "house" not in office.source.current.accounts


async def test_a_change_leaves_what_it_does_not_name(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    changed = await office.ask("PATCH", "/admin/providers/house", {"timeout_s": 9, "limits": {"concurrent": 2}})
    await office.reloaded()

    assert (changed["timeout_s"], changed["limits"]["concurrent"], changed["api_key_exists"]) == (9, 2, True)
    account = office.source.current.accounts["house"]
    assert (account.timeout_s, account.api_key, account.limits.concurrent) == (9, "sk-canary", 2)
    back = await office.ask("PATCH", "/admin/providers/house", {"timeout_s": None})
    assert back["timeout_s"] is None


async def test_a_new_key_keeps_the_options_and_new_options_the_key(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    await office.ask("PATCH", "/admin/providers/house", {"api_key": "sk-canary-2"})
    changed = await office.ask("PATCH", "/admin/providers/house", {"options": {"top_k": 3}})
    await office.reloaded()

    account = office.source.current.accounts["house"]
    assert (account.api_key, dict(account.options)) == ("sk-canary-2", {"top_k": 3})
    assert (changed["options"], changed["sealed_options"], changed["api_key_exists"]) == ({"top_k": 3}, [], True)
    without = await office.ask("PATCH", "/admin/providers/house", {"api_key": None})
    assert without["api_key_exists"] is False


@pytest.mark.parametrize("move", [{"api_base": "https://elsewhere.example/v1"}, {"provider": "openai"}])
async def test_a_key_is_never_sent_to_another_address_than_it_was_given_for(office: Office, move: Any) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    error = await office.refused("PATCH", "/admin/providers/house", move)
    assert error["message"].endswith("send `api_key` and `options` again with it, or null.")

    await office.refused("PATCH", "/admin/providers/house", {**move, "api_key": "sk-new"})
    moved = await office.ask("PATCH", "/admin/providers/house", {**move, "api_key": "sk-new", "options": None})
    assert {name: moved[name] for name in move} == move


async def test_an_option_that_is_an_address_is_a_move_as_well(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    for name in ("api_base", "base_url", "aws_bedrock_runtime_endpoint", "HTTP_PROXY"):
        error = await office.refused(
            "PATCH", "/admin/providers/house", {"options": {name: "https://elsewhere.example"}}
        )
        assert error["param"] == "options"
        assert "send `api_key` again" in error["message"]
    await office.ask("PATCH", "/admin/providers/house", {"options": {"aws_region_name": "eu-2"}})
    await office.ask(
        "PATCH", "/admin/providers/house", {"options": {"base_url": "https://x.example"}, "api_key": "sk-new"}
    )


async def test_the_same_address_again_is_no_move(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    await office.ask("PATCH", "/admin/providers/house", {"api_base": HOUSE["api_base"]})

    assert [action for action, _ in await office.deeds()] == ["provider.create"]


@pytest.mark.parametrize(("name", "origin"), [("main", "file"), ("demo", "built-in")])
async def test_a_name_of_the_file_is_taken(office: Office, name: str, origin: str) -> None:
    error = await office.refused("POST", "/admin/providers", {**HOUSE, "name": name}, status=409)

    assert error["code"] == "already_exists"
    assert origin in error["message"]


async def test_a_name_is_given_once(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)

    assert (await office.refused("POST", "/admin/providers", HOUSE, status=409))["code"] == "already_exists"


async def test_one_that_deployments_rest_on_stays(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    made = await office.ask("POST", "/admin/deployments", {"name": "chat", "provider": "house", "model": "x"})

    error = await office.refused("DELETE", "/admin/providers/house", status=409)
    assert (error["code"], made["id"] in error["message"]) == ("provider_in_use", True)

    await office.ask("DELETE", f"/admin/deployments/{made['id']}")
    await office.ask("DELETE", "/admin/providers/house")
    for method in ("GET", "DELETE"):
        await office.refused(method, "/admin/providers/house", status=404)
    await office.refused("PATCH", "/admin/providers/house", {"timeout_s": 3}, status=404)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"provider": "hosted_vlm"}, "provider", "the nearest that LiteLLM knows is `hosted_vllm`"),
        ({"api_base": None}, "api_base", "hosted_vllm has no address of its own"),
        ({"api_base": "file:///etc/passwd"}, "api_base", "should match pattern"),
        ({"api_base": "http://user:sk-canary@vllm/v1"}, "api_base", "holds a login"),
        ({"api_base": "http://vllm/v1?key=1"}, "api_base", "should match pattern"),
        ({"api_key": "${KEY}"}, "api_key", "send the key itself"),
        ({"api_key": ""}, "api_key", "at least 1 character"),
        ({"security_level": "none"}, "security_level", "'low', 'medium' or 'high'"),
        ({"timeout": 3}, "timeout", "the nearest is `timeout_s`"),
        ({"name": "a/b"}, "name", "should match pattern"),
    ],
)
async def test_what_is_wrong_is_named_and_never_repeated(office: Office, change: Any, param: str, says: str) -> None:
    answer = await office.send("POST", "/admin/providers", {**HOUSE, **change})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["error"]["message"]
    assert not any(canary in answer.text for canary in CANARIES)


async def test_with_another_encryption_key_the_old_secret_is_replaced_whole_or_not_at_all(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    office.seal._keys = Seal([new_encryption_key()])._keys  # noqa: SLF001  as after a restart with other settings
    office.seal._made = None  # noqa: SLF001

    error = await office.refused("PATCH", "/admin/providers/house", {"api_key": "sk-new"}, status=409)
    assert error["code"] == "encryption_key_missing"

    await office.ask("PATCH", "/admin/providers/house", {"timeout_s": 5})
    changed = await office.ask("PATCH", "/admin/providers/house", {"api_key": "sk-new", "options": {}})
    assert changed["api_key_exists"] is True


async def test_no_secret_is_in_the_audit_log_or_the_log(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    await office.ask("PATCH", "/admin/providers/house", {"api_key": "sk-canary-2"})

    change, creation = (await office.storage.audit()).rows
    office.sink.flush()
    told = str(creation.details) + str(change.details) + office.log.getvalue().decode()
    assert not any(canary in told for canary in CANARIES)
    assert change.details == {"fields": ["api_key"]}
    assert creation.details["api_base"] == HOUSE["api_base"]


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY
    for method, path, body in (
        ("GET", "/admin/providers", None),
        ("POST", "/admin/providers", HOUSE),
        ("GET", "/admin/providers/a", None),
        ("PATCH", "/admin/providers/a", {"timeout_s": 1}),
        ("DELETE", "/admin/providers/a", None),
    ):
        await office.refused(method, path, body, status=403)
