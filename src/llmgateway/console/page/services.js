/* Services: a document in, a job, its result. */
const ENDED = ["completed", "failed", "cancelled"];
const MOST_BYTES = 20 * 1024 * 1024, PEEK_BYTES = 4096;
// The gateway says something every 15 seconds at least: a line that is silent for longer is dead.
const SILENCE_MS = 45000, LONGEST_PAUSE_MS = 10000;
let services = [], file = null, watching = null;

function listServices(found) {
  services = found;
  const before = $("service").value, usual = found.find((one) => one.route === "summarize") || found[0];
  $("service").replaceChildren(...found.map((one) => new Option(one.name, one.id)));
  $("run").disabled = $("plan").disabled = !found.length;
  if (!found.length) { $("flavor").replaceChildren(); set($("about"), OPEN || key ? "There are no services here." : NO_KEY); set($("about-flavor"), ""); return; }
  $("service").value = found.some((one) => one.id === before) ? before : usual.id;
  chooseService();
}
function chooseService() {
  const service = services.find((one) => one.id === $("service").value);
  const flavors = service.flavors.filter((one) => one.is_active !== false);
  $("flavor").replaceChildren(...flavors.map((one) => new Option(one.name + (one.is_default ? " (usual)" : ""), one.id)));
  $("flavor").value = (flavors.find((one) => one.is_default) || flavors[0] || { id: "" }).id;
  set($("about"), service.description || "");
  chooseFlavor();
}
function chooseFlavor() {
  const flavors = services.find((one) => one.id === $("service").value).flavors;
  const flavor = flavors.find((one) => one.id === $("flavor").value);
  const mode = { single_pass: "in one call", iterative: "part by part", map_reduce: "all parts side by side" };
  set($("about-flavor"), flavor ? `This flavor asks ${flavor.model}, ${mode[flavor.processing_mode] || flavor.processing_mode}.` : "It has no flavor that is on.");
}
$("service").addEventListener("change", chooseService);
$("flavor").addEventListener("change", chooseFlavor);

