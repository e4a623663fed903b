// How the sensor is: the bar, the reasons, the interfaces and receivers, and the books of packets and flows.

const STATES = {
  healthy: ["good", "good", "Healthy"], degraded: ["warn", "medium", "Degraded"], unhealthy: ["bad", "high", "Not working"],
};

const NOTICES = 20;

function showHealth(health) {
  const [kind, shape, words] = STATES[health.status] ?? STATES.degraded;
  mark($("state"), kind, shape, words);
  if (health.host) say($("host"), health.host);
  document.title = `${health.status === "healthy" ? "" : `${words}: `}${health.host ? `${health.host} · ` : ""}ML-IDS`;
  say($("bar-model"), health.model ? `${health.model.name} ${health.model.version}` : "none yet");
  say($("bar-uptime"), lasting(health.uptime_seconds));
  showReasons(health, kind);
  showNotes(health.notes);
  showBooks(health.sensor);
  showParts(health);
}

function showReasons(health, kind) {
  $("reasons").classList.toggle("bad", kind === "bad");
  showNotice($("reasons"), health.reasons, (reason) => [el("strong", {}, `${sentence(reason)}. `), advice(reason)]);
}

/** What is worth knowing and nothing has to be done about. */
function showNotes(notes) {
  showNotice($("notes"), notes, (note) => [`${sentence(note)}.`]);
}

function showNotice(box, texts, words) {
  box.hidden = texts.length === 0;
  // Unchanged, it is not read out again.
  const key = texts.join("\n");
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(el("ul", {}, ...texts.slice(0, NOTICES).map((text) => el("li", {}, ...words(text)))));
}

function showBooks(sensor) {
  if (!sensor) return;
  const { packets, flows, verdicts } = sensor;
  const seen = packets.ingress.seen + packets.egress.seen;
  const within = packets.ingress.in_flow + packets.egress.in_flow;
  const skipped = {};
  for (const hook of [packets.ingress, packets.egress]) {
    for (const [reason, many] of Object.entries(hook.skipped)) skipped[reason] = (skipped[reason] ?? 0) + many;
  }
  const missed = Object.entries(skipped).filter(([, many]) => many > 0).sort((a, b) => b[1] - a[1]);
  const packetRows = [["In flows", count(within)], ...missed.map(([reason, many]) => [sentence(SKIPPED[reason] ?? reason), count(many)]), ["Packets seen", count(seen), "sum"]];
  const lost = [["Lost, the sensor did not keep up", flows.lost_ring_full], ["Given up, the table was full", flows.evicted]].filter(([, many]) => many > 0);
  const flowRows = [
    ["Ended and handed over", count(flows.emitted)],
    ["Ended, too short to count", count(flows.discarded)],
    ...lost.map(([name, many]) => [name, count(many)]),
    ["Open now", count(flows.live)],
    ["Flows begun", count(flows.opened), "sum"],
  ];
  const verdictRows = [
    ["Judged by the model", count(verdicts.scored)],
    ["Of these, part of alerts", count(verdicts.alerts)],
    ...(verdicts.allowed ? [["Allowed sources (--allow)", count(verdicts.allowed)]] : []),
    ...(verdicts.dropped ? [["Not judged, no time or an error", count(verdicts.dropped)]] : []),
  ];
  const { table, block } = sensor;
  const parts = [el("h3", {}, "Packets since the start"), pairs(packetRows), el("h3", {}, "Flows since the start"), pairs(flowRows), el("h3", {}, "Verdicts"), pairs(verdictRows)];
  if (block.enabled || block.dry_run) parts.push(el("h3", {}, block.dry_run ? "Blocking (dry run)" : "Blocking"), pairs([["Sources blocked now", count(block.entries)], ["Packets dropped", count(block.dropped)]]));
  $("books").replaceChildren(...parts);
  say($("t-open-sub"), `table ${percent(table.fill)} full`);
}

function showParts(health) {
  const parts = [];
  const { sensor } = health;
  if (sensor) {
    parts.push(el("h3", {}, "Interfaces"));
    parts.push(pairs(sensor.interfaces.map((one) => {
      const [kind, shape, words] = INTERFACES[one.state] ?? INTERFACES.failed;
      const hooks = [one.ingress && `in: ${HOOKS[one.ingress] ?? one.ingress}`, one.egress && `out: ${HOOKS[one.egress] ?? one.egress}`].filter(Boolean).join(", ");
      return [el("span", { class: `mark ${kind}` }, icon(shape), one.name), `${words}${hooks ? ` (${hooks})` : ""}`];
    })));
    parts.push(el("h3", {}, "Where events go"));
    const sinks = sensor.sinks.map((sink) => {
      const bad = sink.failure !== null || sink.dropped > 0;
      const words = [counted(sink.delivered, "event", "events")];
      if (sink.waiting) words.push(`${count(sink.waiting)} waiting`);
      if (sink.refused) words.push(`${count(sink.refused)} refused`);
      if (sink.dropped) words.push(`${count(sink.dropped)} dropped`);
      return [el("span", { class: `mark ${bad ? "warn" : "good"}` }, icon(bad ? "medium" : "good"), sinkName(sink.name)), words.join(", ")];
    });
    parts.push(sinks.length ? pairs(sinks) : el("p", { class: "empty" }, "Nowhere but this page and its store."));
  }
  parts.push(el("h3", {}, "Places in use"));
  parts.push(pairs(Object.entries(health.queues).map(([name, queue]) => [
    sentence(QUEUES[name] ?? name.replaceAll("_", " ")),
    `${count(queue.length)} of ${count(queue.capacity)}${queue.refused ? `, ${count(queue.refused)} refused` : ""}`,
  ])));
  const { access } = health;
  parts.push(el("h3", {}, "Access"), pairs([
    ["Token", access.token ? `asked for; ${counted(access.unauthorized, "request", "requests")} without` : "not asked for"],
    ["Encryption", access.tls ? "TLS" : "none"],
  ]));
  $("health").replaceChildren(...parts);
}

function sinkName(name) {
  const [, kind, number] = /^(.*?)(?:-(\d+))?$/.exec(name);
  return `${sentence(SINKS[kind] ?? kind.replaceAll("_", " "))}${number ? ` ${number}` : ""}`;
}

/** The last second, in the tiles. */
function showPulse(pulse) {
  const tile = (name, value, unit) => {
    const [number, prefix] = scaled(value);
    say($(`t-${name}`), number);
    say($(`t-${name}-unit`), `${prefix}${prefix && name !== "bits" ? " " : ""}${unit}`);
  };
  tile("packets", pulse.packets, "packets/s");
  tile("bits", pulse.bytes * 8, "bit/s");
  tile("flows", pulse.flows, "flows/s");
  say($("t-open"), count(pulse.open_flows));
  const { packets, bytes: sizes, flows } = past.columns;
  const most = (values) => values.reduce((high, value) => Math.max(high, value ?? 0), 0);
  say($("t-packets-sub"), `peak ${scaled(Math.max(pulse.packets, most(packets))).join(" ").trim()} in ${rangeName()}`);
  say($("t-bits-sub"), `peak ${rate(Math.max(pulse.bytes, most(sizes)) * 8, "bit/s")} in ${rangeName()}`);
  say($("t-flows-sub"), `peak ${scaled(Math.max(pulse.flows, most(flows))).join(" ").trim()} in ${rangeName()}`);
}
