// The list of alerts: searched, filtered and paged by the sensor; on its first page it is kept up to date.

const PAGE_ROWS = 25;
const HOUR_ROWS = 100;
const REFRESH_MS = 1000;
const HOUR_MS = 5000;

const list = { cursors: [null], answered: null, next: null, rows: new Map(), newest: null, asked: 0, due: null, at: 0, hourDue: 0, hourTimer: null };

/** What the filters say, as a query. */
function filters() {
  const query = new URLSearchParams({ limit: PAGE_ROWS });
  for (const [name, id] of [["q", "q"], ["severity", "severity"], ["label", "class"]]) {
    const value = $(id).value.trim();
    if (value) query.set(name, value);
  }
  return query;
}

const filtered = () => filters().size > 1;

/** Fetches the page that is shown. Of two requests the later one counts. */
async function loadAlerts() {
  const turn = ++list.asked;
  const query = filters();
  const before = list.cursors.at(-1);
  if (before) query.set("before", before);
  let answer;
  try {
    answer = await get(`/alerts?${query}`);
  } catch (error) {
    if (turn !== list.asked) return;
    if (error instanceof Refused) showRows([], `The alerts cannot be read: ${error.message}.`);
    // What is shown is what was asked for before.
    else if (String(query) !== list.answered) say($("alerts-count"), "not up to date: the sensor does not answer");
    return;
  }
  if (turn !== list.asked) return;
  list.answered = String(query);
  list.next = answer.next;
  const words = filtered()
    ? "No alert fits this search. Take a filter away to see more."
    : "No alerts yet. When traffic looks like an attack, a line appears here within seconds of the flow's end, and you need not reload.";
  showRows(answer.alerts, words);
  showPages(answer.alerts.length);
}

function showRows(alerts, empty) {
  const rows = $("alert-list");
  const known = new Set(alerts.map(({ id }) => id));
  for (const [id, row] of list.rows) {
    if (known.has(id)) continue;
    row.remove();
    list.rows.delete(id);
  }
  alerts.forEach((alert, place) => {
    let row = list.rows.get(alert.id);
    const fresh = !row && list.newest !== null && alert.id > list.newest;
    if (!row) {
      row = el("li", { "data-id": alert.id }, el("button", { type: "button" }));
      list.rows.set(alert.id, row);
    }
    // An alert grows without being told of anew.
    const shown = [alert.seq, alert.state, alert.count, alert.last_seen, Boolean(alert.ack)].join();
    if (row.dataset.shown !== shown) fill(row, alert);
    row.dataset.shown = shown;
    row.classList.toggle("open", alert.state === "open");
    if (fresh) row.classList.add("fresh");
    // Moved only if it stands elsewhere: a row that moves loses the focus.
    if (rows.children[place] !== row) rows.insertBefore(row, rows.children[place] ?? null);
  });
  if (list.cursors.length === 1 && !filtered()) list.newest = Math.max(list.newest ?? 0, alerts[0]?.id ?? 0);
  say($("alerts-empty"), empty);
  $("alerts-empty").hidden = alerts.length > 0;
}

function fill(row, alert) {
  const length = (new Date(alert.last_seen) - new Date(alert.first_seen)) / 1000;
  const who = alert.title.startsWith(`${alert.label}: `) ? alert.title.slice(alert.label.length + 2) : alert.title;
  const state = alert.state === "open" ? "going on" : "over";
  const button = row.firstElementChild;
  button.replaceChildren(
    severity(alert.severity),
    el("span", { class: "what" }, el("b", {}, alert.label), el("span", {}, who), alert.ack ? el("span", {}, ` · seen by ${alert.ack.by || "somebody"}`) : null),
    el("span", { class: "num flows-of" }, counted(alert.count, "flow", "flows"), el("span", {}, ` ${sure(alert.score)} sure`)),
    el("span", { class: "num" }, timeOf(alert.last_seen), el("span", {}, ` ${length >= 1 ? `${lasting(length)}, ` : ""}${state}`)),
  );
  button.onclick = () => openDetail(alert.id, button);
}

