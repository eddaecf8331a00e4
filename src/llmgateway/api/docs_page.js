"use strict";

/* On a phone the list of contents would push everything else below the screen. */
if (matchMedia("(max-width: 60rem)").matches) document.querySelector("#contents").open = false;

const form = document.querySelector("#try");
const [send, stop] = form.querySelectorAll("button");
const answer = document.querySelector("#answer");
const status = document.querySelector("#status");
let running = null;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  running = new AbortController();
  send.disabled = true;
  stop.disabled = false;
  answer.textContent = "";
  answer.classList.remove("bad");
  status.textContent = "Waiting for the first event …";
  try {
    await ask(running.signal);
  } catch (error) {
    if (error.name === "AbortError") status.textContent += " · stopped";
    else fail(error.message);
  } finally {
    send.disabled = false;
    stop.disabled = true;
  }
});

stop.addEventListener("click", () => running?.abort());

async function ask(signal) {
  const stream = form.elements.stream.checked;
  const started = performance.now();
  const reply = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: form.elements.model.value,
      messages: [{ role: "user", content: form.elements.message.value }],
      stream,
      ...(stream && { stream_options: { include_usage: true } }),
    }),
    signal,
  });
  const facts = [`${reply.status}`, `${reply.headers.get("x-gateway-request-id") ?? ""}`].filter(Boolean);
  if (!reply.ok) throw new Error(`${facts.join(" · ")}\n${(await reply.json()).error.message}`);
  if (!stream) {
    const whole = await reply.json();
    answer.textContent = whole.choices[0].message.content;
    status.textContent = [...facts, ...spent(started, whole.usage)].join(" · ");
    return;
  }
  status.textContent = [...facts, ...spent(started)].join(" · ");
  let usage;
  for await (const event of events(reply.body)) {
    if (event.error) throw new Error(event.error.message);
    answer.textContent += event.choices[0]?.delta.content ?? "";
    usage = event.usage ?? usage;
  }
  status.textContent = [...facts, ...spent(started, usage)].join(" · ");
}

/* Events end with a blank line; one that is cut by the network waits for its rest. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The stream ended without its end mark: the answer is not whole.");
    const pieces = (rest + value).split(/\r?\n\r?\n/);
    rest = pieces.pop();
    for (const piece of pieces) {
      if (!piece.startsWith("data:")) continue;
      const text = piece.slice(5).trim();
      if (text === "[DONE]") return;
      yield JSON.parse(text);
    }
  }
}

function spent(started, usage) {
  const time = `${Math.round(performance.now() - started)} ms`;
  return usage ? [time, `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`] : [time];
}

function fail(message) {
  answer.classList.add("bad");
  answer.textContent += (answer.textContent && "\n") + message;
  status.textContent = "";
}
