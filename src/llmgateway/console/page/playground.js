/* Playground */
const OTHER = "\u0000other";
let messages = [], answering = null;

function turn(role, who) {
  const box = made("article", "", `turn ${role}`), text = made("div", "", "text");
  box.append(made("h3", who), text);
  $("quiet").hidden = true;
  $("talk").append(box);
  return { box, text };
}
function following(change) {
  const talk = $("talk"), isAtEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 48;
  change();
  if (isAtEnd) talk.scrollTop = talk.scrollHeight;
}
const chosenModel = () => $("model").value === OTHER ? $("other").value.trim() : $("model").value;

function offer(models) {
  const groups = new Map(), before = $("model").value;
  for (const { id, owned_by: owner } of models) {
    const [service, flavor] = id.startsWith("service/") ? id.split(":") : [];
    if (flavor !== undefined) continue;  // the tab "Services" has the flavors
    const group = service ? "Document services" : owner || "Models";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(new Option(id, id));
  }
  const listed = [...groups].sort(([one], [other]) => (one === "Document services") - (other === "Document services"));
  const nothing = models.length ? [] : [new Option(OPEN || key ? "No models" : NO_KEY, "")];
  $("model").replaceChildren(...nothing, ...listed.map(([name, options]) => {
    const group = document.createElement("optgroup");
    group.label = name;
    group.append(...options);
    return group;
  }), new Option("Another model …", OTHER));
  const ids = models.map((one) => one.id);
  $("model").value = ids.includes(before) ? before : ids.includes("auto") ? "auto" : $("model").options[0].value;
  chooseModel();
}
function chooseModel() {
  $("other-place").hidden = $("model").value !== OTHER;
  $("other").required = $("model").value === OTHER;
}
$("model").addEventListener("change", () => { chooseModel(); if ($("model").value === OTHER) $("other").focus(); });

function asked() {
  const system = $("system").value.trim();
  const json = { model: chosenModel(), stream: $("stream").checked };
  json.messages = system ? [{ role: "system", content: system }, ...messages] : messages;
  if ($("temperature").value !== "") json.temperature = Number($("temperature").value);
  return json;
}

async function* said(answer, isStream, note) {
  if (!isStream) {
    const { choices } = await answer.json();
    if (choices[0].finish_reason === "length") note("Cut off at the limit of tokens.");
    yield choices[0].message.content ?? choices[0].message.refusal ?? "";
    return;
  }
  for await (const { text, comment } of events(answer)) {
    if (comment.startsWith("progress ")) note(far(JSON.parse(comment.slice(9))));
    if (text === "[DONE]") return;
    if (!text) continue;
    const chunk = JSON.parse(text), [choice] = chunk.choices || [];
    if (chunk.error) throw new Refusal(chunk.error.message, 0);
    if (choice?.finish_reason === "length") note("Cut off at the limit of tokens.");
    yield choice?.delta?.content ?? choice?.delta?.refusal ?? "";
  }
}

$("chat-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const question = $("message").value;
  if (answering || !question.trim()) return;
  alarm("");
  const all = messages;
  all.push({ role: "user", content: question });
  const mine = turn("user", "You"), json = asked(), box = turn("model", json.model);
  const words = document.createTextNode(""), note = made("p", "…", "dim"), began = performance.now();
  mine.text.textContent = question;
  box.text.append(words);
  box.box.append(note);
  $("message").value = "";
  $("talk").scrollTop = $("talk").scrollHeight;
  say("Waiting for the answer.");
  const control = answering = new AbortController();
  $("stop").hidden = false;
  $("send").disabled = true;
  let id = "", job = "", first = null;
  try {
    const answer = await ask("v1/chat/completions", { json, signal: control.signal });
    id = answer.headers.get("X-Gateway-Request-ID");
    job = answer.headers.get("X-Job-ID");
    for await (const piece of said(answer, json.stream, (text) => { note.textContent = text; })) {
      if (!piece) continue;
      if (first === null) { first = performance.now() - began; note.textContent = ""; }
      following(() => words.appendData(piece));
    }
    all.push({ role: "assistant", content: words.data });
    if (!words.data) note.textContent = "The answer is empty.";
    else if (note.textContent === "…") note.textContent = "";
    say(`Answer: ${words.data.length > 500 ? `${words.data.slice(0, 500)} … and so on.` : words.data}`);
  } catch (error) {
    id ||= error.request || "";
    const why = error.name === "AbortError" ? "Stopped." : error.message;
    following(() => { note.textContent = why; if (why !== "Stopped.") note.className = "bad"; });
    say(why);
    if (words.data) all.push({ role: "assistant", content: words.data });
    else { all.pop(); $("message").value ||= question; }
  } finally {
    answering = null;
    $("stop").hidden = true;
    $("send").disabled = false;
    if (document.activeElement === document.body) $("message").focus();
  }
  const took = performance.now() - began;
  if (job) await explainJob(box.box, job, took);
  else if (id) await explain(box.box, id, took, json.stream ? first : null);
});