function severity(level) {
  const [name, words] = SEVERITIES[level] ?? SEVERITIES[4];
  return el("span", { class: `sev ${name}` }, icon(name), words);
}

function showPages(rows) {
  const page = list.cursors.length;
  $("pages").hidden = page === 1 && !list.next;
  $("newer").disabled = page === 1;
  $("older").disabled = !list.next;
  say($("page"), page === 1 ? "the newest" : `page ${page}; new alerts arrive on the first`);
  const words = rows === 0 ? "" : page === 1 && !list.next ? counted(rows, "alert", "alerts") : `${rows} shown`;
  say($("alerts-count"), filtered() && words ? `${words} that fit` : words);
}

function toPage(cursors) {
  list.cursors = cursors;
  return loadAlerts();
}

/** Something about alerts has changed: looks again, at most once a second. */
function alertsChanged() {
  if (list.due) return;
  list.due = setTimeout(() => {
    list.due = null;
    if (document.hidden) return;
    if (list.cursors.length === 1) loadAlerts().catch(() => {});
    loadHour().catch(() => {});
  }, Math.max(0, list.at + REFRESH_MS - Date.now()) + 50);
  list.at = Date.now();
}

/** Looks again at alerts that are still growing. */
function alertsGrow() {
  if (list.cursors.length === 1 && $("alert-list").querySelector(".open")) alertsChanged();
}

/** How many alerts there were in the last hour; asked for at most so often, and always after the last change. */
async function loadHour() {
  const wait = list.hourDue - Date.now();
  if (wait > 0) {
    list.hourTimer ??= setTimeout(() => {
      list.hourTimer = null;
      if (!document.hidden) loadHour().catch(() => {});
    }, wait);
    return;
  }
  list.hourDue = Date.now() + HOUR_MS;
  const answer = await get(`/alerts?since=1h&limit=${HOUR_ROWS}`);
  const { alerts } = answer;
  say($("t-alerts"), answer.next ? `${alerts.length}+` : alerts.length);
  say($("t-alerts-unit"), alerts.length === 1 ? "alert" : "alerts");
  const by = [1, 2, 3, 4].map((level) => [level, alerts.filter((alert) => alert.severity === level).length]).filter(([, many]) => many > 0);
  say($("t-alerts-sub"), alerts.length ? by.map(([level, many]) => `${many} ${SEVERITIES[level][1].toLowerCase()}`).join(", ") : "all quiet");
}

/** An event of the stream. */
function alertTold(event) {
  const { alert } = event;
  if (alert.change === "opened") {
    const [, words] = SEVERITIES[alert.severity] ?? SEVERITIES[4];
    say($("live"), `New alert, severity ${words.toLowerCase()}: ${alert.title}`);
  }
  alertsChanged();
  detailChanged(alert.id);
}

function watchAlerts() {
  let typed = null;
  const again = () => toPage([null]).catch(() => {});
  $("q").addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(again, 250);
  });
  $("severity").addEventListener("change", again);
  $("class").addEventListener("change", again);
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    again();
  });
  $("older").addEventListener("click", () => toPage([...list.cursors, list.next]).then(() => $("alerts").scrollIntoView()));
  $("newer").addEventListener("click", () => toPage(list.cursors.slice(0, -1)));
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|select|textarea)$/i.test(document.activeElement?.tagName ?? "");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || $("detail").open || $("token").open) return;
    event.preventDefault();
    $("q").focus();
  });
}

/** The classes that can be chosen are those of the model. */
function offerClasses(names) {
  const chosen = $("class").value;
  const options = names.filter((name) => name !== BENIGN).sort().map((name) => el("option", { value: name }, name));
  $("class").replaceChildren(el("option", { value: "" }, "Any"), ...options);
  $("class").value = names.includes(chosen) ? chosen : "";
}
