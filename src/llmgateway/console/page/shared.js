/* What all parts of the page share. Nothing that came from outside becomes HTML: it is set as text, and as nothing else. */
const $ = (id) => document.getElementById(id);
const OPEN = document.body.dataset.auth === "none";
const KEPT_AS = "llmgateway-key";
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function made(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}
const isKnown = (value) => value !== undefined && value !== null && value !== "";
const count = (number) => isKnown(number) ? Number(number).toLocaleString() : "not known";
const usd = (amount) => isKnown(amount) ? `${Number(amount).toLocaleString(undefined, { maximumSignificantDigits: 3 })} USD` : "not known";
const seconds = (milliseconds) => milliseconds < 1 ? "under 1 ms" : milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
const moment = (text) => new Date(text).toLocaleString();

function facts(list, pairs) {
  const known = pairs.filter(([, value]) => isKnown(value));
  list.replaceChildren(...known.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
}
function rows(body, lines) {
  body.replaceChildren(...lines.map((cells) => {
    const line = document.createElement("tr");
    line.append(...cells.map((cell) => {
      const place = document.createElement("td");
      place.append(cell instanceof Node ? cell : isKnown(cell) ? String(cell) : "—");
      return place;
    }));
    return line;
  }));
}

/* Said aloud by a screen reader, and seen by nobody. */
const say = (text) => { $("spoken").textContent = text; };
const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function alarm(text) {
  $("alert-text").textContent = text;
  $("alert-close").hidden = !text;
  $("alert").classList.toggle("on", Boolean(text));
}
$("alert-close").addEventListener("click", () => alarm(""));

class Refusal extends Error {
  constructor(message, status, request = "") { super(message); this.status = status; this.request = request; }
}
async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const wrong = (body.errors || []).map((one) => `${(one.loc || []).slice(1).join(".")} ${one.msg}`).join("; ");
  const message = wrong || body.error?.message || (typeof body.detail === "string" && body.detail);
  const said = message || `The gateway answered ${answer.status} ${answer.statusText}.`;
  return new Refusal(said, answer.status, answer.headers.get("X-Gateway-Request-ID"));
}

/* The key */
const NO_KEY = "Enter a key first.";
const isForKey = (error) => error.status === 401 && !OPEN;
let key = kept();
function kept() { try { return sessionStorage.getItem(KEPT_AS) || ""; } catch { return ""; } }
function keep(value) {
  key = value;
  try { value ? sessionStorage.setItem(KEPT_AS, value) : sessionStorage.removeItem(KEPT_AS); } catch { /* Then it is kept as long as the page. */ }
  $("forget").hidden = !value;
}
function judge(text, isBad) {
  set($("key-note"), text);
  $("key-note").className = isBad ? "bad" : "dim";
  if (isBad) $("key").setAttribute("aria-invalid", "true"); else $("key").removeAttribute("aria-invalid");
}

async function ask(path, { json, headers, ...options } = {}) {
  const sent = { ...headers };
  if (key) sent.Authorization = `Bearer ${key}`;
  if (json !== undefined) {
    sent["Content-Type"] = "application/json";
    options = { method: "POST", ...options, body: JSON.stringify(json) };
  }
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options, headers: sent });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal("The gateway cannot be reached.", 0);
  }
  if (answer.ok) return answer;
  const error = await refusal(answer);
  if (isForKey(error)) judge(key ? error.message : NO_KEY, true);
  throw error;
}
const read = async (path, options) => (await ask(path, options)).json();

/* Server-sent events out of `fetch`, which, unlike EventSource, sends the key. Comments come too: they say that it lives. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) yield event(part);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
function event(part) {
  const lines = part.split("\n"), found = { id: "", comment: "" }, said = [];
  for (const line of lines) {
    const at = line.indexOf(":"), value = line.slice(at + 1).replace(/^ /, "");
    if (at === 0) found.comment = value;
    else if (line.slice(0, at) === "data") said.push(value);
    else if (line.slice(0, at) === "id") found.id = value;
  }
  return { ...found, text: said.join("\n") };
}

/* Tabs: arrows move (WAI-ARIA Authoring Practices, tabs with automatic activation). */
const tabs = [...document.querySelectorAll("[role=tab]")];
const shown = {};
function show(tab, { focus = false, place = tab.getAttribute("aria-controls") } = {}) {
  for (const one of tabs) {
    one.setAttribute("aria-selected", String(one === tab));
    one.tabIndex = one === tab ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${place}`);
  shown[tab.id]?.();
}
tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (pressed) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[pressed.key];
    if (to === undefined) return;
    pressed.preventDefault();
    show(tabs[(to + tabs.length) % tabs.length], { focus: true });
  });
});
const sends = (form) => (pressed) => {
  if (pressed.key !== "Enter" || !(pressed.ctrlKey || pressed.metaKey)) return;
  pressed.preventDefault();
  form.requestSubmit();
};
/* Tell whoever asked for something why it cannot be; what the key is to blame for stands beside the key. */
function refuse(error) {
  if (isForKey(error)) $("key").focus();
  else if (error.name !== "AbortError") alarm(error.message);
}
