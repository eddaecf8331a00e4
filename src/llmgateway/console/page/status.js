/* Status */
const LOOK_EVERY_MS = 10000;
let looking = null;
async function look() {
  clearTimeout(looking);
  if ($("status").hidden) return;
  const ready = await fetch("health/ready", { cache: "no-store" }).then((answer) => answer.json()).catch(() => null);
  set($("state"), ready ? { ready: "Ready", draining: "Ending: it takes no more requests" }[ready.status] || "Not ready" : "The gateway cannot be reached");
  $("state").className = ready?.status === "ready" ? "good" : "bad";
  set($("looked"), `at ${new Date().toLocaleTimeString()}`);
  facts($("checks"), Object.entries(ready?.checks || {}).map(([name, value]) => [plain(name), String(value)]));
  if (ready) await lookCloser();
  looking = setTimeout(look, LOOK_EVERY_MS);
}
const plain = (name) => name.replaceAll("_", " ");
const share = (part) => `${(100 * part).toFixed(1)} %`;
async function lookCloser() {
  try {
    if (!OPEN && !key) throw new Refusal("Providers and figures are for the admin key, or the key for metrics.", 401);
    const [whole, sum] = await Promise.all([read("health/detailed"), read("v1/health/metrics")]);
    facts($("figures"), [
      ["Requests", count(sum.total_requests)], ["In flight", count(sum.active_requests)], ["Tokens", count(sum.total_tokens_used)],
      ["Cost", usd(sum.total_cost)], ["Errors", share(sum.error_rate)], ["From the cache", share(sum.cache_hit_rate)],
      ["Answer time", sum.total_requests ? `half within ${seconds(1000 * sum.p50_response_time)}, 95 % within ${seconds(1000 * sum.p95_response_time)}` : ""],
      ["Up for", lasting(sum.uptime_seconds)],
    ]);
    const providers = Object.entries(whole.providers || {});
    $("no-providers").hidden = providers.length > 0;
    $("providers-place").hidden = !providers.length;
    rows($("providers"), providers.map(([name, one]) => [
      name, made("span", one.status, one.available ? "good" : "bad"), one.circuit,
      isKnown(one.latency_ms) ? seconds(one.latency_ms) : "", one.last_checked && moment(one.last_checked), one.error,
    ]));
    facts($("parts"), ["cache", "rate_limiter", "queue", "ledger", "catalog"].map((name) => [plain(name), part(whole[name])]));
    $("figures-place").hidden = false;
    $("hidden-figures").hidden = true;
  } catch (error) {
    $("figures-place").hidden = true;
    $("hidden-figures").hidden = false;
    set($("hidden-figures"), error.message);
  }
}
function part({ status, ...more } = {}) {
  return [status, ...Object.entries(more).filter(([, value]) => typeof value !== "object").map(([name, value]) => `${plain(name)}: ${typeof value === "number" ? count(value) : value}`)].join(", ");
}
function lasting(time_s) {
  const minutes = Math.round(time_s / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  return minutes < 2 ? `${Math.round(time_s)} s` : hours < 2 ? `${minutes} min` : days < 2 ? `${hours} h` : `${days} days`;
}
$("refresh").addEventListener("click", look);
shown["tab-status"] = look;

/* The start */
const MOST_TRIES = 5;
async function start() {
  listServices([]);
  offer([]);
  if (!OPEN && !key) return;
  try {
    offer((await read("v1/models")).data);
    if (!OPEN) judge("Taken. It is kept in this tab only, until that is closed.", false);
    const { items } = await patiently(() => read("api/v1/services?page_size=100"));
    listServices(items.filter((one) => one.is_active !== false));
  } catch (error) { refuse(error); }
}
/* The database opens a moment after the gateway. */
async function patiently(work) {
  for (let tries = 1; ; tries++) {
    try { return await work(); } catch (error) {
      if (error.status !== 503 || tries === MOST_TRIES) throw error;
      await wait(500);
    }
  }
}
$("key-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const given = $("key").value.trim();
  if (!/^[!-~]+$/.test(given)) return judge(given ? "A key has neither spaces nor letters beyond ASCII." : "Enter a key first.", true);
  alarm("");
  judge("…", false);
  keep(given);
  start().then(() => shown[document.querySelector("[aria-selected=true]").id]?.());
});
$("forget").addEventListener("click", () => {
  keep("");
  $("key").value = "";
  judge("The key is forgotten.", false);
  start();
  $("key").focus();
});
addEventListener("keydown", (pressed) => {
  if (pressed.key !== "Escape") return;
  if (answering) answering.abort();
  else alarm("");
});
$("key-form").hidden = OPEN;
$("key").value = key;
$("forget").hidden = !key;
await start();
const [place, job] = location.hash.slice(1).split("/"), wanted = tabs.find((tab) => tab.getAttribute("aria-controls") === place);
if (wanted) show(wanted, { place: location.hash.slice(1) });
if (job && place === "services") watch(job, { focus: false });
document.body.dataset.ready = "yes";