/* The file goes as it is: what it is, and how it is encoded, the gateway finds out. */
async function take(given) {
  if (given.size > MOST_BYTES) return alarm(`${given.name} has ${size(given.size)}; 20 MB is the most.`);
  if (!given.size) return alarm(`${given.name} is empty.`);
  $("peek").textContent = await given.slice(0, PEEK_BYTES).text();
  alarm("");
  file = given;
  set($("planned"), "");
  set($("file-note"), `${given.name}, ${size(given.size)}`);
  $("taken").hidden = false;
  $("text-place").hidden = true;
}
const size = (bytes) => bytes < 1024 ? `${bytes} bytes` : bytes < 1048576 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1048576).toFixed(1)} MB`;
$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]).catch(refuse); });
$("drop-file").addEventListener("click", () => {
  file = null;
  $("file").value = "";
  set($("file-note"), "Text, Markdown, SRT or WebVTT; 20 MB at most.");
  $("taken").hidden = true;
  $("text-place").hidden = false;
  $("file").focus();
});
const hasFile = (dragged) => dragged.dataTransfer?.types.includes("Files");
addEventListener("dragover", (dragged) => {
  if (!hasFile(dragged)) return;
  dragged.preventDefault();
  $("services").classList.add("over");
});
addEventListener("dragleave", (dragged) => { if (!dragged.relatedTarget) $("services").classList.remove("over"); });
addEventListener("drop", (dragged) => {
  if (!hasFile(dragged)) return;
  dragged.preventDefault();
  $("services").classList.remove("over");
  show($("tab-services"));
  take(dragged.dataTransfer.files[0]).catch(refuse);
});

function order() {
  const extras = Object.entries({ flavor_id: $("flavor").value, instructions: $("instructions").value.trim() }).filter(([, value]) => value);
  if (!file) return { json: { input: $("document").value, ...Object.fromEntries(extras) } };
  const body = new FormData();
  body.append("file", file, file.name);
  for (const [name, value] of extras) body.append(name, value);
  return { method: "POST", body };
}
function hasDocument() {
  if (file || $("document").value.trim()) return true;
  alarm("Choose a file first, or write a text.");
  return false;
}
$("plan").addEventListener("click", async () => {
  if (!hasDocument()) return;
  alarm("");
  set($("planned"), "Counting …");
  try {
    set($("planned"), planned(await read(`api/v1/services/${$("service").value}/validate-execution`, order())));
  } catch (error) { set($("planned"), ""); refuse(error); }
});
function planned(plan) {
  if (!plan.valid) return `It would be refused: ${plan.warning}`;
  const { low, high } = plan.estimated_cost || {};
  const cost = !isKnown(high) ? "at a price that is not known" : high === 0 ? "for nothing" : low === high ? `for about ${usd(high)}` : `for ${usd(low)} to ${usd(high)}`;
  const calls = `${count(plan.calls)} ${plan.calls === 1 ? "call" : "calls"} of ${plan.flavor?.model}`;
  const time = isKnown(plan.estimated_seconds) ? `, about ${Math.ceil(plan.estimated_seconds)} s` : "";
  return [`${count(plan.input_tokens)} tokens in ${calls}, ${cost}${time}.`, plan.fallback_reason, plan.warning].filter(Boolean).join(" ");
}
$("job-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  if ($("run").disabled || !hasDocument()) return;
  alarm("");
  $("run").disabled = true;
  try {
    const job = await read(`api/v1/services/${$("service").value}/${file ? "run" : "execute"}`, order());
    set($("planned"), job.fallback_applied ? `Another flavor runs, ${job.flavor_name}: ${job.fallback_reason}` : "");
    watch(job.job_id);
    listJobs();
  } catch (error) { refuse(error); } finally { $("run").disabled = false; }
});
for (const place of ["document", "instructions"]) $(place).addEventListener("keydown", sends($("job-form")));

/* One job, live */
const far = (at) => at.total_batches > 1 ? `${at.phase || "waiting"}, ${count(at.current_batch)} of ${count(at.total_batches)} parts` : at.phase || "waiting";
function progressed(heard) {
  const at = heard.progress || {}, left = at.estimated_seconds_remaining;
  $("bar").value = at.percentage || 0;
  const isOver = ENDED.includes(heard.status);
  set($("phase"), isOver ? heard.status : heard.status === "queued" ? "waiting for a worker" : far(at) + (left >= 1 ? `, about ${Math.ceil(left)} s left` : ""));
  if (heard.event_type === "status_change" && !isOver) say(`Job: ${heard.status}.`);
}
function happened(heard) {
  if (heard.event_type === "output") return;
  const { retry_info: retry, error, progress: at = {} } = heard;
  const what = retry ? `attempt ${retry.attempt} of ${retry.max_attempts}: ${retry.error_type}, again in ${Math.round(retry.delay_seconds)} s`
    : error ? error.message : heard.event_type === "progress" ? `${Math.round(at.percentage)} %, ${far(at)}` : heard.status;
  $("happened").append(made("li", `${new Date(heard.timestamp).toLocaleTimeString()} ${heard.event_type.replace("_", " ")}: ${what}`));
}
/* What a job has said so far. Offsets count characters as the gateway does, where an emoji is one. */
function transcript() {
  const text = document.createTextNode("");
  let length = 0;
  $("result").replaceChildren(text);
  return {
    take({ text: piece, offset }) {
      if (offset > length) return;
      if (offset < length) text.data = [...text.data].slice(0, offset).join("");
      text.appendData(piece);
      length = offset + [...piece].length;
    },
    whole(result) { if (text.data !== result) text.data = result; },
    get text() { return text.data; },
  };
}
function clean(id) {
  watching?.abort();
  $("job").dataset.id = id;
  $("job").dataset.state = "";
  $("job").hidden = false;
  $("happened").replaceChildren();
  facts($("job-facts"), []);
  set($("copied"), "");
  set($("phase"), "…");
  $("phase").className = "";
  $("bar").value = 0;
  $("cancel").disabled = false;
  for (const one of ["fault", "cancel", "copy", "save", "resume"]) $(one).hidden = true;
  history.replaceState(null, "", `#services/${id}`);
}
async function watch(id, { focus = true } = {}) {
  clean(id);
  const control = watching = new AbortController(), result = transcript();
  set($("job-title"), "Job");
  if (focus) $("job-title").focus();
  try {
    let job = await read(`api/v1/jobs/${id}`, { signal: control.signal });
    set($("job-title"), `${job.service_name}: ${documentOf(job)}`);
    $("cancel").hidden = ENDED.includes(job.status);
    await follow(id, control.signal, result);
    job = await read(`api/v1/jobs/${id}`, { signal: control.signal });
    finished(job, result);
  } catch (error) {
    if (watching !== control) return;
    $("job").hidden = true;
    history.replaceState(null, "", "#services");
    refuse(error);
  }
}
async function follow(id, signal, result) {
  let last = "", status = "", pause = 500;
  while (!ENDED.includes(status)) {
    const line = new AbortController(), end = () => line.abort();
    signal.addEventListener("abort", end, { once: true });
    let silence = setTimeout(end, SILENCE_MS);
    try {
      const answer = await ask(`api/v1/jobs/${id}/events`, { headers: last ? { "Last-Event-ID": last } : {}, signal: line.signal });
      if (answer.status === 204) return;
      for await (const { id: number, text } of events(answer)) {
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE_MS);
        pause = 500;
        if (!text) continue;
        const heard = JSON.parse(text);
        last = number;
        ({ status } = heard);
        progressed(heard);
        happened(heard);
        if (heard.output) result.take(heard.output);
      }
    } catch (error) {
      if (signal.aborted || (error.status >= 400 && error.status < 500)) throw error;
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", end);
    }
    if (ENDED.includes(status)) return;
    set($("phase"), "the connection broke, trying again");
    await wait(pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    if (signal.aborted) throw new DOMException("", "AbortError");
  }
}
const answeredBy = (job) => [...new Set(job.passes.map((one) => [one.provider, one.model].filter(Boolean).join(" / ")))].join(", ");
function factsOf(job) {
  const { metrics, started_at: began, completed_at: ended } = job;
  const changes = job.failover_chain.map((one) => `${one.flavor} failed: ${one.reason}`);
  if (job.fallback_applied) changes.unshift(`instead of ${job.original_flavor_name}: ${job.fallback_reason}`);
  return [
    ["Answered by", answeredBy(job)], ["Flavor", job.final_flavor_name || job.flavor_name], ["Why this one", changes.join("; ")],
    ["Calls", count(metrics.passes)], ["Tokens", `${count(metrics.prompt_tokens)} in, ${count(metrics.completion_tokens)} out`],
    ["Cost", usd(metrics.cost)], ["Time", began && ended ? seconds(new Date(ended) - new Date(began)) : ""], ["Job", job.id],
  ];
}
function finished(job, result) {
  const text = job.result ?? job.partial_result ?? result.text;
  result.whole(text);
  $("bar").value = job.progress.percentage;
  set($("phase"), job.status);
  $("phase").className = { completed: "good", failed: "bad" }[job.status] || "";
  $("fault").hidden = !job.error;
  $("fault").textContent = job.error?.message ?? "";
  $("cancel").hidden = true;
  $("copy").hidden = $("save").hidden = !text;
  $("resume").hidden = job.status !== "failed";
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const flavor = services.flatMap((one) => one.flavors).find((one) => one.id === job.flavor_id);
  const ending = { json: "json", text: "txt" }[flavor?.output_type] || "md";
  $("save").download = `${job.service_route}-${job.created_at.slice(0, 10)}-${job.id.slice(-8)}.${ending}`;
  facts($("job-facts"), [["Note", job.warnings.filter((one) => !text.includes(one)).join(" ")], ...factsOf(job)]);
  $("job").dataset.state = job.status;
  say(`Job: ${job.status}.`);
  listJobs();
}
const watched = () => $("job").dataset.id;
$("cancel").addEventListener("click", () => {
  $("cancel").disabled = true;
  ask(`api/v1/jobs/${watched()}/cancel`, { method: "POST" }).catch((error) => { $("cancel").disabled = false; refuse(error); });
});
$("resume").addEventListener("click", () => {
  read(`api/v1/jobs/${watched()}/resume`, { method: "POST" }).then((job) => watch(job.job_id || job.id), refuse);
});
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("result").textContent);
    set($("copied"), "Copied.");
  } catch {
    getSelection().selectAllChildren($("result"));
    set($("copied"), "It is selected: copy it with Ctrl+C.");
  }
});

