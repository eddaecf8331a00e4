"""The page as a person has it: in a headless Chromium, through the front door."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.console.browser import CTRL, SHIFT, Page, chromium, page_of
from tests.console.png import colours
from tests.upstreams.server import Player

pytestmark = pytest.mark.timeout(60)
KEY = "shared-key-0001"
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> <b>We decided it.</b>"
MEETING = "Anna: We decided to ship on Friday. 😀\nBob: I agree. Carol pays the bill of 10 euros.\n"
FOCUSED = "document.activeElement.id"
ANSWER = "document.querySelector('.turn.model .text')?.textContent"
EXPLAINED = "document.querySelector('.turn.model dl')"
STATE = "document.getElementById('job').dataset.state"


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """One browser for all; each test has a profile of its own in it."""
    with chromium() as address:
        yield address


@pytest.fixture
async def page(devtools: str) -> AsyncIterator[Page]:
    async with page_of(devtools) as opened:
        yield opened
        assert opened.faults == []


async def test_a_chat_tells_who_answered_why_and_what_it_cost_and_asks_nobody_else(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await page.goto(g.url)

    await page.type("#message", "Hello, gateway!")
    await page.press("Enter", modifiers=CTRL)
    await page.until(EXPLAINED)

    assert await page.value(ANSWER) == "Hello, gateway!"
    told = await page.text(".turn.model summary")
    assert told.startswith("demo / echo: only deployment · ")
    assert " tokens in, " in told
    assert " · 0 USD · " in told
    assert await page.value(FOCUSED) == "message"
    assert await page.value("document.cookie + Object.keys(sessionStorage) + Object.keys(localStorage)") == ""
    assert {asked.startswith((g.url, "data:")) for asked in page.asked if asked != "about:blank"} == {True}


async def test_an_answer_is_shown_as_it_comes_and_escape_stops_it(
    gateway: Serve, catalog: str, provider: Player, page: Page
) -> None:
    g = await gateway(catalog)
    provider.always(lambda step: step.silent(pieces=4))
    await page.goto(g.url)
    await page.type("#message", "Tell me of the sea")

    await page.press("Enter", modifiers=CTRL)
    await page.until(f"{ANSWER}?.length > 2")
    # What comes letter by letter is not read out letter by letter.
    aloud = "document.querySelector('.turn.model').closest('[aria-live], [role=log], [role=status], [role=alert]')"
    assert await page.value(aloud) is None
    await page.press("Escape")
    await page.until(EXPLAINED)

    assert "Stopped." in await page.text(".turn.model")
    assert await page.value("document.getElementById('spoken').textContent") == "Stopped."
    assert await page.value("document.getElementById('stop').hidden")
    await provider.until(lambda: len(provider.cancels) == 1)


async def test_without_streaming_with_instructions_and_a_model_of_another_name_the_provider_is_asked_so(
    gateway: Serve, catalog: str, provider: Player, page: Page
) -> None:
    g = await gateway(catalog)
    await page.goto(g.url)

    await page.value("document.getElementById('model').selectedIndex = document.getElementById('model').length - 1")
    await page.value("document.getElementById('model').dispatchEvent(new Event('change'))")
    assert await page.value(FOCUSED) == "other"
    await page.call("Input.insertText", text="chat")
    await page.type("#temperature", "0.5")
    await page.value("document.querySelector('#chat-form details').open = true")
    await page.type("#system", "Be short.")
    await page.value("document.getElementById('stream').focus()")
    await page.press("Space")
    await page.type("#message", "Hello")
    await page.click("#send")
    await page.until(EXPLAINED)

    asked = provider.last.json
    assert asked["stream"] is False
    assert asked["temperature"] == 0.5
    assert asked["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    assert await page.value(ANSWER)


async def test_a_service_is_a_model_in_the_playground_too(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await ready(g)
    await page.goto(g.url)

    await page.value("document.getElementById('model').value = 'service/summarize'")
    await page.type("#message", MEETING)
    await page.press("Enter", modifiers=CTRL)
    await page.until(EXPLAINED)

    assert (await page.value(ANSWER)).startswith("Anna: We decided to ship on Friday.")
    told = await page.text(".turn.model summary")
    assert told.startswith("demo / summary · ")
    assert "not known" not in told


async def test_what_a_provider_refuses_is_told_and_the_question_can_be_sent_again(
    gateway: Serve, catalog: str, provider: Player, page: Page
) -> None:
    g = await gateway(catalog)
    provider.always(provider.wire.error(400, f"No: {EVIL}"))
    await page.goto(g.url)
    await page.type("#message", "Hello")

    await page.press("Enter", modifiers=CTRL)
    await page.until(EXPLAINED)

    assert EVIL in await page.text(".turn.model .bad")
    assert await page.value("document.getElementById('message').value") == "Hello"
    assert await page.value("document.title") == "LLM Gateway"


async def test_nothing_of_an_answer_a_document_or_a_name_becomes_html(
    gateway: Serve, page: Page, tmp_path: Path
) -> None:
    g = await gateway()
    await ready(g)
    document = tmp_path / "<img src=x onerror=alert(1)>.txt"
    document.write_text(EVIL)
    await page.goto(g.url)

    await page.type("#message", EVIL)
    await page.press("Enter", modifiers=CTRL)
    await page.until(EXPLAINED)
    await page.drop(document)
    await page.until("!document.getElementById('taken').hidden")
    await page.press("Tab")
    await page.click("#run")
    await page.until(f"{STATE} === 'completed' && document.querySelector('#jobs button')")

    assert await page.value(ANSWER) == EVIL
    assert "<b>We decided it.</b>" in await page.text("#result")
    assert document.name in await page.text("#jobs")
    assert await page.value("document.querySelectorAll('main img, main script, main b').length") == 0
    assert await page.value("document.title") == "LLM Gateway"


async def test_a_dropped_file_is_planned_run_watched_and_its_result_copied_and_saved(
    gateway: Serve, page: Page, tmp_path: Path
) -> None:
    g = await gateway()
    await ready(g)
    document = tmp_path / "meeting.txt"
    document.write_text(MEETING)
    await page.goto(g.url)

    await page.drop(document)
    await page.until("!document.getElementById('taken').hidden")
    assert await page.value("document.querySelector('[aria-selected=true]').id") == "tab-services"
    assert await page.text("#peek") == MEETING
    await page.click("#plan")
    await page.until("/tokens in .* for nothing/.test(document.getElementById('planned').textContent)")
    await page.click("#run")
    await page.until(f"{STATE} === 'completed'")

    assert await page.text("#job-title") == "Summarize: meeting.txt"
    shown = await page.text("#result")
    assert "We decided to ship on Friday." in shown
    assert "demo / summary" in await page.text("#job-facts")
    assert await page.value("document.getElementById('bar').value") == 100
    (job,) = (await g.client.get("/api/v1/jobs")).json()["items"]
    assert job["input_file_name"] == "meeting.txt"
    await page.click("#copy")
    await page.until("document.getElementById('copied').textContent === 'Copied.'")
    await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await page.click("#save")
    while (await page.hear("Page.downloadProgress"))["state"] != "completed":
        pass
    name = await page.value("document.getElementById('save').download")
    assert name.startswith("summarize-")
    assert (tmp_path / name).read_text() == shown


async def test_a_whole_job_can_be_ordered_by_keyboard_alone(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await ready(g)
    await page.goto(g.url)

    await page.press("Tab", "Tab")
    assert await page.value(FOCUSED) == "tab-playground"
    await page.press("ArrowRight")
    assert await page.value(FOCUSED) == "tab-services"
    assert await page.value("document.getElementById('playground').hidden")
    await page.press("End", "ArrowRight", "ArrowLeft", "Home", "ArrowRight")
    assert await page.value(FOCUSED) == "tab-services"
    passed = []
    while await page.value(FOCUSED) != "document":
        passed.append(await page.value(FOCUSED))
        await page.press("Tab")
    assert passed == ["tab-services", "", "service", "flavor", "file"]
    await page.call("Input.insertText", text=MEETING)
    await page.press("Enter", modifiers=CTRL)
    await page.until(f"{STATE} === 'completed'")

    assert await page.value(FOCUSED) == "job-title"
    await page.press("Tab")
    assert await page.value(FOCUSED) == "copy"
    await page.press("Tab", modifiers=SHIFT)
    assert await page.value(FOCUSED) != "copy"


async def test_a_watch_that_breaks_goes_on_after_the_last_event_it_had(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await ready(g)
    await page.goto(f"{g.url}/#services")
    await page.type("#document", MEETING)
    await page.call("Fetch.enable", patterns=[{"urlPattern": "*/events"}])

    await page.press("Enter", modifiers=CTRL)
    first = await page.hear("Fetch.requestPaused")
    event = {"id": 1, "event_type": "status_change", "status": "queued", "timestamp": "2026-01-01T00:00:00Z"}
    await page.call(
        "Fetch.fulfillRequest",
        requestId=first["requestId"],
        responseCode=200,
        responseHeaders=[{"name": "content-type", "value": "text/event-stream"}],
        body=base64.b64encode(f"id: 1\ndata: {json.dumps(event)}\n\nid: 2\ndata: {{".encode()).decode(),
    )
    second = await page.hear("Fetch.requestPaused")
    await page.call("Fetch.continueRequest", requestId=second["requestId"])
    await page.until(f"{STATE} === 'completed'")

    assert "Last-Event-ID" not in first["request"]["headers"]
    assert second["request"]["headers"]["Last-Event-ID"] == "1"
    heard = await page.value("[...document.querySelectorAll('#happened li')].map(e => e.textContent.split(' ').at(-1))")
    assert heard.count("queued") == 1
    assert heard[-1] == "completed"
    assert "We decided to ship on Friday." in await page.text("#result")


async def test_a_job_that_runs_is_found_again_after_a_reload_and_can_be_cancelled(
    gateway: Serve, catalog: str, provider: Player, page: Page
) -> None:
    g = await gateway(catalog)
    await ready(g)
    provider.always(lambda step: step.silent(pieces=1))
    await page.goto(f"{g.url}/#services")
    await page.type("#document", MEETING)
    await page.press("Enter", modifiers=CTRL)
    await provider.until(lambda: provider.requests_total > 0)
    await page.until("location.hash.length > 20")

    await page.goto(f"{g.url}/{await page.value('location.hash')}")
    await page.until("document.getElementById('phase').textContent.startsWith('processing')")
    assert await page.text("#job-title") == "Summarize: Anna: We decided to ship on Friday. 😀"
    await page.click("#cancel")
    await page.until(f"{STATE} === 'cancelled'")

    assert await page.value("document.getElementById('cancel').hidden")
    await provider.until(lambda: len(provider.cancels) == 1)
    await page.until("document.getElementById('jobs').textContent.includes('cancelled')")


async def test_a_job_that_failed_says_why_and_can_go_on(
    gateway: Serve, catalog: str, provider: Player, page: Page
) -> None:
    g = await gateway(catalog)
    await ready(g)
    provider.always(provider.wire.error(400, "I do not like this."))
    await page.goto(f"{g.url}/#services")
    await page.type("#document", MEETING)
    await page.press("Enter", modifiers=CTRL)
    await page.until(f"{STATE} === 'failed'")
    assert "I do not like this." in await page.text("#fault")

    provider.always(None)
    await page.click("#resume")
    await page.until(f"{STATE} === 'completed'")

    assert await page.text("#result")
    assert await page.value("document.getElementById('fault').hidden")


async def test_a_job_that_is_not_there_is_told_and_nothing_is_shown_of_it(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await ready(g)

    await page.goto(f"{g.url}/#services/01a200a5-4164-7cc1-be3b-8aba9301671c")
    await page.until("document.getElementById('alert-text').textContent")

    assert await page.value("document.getElementById('job').hidden")
    await page.press("Escape")
    assert await page.text("#alert-text") == ""


async def test_the_status_is_shown_with_providers_and_figures(gateway: Serve, page: Page) -> None:
    g = await gateway()
    await ready(g)
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hi"}]}
    await g.client.post("/v1/chat/completions", json=body)
    await page.goto(g.url)

    await page.click("#tab-status")
    await page.until("document.querySelector('#providers td')")

    assert await page.text("#state") == "Ready"
    assert "database" in await page.text("#checks")
    assert (await page.text("#providers")).split()[:2] == ["demo", "healthy"]
    assert "Requests\n1\n" in await page.text("#figures")


async def test_a_key_is_asked_for_checked_kept_for_the_tab_and_forgotten(gateway: Serve, page: Page) -> None:
    g = await gateway(auth__mode="gateway", auth__gateway_keys=KEY)
    await ready(g)
    await page.goto(g.url)
    assert await page.text("#model") == "Enter a key first.\nAnother model …"

    await page.type("#key", "shared-key-000X")
    await page.press("Enter")
    await page.until("document.getElementById('key-note').className === 'bad'")
    assert "This key is not known here" in await page.text("#key-note")
    assert await page.value("document.getElementById('key').getAttribute('aria-invalid')") == "true"
    await page.value("document.getElementById('key').select()")
    await page.call("Input.insertText", text=KEY)
    await page.press("Enter")
    await page.until("document.getElementById('service').value")
    await page.goto(g.url)
    await page.type("#message", "Hello")
    await page.press("Enter", modifiers=CTRL)
    await page.until(EXPLAINED)

    assert await page.value(ANSWER) == "Hello"
    assert await page.value("document.cookie + Object.keys(localStorage)") == ""
    assert [asked for asked in page.asked if KEY in asked] == []
    await page.click("#forget")
    assert await page.value("sessionStorage.length") == 0
    assert await page.value("document.getElementById('key').value") == ""


@pytest.mark.parametrize(("scheme", "background"), [("light", "ffffff"), ("dark", "14181f")])
async def test_it_is_there_to_be_seen_on_a_narrow_screen_too(
    gateway: Serve, page: Page, scheme: str, background: str
) -> None:
    g = await gateway()
    await ready(g)
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await page.call("Emulation.setDeviceMetricsOverride", width=400, height=600, deviceScaleFactor=1, mobile=False)
    await page.goto(g.url)

    for tab in ("playground", "services", "status"):
        await page.click(f"#tab-{tab}")
        seen = colours(await page.screenshot())

        assert len(seen) > 20, tab
        assert bytes.fromhex(background) in {colour[:3] for colour in seen}
        assert await page.value("document.documentElement.scrollWidth <= innerWidth"), tab
