// One alert in full: what it means, who and what, how sure the model is, and which features made it so.

const detail = { id: null, from: null, features: null, due: null };

async function openDetail(id, from) {
  detail.id = id;
  detail.from = from;
  const body = $("detail-body");
  body.replaceChildren(el("h2", { id: "detail-title" }, "Alert"), el("p", { class: "empty" }, "Loading …"));
  if (!$("detail").open) $("detail").showModal();
  await fillDetail(true);
}

async function fillDetail(first) {
  const { id } = detail;
  try {
    const [answer] = await Promise.all([get(`/alerts?id=${id}`), loadFeatures()]);
    if (id !== detail.id) return;
    const [alert] = answer.alerts;
    if (alert) showDetail(alert, first);
    else $("detail-body").replaceChildren(topLine(null), el("h2", { id: "detail-title" }, "This alert is no longer kept"), el("p", {}, "The sensor keeps a limited number of alerts and removes the oldest."));
  } catch (error) {
    if (id !== detail.id || !first) return;
    const words = error instanceof Refused ? error.message : "the sensor does not answer";
    $("detail-body").replaceChildren(topLine(null), el("h2", { id: "detail-title" }, "This alert cannot be shown"), el("p", {}, `Reason: ${words}.`));
  }
}

/** The units and descriptions of features, once. */
async function loadFeatures() {
  if (detail.features) return;
  const { features } = await get("/features");
  detail.features = new Map(features.map((feature) => [feature.names.machine_learning_cve, feature]));
}

/** The alert that is shown may be the one that has changed. */
function detailChanged(id) {
  if (!$("detail").open || id !== detail.id || detail.due) return;
  detail.due = setTimeout(() => {
    detail.due = null;
    if ($("detail").open) fillDetail(false);
  }, 1500);
}

function topLine(alert) {
  const close = el("button", { type: "button", class: "quiet", id: "detail-close" }, icon("close"), el("span", {}, "Close"));
  close.onclick = () => $("detail").close();
  return el("div", { class: "top" }, alert ? severity(alert.severity) : el("span"), close);
}

function showDetail(alert, first) {
  if (!first && isSelecting($("detail"))) return;
  const [what, then] = meaning(alert.label);
  const { ml } = alert.event ?? {};
  const parts = [
    topLine(alert),
    el("h2", { id: "detail-title" }, alert.title),
    el("p", { class: "lead" }, what),
    el("p", { class: "lead" }, el("strong", {}, "What to do: "), then),
    el("h3", {}, "Who and what"),
    pairs(facts(alert)),
  ];
  if (alert.held) parts.push(el("h3", {}, "Held back, by class"), pairs(Object.entries(alert.held.classes).map(([name, many]) => [name, counted(many, "alert", "alerts")])));
  if (ml) parts.push(el("h3", {}, "How sure the model is"), pairs(sureness(alert, ml)));
  if (ml?.top?.length) parts.push(...reasons(ml));
  parts.push(actions(alert));
  // The focus stays where it is.
  const focused = $("detail-body").contains(document.activeElement) ? document.activeElement.id : null;
  $("detail-body").replaceChildren(...parts);
  if (first) $("detail-close").focus();
  else if (focused) $(focused)?.focus();
}

function facts(alert) {
  const { event } = alert;
  const length = (new Date(alert.last_seen) - new Date(alert.first_seen)) / 1000;
  const state = alert.state === "open" ? "going on" : (ENDINGS[alert.ending] ?? "over");
  const rows = [
    ["State", state],
    ["From", several(alert.sources, "addresses")],
    ["Against", several(alert.targets, "addresses")],
    ["Ports", several(alert.ports, "ports")],
    ["Flows", count(alert.count)],
    ["Packets", `${count(alert.packets)} with ${bytes(alert.bytes)} of payload`],
    ["First seen", timeOf(alert.first_seen)],
    ["Last seen", el("span", {}, timeOf(alert.last_seen), length >= 1 ? `, after ${lasting(length)}` : "")],
  ];
  if (event?.in_iface) rows.push(["Interface", event.in_iface]);
  for (const technique of alert.mitre ?? []) rows.push([`ATT&CK ${technique.id}`, `${technique.name} (${technique.tactic})`]);
  if (alert.ack) rows.push(["Seen by", `${alert.ack.by || "somebody"}, ${clock(alert.ack.at)}${alert.ack.note ? `: ${alert.ack.note}` : ""}`]);
  if (alert.held_back) rows.push(["Told", "no: it was over the rate of alerts, so no receiver got it"]);
  rows.push(["Number (for alerts ack)", alert.id]);
  return rows;
}

