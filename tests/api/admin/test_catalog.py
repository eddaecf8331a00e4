from tests.api.admin.office import ENVIRON, FILE, SOMEBODY, Office

YAML = {"content-type": "application/yaml"}


async def test_what_is_served_is_told_with_where_it_comes_from_and_without_secrets(office: Office) -> None:
    await office.ask("POST", "/admin/providers", {"name": "house", "provider": "groq", "api_key": "sk-canary"})
    made = await office.ask("POST", "/admin/deployments", {"name": "chat", "provider": "house", "model": "llama"})
    await office.reloaded()

    answer = await office.send("GET", "/admin/catalog")
    shown = answer.json()

    assert shown["version"] == office.source.current.version
    assert {name: one["origin"] for name, one in shown["providers"].items()} == {
        "main": "file",
        "house": "database",
        "demo": "built_in",
    }
    assert [(one["origin"], one["id"]) for one in shown["models"]["chat"]["deployments"]] == [
        ("file", None),
        ("database", made["id"]),
    ]
    assert (shown["providers"]["main"]["api_key_exists"], shown["providers"]["main"]["option_names"]) == (
        True,
        ["organization"],
    )
    assert shown["limits"]["tiers"]["house"]["requests_per_minute"] == 7
    assert shown["fault"] is None
    assert "canary" not in answer.text


async def test_a_catalog_is_checked_without_being_served(office: Office) -> None:
    served = office.source.current
    text = FILE.replace("gpt-4o", "gpt-4.1") + "webhooks: {secret: x}\n"
    text = text.replace("{main:", "{more: {provider: groq}, main:").replace("organization: org-canary", "a: b")

    found = await office.ask("POST", "/admin/catalog/check", content=text, headers=YAML)

    assert (found["valid"], found["faults"]) == (True, [])
    assert found["changes"] == {
        "anything": True,
        "providers": {"added": ["more"], "removed": [], "changed": ["main"]},
        "models": {"added": [], "removed": [], "changed": ["chat"]},
        "passthrough": False,
        "auto": False,
        "equivalents": False,
        "limits": False,
        "webhooks": True,
    }
    assert any("more" in warning for warning in found["warnings"])
    assert office.source.current is served


async def test_how_models_are_routed_is_told(office: Office) -> None:
    office.folder.joinpath("gateway.yaml").write_text(
        FILE.replace("{name: chat,", "{name: chat, fallbacks: {any: []}, hedge: {}, probe: {interval_s: 9},")
        + "auto: {tasks: {code: chat}}\nequivalents: [[openai/gpt-4o, groq/x]]\n"
    )
    office.source.request_reload()
    await office.source.look()

    shown = await office.ask("GET", "/admin/catalog")

    chat = shown["models"]["chat"]
    assert (chat["strategy"], chat["rescue"], chat["hedge"]) == (
        "priority",
        False,
        {"percentile": 95, "max_share": 0.03},
    )
    assert chat["fallbacks"] == {"any": [], "context": None, "content_filter": None, "rate_limit": None}
    assert (chat["deployments"][0]["probe_s"], chat["deployments"][0]["tokenizer"]) == (9, None)
    assert shown["auto"] == {"tasks": {"code": "chat"}, "models": None, "strategy": "balanced"}
    assert shown["own_equivalents"] == {"openai/gpt-4o": ["groq/x"], "groq/x": ["openai/gpt-4o"]}


async def test_the_catalog_that_is_served_changes_nothing(office: Office) -> None:
    found = await office.ask("POST", "/admin/catalog/check", content=FILE, headers=YAML)

    assert (found["changes"]["anything"], found["changes"]["limits"]) == (False, False)


async def test_faults_are_told_all_at_once(office: Office) -> None:
    text = "providers: {a: {provider: opnai}}\nmodells: []\n"

    found = await office.ask("POST", "/admin/catalog/check", content=text, headers=YAML)

    assert (found["valid"], len(found["faults"]), found["changes"]) == (False, 2, None)
    assert found["faults"][0].startswith("gateway.yaml:1: providers.a.provider: ")
    assert "gateway.yaml:2: modells: there is no such key; the nearest is `models`" in found["faults"][1]


async def test_nothing_of_the_environment_can_be_read_through_a_check(office: Office) -> None:
    places = [
        'providers: {a: {provider: "${KEY}"}}',
        'providers: {a: {provider: openai, timeout_s: "${KEY}", api_base: "${KEY}", api_version: "${KEY}"}}',
        'models: [{name: "${KEY}", deployments: [{provider: demo, model: x}]}]',
        (
            'models: [{name: "${KEY}", deployments: [{provider: main, model: x}]}]\n'
            "providers: {main: {provider: openai, api_key: k}}"
        ),
        'models: [{name: a, deployments: [{provider: "${KEY}", model: x}]}]',
        'limits: {tiers: {"${KEY}": {requests_per_minute: "${KEY}"}}}',
        'models: [{name: a, strategy: "${KEY:-x}", deployments: []}]',
        'models: [{name: "${KEY}", fallbacks: {any: ["${KEY}", b]}}, {name: b, fallbacks: {any: ["${KEY}"]}}]',
        'models: [{name: a, tokenizer: "${KEY}", fallbacks: {any: ["x${KEY}"]}}]',
        'models: [{name: a, tokenizer: "${KEY}.json", capabilities: ["${KEY}"]}]',
        'auto: {tasks: {code: "${KEY}"}, models: ["${KEY}"]}\nequivalents: [["${KEY}", "${KEY}/x"]]',
    ]
    for text in places:
        answer = await office.send("POST", "/admin/catalog/check", content=text, headers=YAML)
        assert answer.status_code == 200, text
        assert ENVIRON["KEY"] not in answer.text, text


async def test_what_is_no_text_and_what_is_too_long_is_refused(office: Office) -> None:
    await office.refused("POST", "/admin/catalog/check", content=b"\xff\xfe\x00", headers=YAML)
    await office.refused("POST", "/admin/catalog/check", content=b"#" * (1024 * 1024 + 1), headers=YAML, status=413)


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY

    await office.refused("GET", "/admin/catalog", status=403)
    await office.refused("POST", "/admin/catalog/check", content=FILE, headers=YAML, status=403)
