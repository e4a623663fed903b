// The way to the sensor: requests with the token, the stream of events, and what the page knows of the connection.
// Nothing is asked for while the tab is hidden.

const TOKEN = "ml-ids-token";
const ANSWER_MS = 15000;
const SILENCE_MS = 25000;
const RETRY_S = [1, 2, 3, 5, 8, 10];

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const store = {
  get(name, where = sessionStorage) { try { return where.getItem(name); } catch { return null; } },
  set(name, value, where = sessionStorage) { try { where.setItem(name, value); } catch { /* private mode: until reload */ } },
};

let token = store.get(TOKEN);
let asked = null;

/** Asks the user for a token; all who need one wait for the same answer. */
function askToken(wrong) {
  if (asked) return asked;
  const dialog = $("token");
  say($("token-error"), wrong ? "The sensor does not accept this token." : "");
  asked = new Promise((resolve) => {
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      token = $("token-text").value.trim();
      $("token-text").value = "";
      store.set(TOKEN, token);
      dialog.close();
      asked = null;
      resolve();
    };
  });
  // Without it there is nothing to see, so Esc does not close it.
  dialog.oncancel = (event) => event.preventDefault();
  if (!dialog.open) dialog.showModal();
  return asked;
}

/** Asks until the sensor accepts the token. `signal` makes one for each try: the time that the user takes to type is not the
 * sensor's. */
async function open(path, accept, signal) {
  for (;;) {
    const sent = token;
    const headers = { ...accept };
    if (sent) headers.authorization = `Bearer ${sent}`;
    const response = await fetch(path, { headers, signal: signal(), cache: "no-cache", credentials: "same-origin" });
    if (response.status === 401) {
      if (sent === token) await askToken(Boolean(sent));
      continue;
    }
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      throw new Refused(response.status, body.detail ?? `the sensor answered ${response.status}`);
    }
    return response;
  }
}

/** JSON of a path. Throws what fetch throws when the sensor is away, `Refused` when it says no. */
const get = async (path) => (await open(path, { accept: "application/json" }, () => AbortSignal.timeout(ANSWER_MS))).json();

/** Runs `task` at once and then `period_s` after it was done, only while the tab is visible. Returns what runs it now. */
function every(period_s, task) {
  let timer = null;
  const run = async () => {
    clearTimeout(timer);
    timer = null;
    if (document.hidden) return;
    await task().catch(() => {});
    if (timer === null) timer = setTimeout(run, period_s * 1000);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else run();
  });
  return run;
}

const isLive = () => document.documentElement.dataset.link === "live";
/** Whether somebody selects text within an element: it is not taken from under their hands. */
const isSelecting = (element) => String(getSelection()) !== "" && element.contains(getSelection().anchorNode);
const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
const shown = () => new Promise((resolve) => {
  if (!document.hidden) resolve();
  else document.addEventListener("visibilitychange", () => resolve(), { once: true });
});

/** Not read out, as it counts seconds down; what matters of it is said in `live`. */
function showLink(kind, shape, words) {
  mark($("link"), kind, shape, words);
  document.documentElement.dataset.link = kind === "good" ? "live" : "away";
}

async function countdown(seconds, why) {
  for (let left = seconds; left > 0 && !document.hidden; left -= 1) {
    showLink("warn", "wait", `${why}, reconnecting in ${left}\u00a0s`);
    await pause(1);
  }
}

/** Reads the stream of events for as long as the page is open. `on` has `live`, `pulse` and `alert`. */
async function listen(types, on) {
  let failures = 0;
  let last = null;
  for (;;) {
    await shown();
    let abort = new AbortController();
    const hide = () => document.hidden && abort.abort();
    document.addEventListener("visibilitychange", hide);
    let why = "Connection lost";
    let silence = null;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    try {
      const headers = { accept: "text/event-stream" };
      if (last) headers["last-event-id"] = last;
      const response = await open(`/events?types=${types}`, headers, () => {
        abort = new AbortController();
        heard();
        return abort.signal;
      });
      heard();
      if (failures > 0) say($("live"), "The connection to the sensor is back.");
      failures = 0;
      showLink("good", "good", "Live");
      on.live();
      for await (const event of parsed(response.body, heard)) {
        if (event.id) last = event.id;
        on[event.name]?.(event.data);
      }
      why = "Sensor stopped";
    } catch (error) {
      if (error instanceof Refused) why = error.status === 429 ? "Too many listen" : "Sensor is starting";
    } finally {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", hide);
      abort.abort();
    }
    if (!document.hidden && failures === 0) say($("live"), `${why}.`);
    if (!document.hidden) await countdown(RETRY_S[Math.min(failures++, RETRY_S.length - 1)], why);
    showLink("warn", "wait", "Connecting");
  }
}

/** Server-sent events of a body. What is no JSON is left out. */
async function* parsed(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", id: null, data: "" };
      for (const line of block.split("\n")) {
        const [, field, text] = /^([a-z]*): ?(.*)$/.exec(line) ?? [];
        if (field === "event") event.name = text;
        else if (field === "id") event.id = text;
        else if (field === "data") event.data += text;
      }
      if (!event.data) continue;
      try { event.data = JSON.parse(event.data); } catch { continue; }
      yield event;
    }
  }
}