/** Different addresses or ports: all of a few, the first of many. */
function several(seen, noun) {
  const shown = seen.sample.slice(0, 8).join(", ");
  if (seen.count <= 8 && seen.exact) return shown || "–";
  return `${count(seen.count)}${seen.exact ? "" : " or more"} ${noun}: ${shown}, …`;
}

function sureness(alert, ml) {
  const rows = [
    ["Highest of all flows", el("strong", {}, sure(alert.score))],
    ["Flow that opened it", `${sure(ml.score)}; it is an alert from ${percent(ml.threshold)} on`],
    ["Model", `${ml.model} ${ml.version}`],
  ];
  if (ml.out_of_distribution) rows.push(["Caution", "the flow is unlike all training traffic, so this is a guess"]);
  return rows;
}

/** The contributions as bars to the right (for) and to the left (against). */
function reasons(ml) {
  const most = Math.max(...ml.top.map((reason) => Math.abs(reason.contribution)));
  const rows = ml.top.map((reason) => {
    const feature = detail.features?.get(reason.feature);
    const name = feature ? sentence(feature.description) : reason.feature;
    const speaksFor = reason.contribution >= 0;
    const bar = el("i", { class: speaksFor ? "for" : "against" });
    bar.style.width = `${Math.max(2, (Math.abs(reason.contribution) / most) * 55)}%`;
    const amount = el("span", { class: `amount ${speaksFor ? "left" : "right"}` }, `${speaksFor ? "+" : "−"}${amountOf(reason, ml)}`);
    return el("li", {},
      el("div", { class: "name" }, el("b", {}, name), el("span", {}, `${value(reason, feature)} in this flow · ${reason.feature}`)),
      el("div", { class: "bars" }, bar, amount));
  });
  const scale = el("p", { class: "scale", "aria-hidden": "true" }, el("span", { class: "against" }, "◂ speaks against"), el("span", { class: "for" }, "speaks for ▸"));
  return [
    el("h3", {}, `Why ${ml.label}: what in the first flow spoke for it`),
    scale,
    el("ol", { class: "why", id: "why" }, ...rows),
  ];
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** How much a feature has moved the score: points of probability, or of the model's margin. */
function amountOf(reason, ml) {
  const size = Math.abs(reason.contribution);
  return ml.explained?.space === "margin" ? size.toFixed(2) : `${digits(size * 100)}\u00a0points`;
}

const TIMES = [[1e6, "s"], [1e3, "ms"], [1, "µs"]];

/** A feature's value with its unit. */
function value(reason, feature) {
  const number = reason.value;
  if (!Number.isFinite(number)) return "undefined";
  const unit = feature?.unit ?? "";
  if (unit === "us") {
    if (Math.abs(number) >= 6e7) return lasting(number / 1e6);
    const [size, name] = TIMES.find(([size]) => Math.abs(number) >= size) ?? TIMES[2];
    return `${digits(number / size)}\u00a0${name}`;
  }
  if (unit === "bytes") return Math.abs(number) < 1000 ? `${digits(number)}\u00a0bytes` : bytes(number);
  if (unit === "bytes/s") return `${bytes(number)}/s`;
  if (unit === "bytes^2") return `${scaled(number).join("\u00a0")}\u00a0bytes²`;
  if (unit === "packets/s") return rate(number, "packets/s");
  if (unit === "packets") return counted(number, "packet", "packets");
  return scaled(number).join("\u00a0");
}

function actions(alert) {
  const copy = el("button", { type: "button", id: "detail-copy" }, "Copy as JSON");
  const said = el("span", { class: "sub", role: "status" });
  copy.onclick = async () => say(said, (await copied(JSON.stringify(alert, null, 2))) ? "Copied." : "The browser does not allow it.");
  return el("div", { class: "actions" }, copy, said);
}

/** The clipboard is there on encrypted connections and on loopback only; the old way works everywhere. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* the old way */ }
  const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  $("detail").append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function watchDetail() {
  $("detail").addEventListener("close", () => {
    detail.id = null;
    if (detail.from?.isConnected) detail.from.focus();
    else $("alerts").focus();
  });
  // A click beside it closes it.
  $("detail").addEventListener("click", (event) => {
    if (event.target === $("detail")) $("detail").close();
  });
}
