"""A headless Chromium without a network, and one page of it, driven over the DevTools protocol."""

import base64
import itertools
import json
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect

from tests import services

WITHIN_S = 20.0
# It asks nobody but this machine: no updates, no lists of bad sites, no search.
_ALONE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-extensions", "--disable-crash-reporter", "--disable-breakpad", "--no-proxy-server"),
    *("--disable-features=Translate,OptimizationHints,MediaRouter,AutofillServerCommunication", "--lang=en-US"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0"),
)
# What a key is on the wire: its `key`, its `code`, the number that Windows has for it, and the text that it types.
_KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Space": ("Space", 32, " "),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
}
CTRL, SHIFT = 2, 8


@contextmanager
def chromium() -> Iterator[str]:
    """Run a Chromium with a profile of its own; gives the address of its DevTools."""
    found = services.find(services.CHROMIUM)
    with tempfile.TemporaryDirectory(prefix="llmgateway-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        environ = {"HOME": name, **_fonts(found, folder)}
        command = found.command(*_ALONE, f"--user-data-dir={folder / 'profile'}", "about:blank", environ=environ)
        told = folder / "profile" / "DevToolsActivePort"

        def ready() -> bool:
            return told.exists() and len(told.read_text().splitlines()) == 2

        with services.running(command, folder, ready, None, signal.SIGTERM):
            port, path = told.read_text().splitlines()
            yield f"ws://127.0.0.1:{port}{path}"


def _fonts(found: services.Found, folder: Path) -> dict[str, str]:
    """Show an unpacked Chromium the fonts that were unpacked with it; without any it does not start."""
    if found.root is None:
        return {}
    config = folder / "fonts.conf"
    places = "".join(f"<dir>{place}</dir>" for place in (found.root / "usr/share/fonts", "/usr/share/fonts"))
    config.write_text(f"<fontconfig>{places}<cachedir>{folder / 'fonts'}</cachedir></fontconfig>")
    return {"FONTCONFIG_FILE": str(config)}


class Page:
    """A page in a profile of its own. What went wrong in it is in `faults`, and whom it asked in `asked`."""

    def __init__(self, line: ClientConnection) -> None:
        self.faults: list[str] = []
        self.asked: list[str] = []
        self._line = line
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._heard: deque[tuple[str, dict[str, Any]]] = deque(maxlen=1000)

    async def open(self) -> None:
        """Make the page."""
        context = await self.call("Target.createBrowserContext", disposeOnDetach=True)
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context["browserContextId"])
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer."""
        number = next(self._numbers)
        await self._line.send(json.dumps({"id": number, "method": method, "params": params, **self._session}))
        with anyio.fail_after(WITHIN_S + 5):
            while True:
                heard = json.loads(await self._line.recv())
                if heard.get("id") == number:
                    break
                self._note(heard["method"], heard["params"])
        if "error" in heard:
            raise RuntimeError(f"{method}: {heard['error']['message']}")
        result: dict[str, Any] = heard["result"]
        return result

    async def hear(self, method: str) -> dict[str, Any]:
        """Wait for an event of that name; each is heard once."""
        with anyio.fail_after(WITHIN_S):
            while True:
                for at, (name, params) in enumerate(self._heard):
                    if name == method:
                        del self._heard[at]
                        return params
                heard = json.loads(await self._line.recv())
                self._note(heard["method"], heard["params"])

    async def goto(self, url: str) -> None:
        """Open an address and wait until the page is ready to be used."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)
        await self.until("document.body?.dataset.ready")

    async def value(self, expression: str) -> Any:
        """Give what an expression of JavaScript, or the promise that it is, comes to."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    async def until(self, condition: str, within_s: float = WITHIN_S) -> None:
        """Wait for an expression to become true."""
        waiting = (
            f"new Promise((done) => {{ const over = Date.now() + {within_s * 1000}, look = () => {{"
            f" if ({condition}) done(true); else if (Date.now() > over) done(false); else setTimeout(look, 10); }};"
            " look(); })"
        )
        if not await self.value(waiting):
            shown = await self.value("document.body.innerText")
            raise AssertionError(f"{condition} never came true; faults: {self.faults}; the page shows:\n{shown}")

    async def text(self, selector: str) -> str:
        """Give the text of an element as it is shown."""
        shown: str = await self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return shown

    async def press(self, *keys: str, modifiers: int = 0) -> None:
        """Press and release keys, one after the other."""
        for key in keys:
            code, number, text = _KEYS[key]
            pressed = {"key": " " if key == "Space" else key, "code": code, "windowsVirtualKeyCode": number}
            typed = {"text": text} if text and not modifiers else {}
            kind = "keyDown" if typed else "rawKeyDown"
            await self.call("Input.dispatchKeyEvent", type=kind, modifiers=modifiers, **pressed, **typed)
            await self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **pressed)

    async def type(self, selector: str, text: str) -> None:
        """Write into a field."""
        await self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Click where an element is."""
        at = await self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const r = e.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    async def choose(self, selector: str, path: Path) -> None:
        """Choose a file, as a person does in the dialog."""
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    async def drop(self, path: Path) -> None:
        """Drag a file into the page and let it go."""
        dragged = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=dragged)

    async def screenshot(self) -> bytes:
        """Give what is to be seen, as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        self._heard.append((method, params))
        match method:
            case "Runtime.exceptionThrown":
                self.faults.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
            # That an answer is no 200 stands there as well: that is for the page to tell.
            case "Log.entryAdded" if params["entry"]["level"] == "error" and params["entry"]["source"] != "network":
                self.faults.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])


@asynccontextmanager
async def page_of(devtools: str, width: int = 1280, height: int = 900) -> AsyncIterator[Page]:
    """Open an empty page of that size; what it kept is gone after it."""
    async with connect(devtools, max_size=None, proxy=None) as line:
        page = Page(line)
        await page.open()
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        yield page