/* Who answered and why, as the ledger has it; its entry is there a moment after the answer. */
async function explain(box, id, took, first) {
  let was = null;
  for (let times = 0; times < 5 && !was; times++) {
    was = await read(`v1/requests/${encodeURIComponent(id)}`).catch(() => null);
    if (!was) await wait(200);
  }
  const { usage, route, cache, timings, attempts = [] } = was || {};
  const who = [was?.provider, was?.upstream_model].filter(Boolean).join(" / ");
  const tokens = usage ? `${usage.estimated ? "about " : ""}${count(usage.prompt_tokens)} tokens in, ${count(usage.completion_tokens)} out` : "";
  const cost = was ? isKnown(was.cost_usd) ? usd(was.cost_usd) : "cost not known" : "";
  const why = route?.reason && who ? `${who}: ${route.reason}` : who;
  explained(box, [why, tokens, cost, seconds(took)], [
    ["Answered by", who], ["Why", route?.reason], ["Asked for", was?.requested_model],
    ["Tokens", tokens.replace(" tokens", "")], ["of these, kept at the provider", usage?.cached_tokens ? count(usage.cached_tokens) : ""],
    ["spent on thinking", usage?.reasoning_tokens ? count(usage.reasoning_tokens) : ""], ["Cost", was ? usd(was.cost_usd) : ""],
    ["Cache", cache?.status?.toLowerCase()], ["First text", first === null ? "" : `after ${seconds(first)}`], ["All of it", `after ${seconds(took)}`],
    ["In the gateway", isKnown(timings?.overhead_ms) ? `${timings.overhead_ms.toFixed(1)} ms` : ""],
    ["Attempts", attempts.map((one) => `${one.provider}/${one.model}: ${one.outcome}, ${seconds(one.duration_ms)}`).join("; ")], ["Request", id],
  ]);
}
/* A service's calls are the job's: the request itself has asked nobody. */
async function explainJob(box, id, took) {
  const job = await read(`api/v1/jobs/${encodeURIComponent(id)}`).catch(() => null);
  if (!job) return;
  const tokens = `${count(job.metrics.prompt_tokens)} tokens in, ${count(job.metrics.completion_tokens)} out`;
  const cost = isKnown(job.metrics.cost) ? usd(job.metrics.cost) : "cost not known";
  explained(box, [answeredBy(job), tokens, cost, seconds(took)], factsOf(job));
}
function explained(box, shortly, pairs) {
  const place = document.createElement("details"), list = made("dl", "", "facts");
  facts(list, pairs);
  place.append(made("summary", shortly.filter(Boolean).join(" · ")), list);
  following(() => box.append(place));
}

$("message").addEventListener("keydown", sends($("chat-form")));
$("system").addEventListener("keydown", sends($("chat-form")));
$("stop").addEventListener("click", () => { answering?.abort(); $("message").focus(); });
$("clear").addEventListener("click", () => {
  answering?.abort();
  messages = [];
  $("talk").replaceChildren($("quiet"));
  $("quiet").hidden = false;
  $("message").focus();
});