/* The latest */
const documentOf = (job) => job.input_file_name || (job.preview || "").trim().split("\n")[0].slice(0, 60) || "…";
let listing = null;
async function listJobs() {
  clearTimeout(listing);
  if ($("services").hidden || !(OPEN || key)) return;
  const { items } = await read("api/v1/jobs?page_size=10").catch((error) => { if (!isForKey(error)) alarm(error.message); return { items: [] }; });
  $("no-jobs").hidden = items.length > 0;
  $("jobs-place").hidden = !items.length;
  // A list that is read or walked through is not replaced under the reader: only when something is new.
  const state = JSON.stringify(items.map((job) => [job.id, job.status]));
  if ($("jobs").dataset.state !== state) {
    const at = document.activeElement?.dataset?.job;
    $("jobs").dataset.state = state;
    rows($("jobs"), items.map((job) => {
      const open = made("button", documentOf(job), "link");
      open.type = "button";
      open.dataset.job = job.id;
      open.addEventListener("click", () => watch(job.id));
      return [open, job.service_name, made("span", job.status, { completed: "good", failed: "bad" }[job.status]), moment(job.created_at)];
    }));
    if (at) $("jobs").querySelector(`[data-job="${CSS.escape(at)}"]`)?.focus();
  }
  if (items.some((job) => !ENDED.includes(job.status))) listing = setTimeout(listJobs, 3000);
}
shown["tab-services"] = listJobs;
