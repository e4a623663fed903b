// The model's card: who it is, what it knows, when it speaks up, and how today's traffic compares with its training.

const model = { key: null };

async function loadModel() {
  const card = await get("/model");
  const classes = card.classes.map(({ name }) => name);
  offerClasses([...classes, "Alert rate"]);
  const thresholds = card.classes.filter(({ threshold }) => threshold !== null);
  const parts = [
    pairs([
      ["Name", `${card.name} ${card.version}`],
      ["Kind", `${KINDS[card.kind] ?? card.kind}${card.trees ? `, ${counted(card.trees, "tree", "trees")}` : ""}`],
      ["From", card.resolved ?? SOURCES[card.source] ?? card.source],
      ["At work since", timeOf(card.loaded_at)],
      ["Counts flows as", PROFILES[card.profile] ?? card.profile],
      ["Explains itself", card.explains ? "yes" : "no"],
      ...(card.date ? [["Trained", card.date]] : []),
    ]),
  ];
  if (card.training_data) parts.push(el("h3", {}, "Trained on"), el("p", { class: "text" }, card.training_data));
  parts.push(el("h3", {}, "Today's traffic and the training"), ...drift(card.drift));
  if (card.shadow) parts.push(el("h3", {}, "Second model, only watching"), pairs([["Name", `${card.shadow.model.name} ${card.shadow.model.version}`], ["Compared", counted(card.shadow.compared, "flow", "flows")], ["Other label", count(card.shadow.labels_differ)]]));
  const open = $("model").querySelector("details")?.open ?? false;
  parts.push(el("details", { open }, el("summary", {}, `${counted(thresholds.length, "class", "classes")} of attacks, and from which probability each is an alert`),
    pairs(thresholds.map(({ name, threshold }) => [name, percent(threshold)]))));
  $("model").replaceChildren(...parts);
}

const KINDS = { forest: "random forest", boosted: "boosted trees", stacking: "several models together" };
const SOURCES = { embedded: "built into the program" };
const PROFILES = {
  fixed: "CICFlowMeter, its faults mended (fixed)", cns2022: "the corrected data set of 2022 (cns2022)", cic2017: "CICFlowMeter of 2017 (cic2017)",
};

function drift(known) {
  if (!known) return [el("p", { class: "text" }, "Not compared: this server sees no traffic.")];
  if (!known.available) return [el("p", { class: "text" }, "Not compared: the model does not say what it was trained on.")];
  if (!known.window) {
    return [el("p", { class: "text" }, `Not known yet: ${counted(known.open_flows, "flow", "flows")} so far; the first comparison comes with 10 000 flows, or after an hour if there are 1000.`)];
  }
  const far = known.left.length;
  const words = far === 0
    ? el("span", { class: "mark good" }, icon("good"), "Like the training traffic")
    : el("span", { class: "mark warn" }, icon("medium"), `Unlike the training traffic in ${counted(far, "feature", "features")}; verdicts are less certain`);
  const shifted = known.window.features.slice(0, 3).filter(({ text }) => text).map(({ feature, text }) => [feature, text]);
  return [
    el("p", { class: "text" }, words),
    pairs([
      ["Last comparison", known.closed_at ? el("span", {}, timeOf(known.closed_at), `, ${counted(known.window.flows, "flow", "flows")}`) : "–"],
      ["Flows that are alerts", `${percent(known.window.alert_share)} (harmless traffic at training: ${percent(known.window.expected_alert_share)})`],
      ["Flows far outside the training", percent(known.window.out_of_distribution_share)],
    ]),
    ...(shifted.length && far ? [el("h3", {}, "Shifted most"), pairs(shifted)] : []),
  ];
}

/** Looks again when another model is at work. */
async function modelOf(health) {
  if (!health.model) return;
  const key = `${health.model.sha256} ${health.model.loaded_at}`;
  if (key === model.key) return;
  await loadModel();
  model.key = key;
}
