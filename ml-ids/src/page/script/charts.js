// The history: traffic, and verdicts by class. Filled from /timeline, kept up to date by pulses.

const RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 h"], [21600, "6 h"]];
const COLUMNS = ["time", "packets", "bytes", "skipped", "flows", "open_flows", "alerts"];
const SHOWN_CLASSES = 6;
const BENIGN = "BENIGN";

const past = { range: 900, step: 1, columns: emptyColumns(), verdicts: {}, bucket: null, known: false };
const plots = { traffic: null, verdicts: null };

function emptyColumns() {
  return Object.fromEntries(COLUMNS.map((name) => [name, []]));
}

/** Fetches the history anew; without it the charts begin now. */
async function loadPast() {
  const range = past.range;
  let answer = null;
  try { answer = await get(`/timeline?seconds=${range}`); } catch (error) { if (!(error instanceof Refused)) throw error; }
  if (range !== past.range) return;
  past.known = true;
  past.bucket = null;
  past.step = answer?.step_seconds ?? 1;
  past.columns = emptyColumns();
  if (answer) for (const name of COLUMNS) past.columns[name] = answer[name] ?? [];
  past.verdicts = answer?.verdicts ?? {};
  draw();
}

/** Adds the last second; points are whole steps. */
function addPulse(pulse) {
  if (!past.known) return;
  const bucket = past.bucket ?? { seconds: 0, sums: {}, verdicts: {} };
  past.bucket = bucket;
  bucket.seconds += 1;
  for (const name of ["packets", "bytes", "skipped", "flows", "alerts"]) bucket.sums[name] = (bucket.sums[name] ?? 0) + pulse[name];
  for (const [name, flows] of Object.entries(pulse.verdicts ?? {})) bucket.verdicts[name] = (bucket.verdicts[name] ?? 0) + flows;
  const { time } = past.columns;
  const before = time.length ? time[time.length - 1] : -Infinity;
  if (pulse.time <= before || pulse.time - before < past.step - 0.5) return;
  past.bucket = null;
  for (const name of ["packets", "bytes", "skipped", "flows"]) past.columns[name].push(bucket.sums[name] / bucket.seconds);
  past.columns.alerts.push(bucket.sums.alerts);
  past.columns.open_flows.push(pulse.open_flows);
  time.push(pulse.time);
  for (const name of Object.keys(bucket.verdicts)) past.verdicts[name] ??= [];
  for (const [name, values] of Object.entries(past.verdicts)) {
    while (values.length < time.length - 1) values.push(0);
    values.push(bucket.verdicts[name] ?? 0);
  }
  forget(pulse.time - past.range);
  draw();
}

function forget(oldest) {
  const { time } = past.columns;
  let old = 0;
  while (old < time.length && time[old] < oldest) old += 1;
  if (!old) return;
  for (const name of COLUMNS) past.columns[name].splice(0, old);
  for (const [name, values] of Object.entries(past.verdicts)) {
    values.splice(0, old);
    if (!values.some((value) => value > 0)) delete past.verdicts[name];
  }
}

/** Attack classes by how often they occur; those beyond the colours are one. */
function shownClasses() {
  const sums = Object.entries(past.verdicts).filter(([name]) => name !== BENIGN)
    .map(([name, values]) => [name, values.reduce((sum, value) => sum + value, 0)]).filter(([, sum]) => sum > 0);
  sums.sort((a, b) => b[1] - a[1]);
  const names = sums.slice(0, SHOWN_CLASSES).map(([name]) => name).sort();
  const classes = names.map((name) => [name, past.verdicts[name]]);
  const others = sums.slice(SHOWN_CLASSES);
  if (others.length) {
    const all = past.columns.time.map((_, at) => others.reduce((sum, [name]) => sum + (past.verdicts[name][at] ?? 0), 0));
    classes.push([`${others.length} other classes`, all]);
  }
  return classes;
}

/** Rows with a hole where the sensor was away, so that no line bridges it. */
function withGaps(columns) {
  const [time] = columns;
  const rows = columns.map(() => []);
  for (let at = 0; at < time.length; at += 1) {
    if (at > 0 && time[at] - time[at - 1] > past.step * 2.5) {
      rows.forEach((row, column) => row.push(column === 0 ? time[at - 1] + past.step : null));
    }
    rows.forEach((row, column) => row.push(columns[column][at] ?? 0));
  }
  return rows;
}

function draw() {
  if (document.hidden) return;
  const { time, packets, flows } = past.columns;
  const empty = time.length === 0;
  for (const name of ["traffic", "verdicts"]) showNothing($(name), empty);
  if (empty) {
    for (const name of Object.keys(plots)) drop(name);
    return;
  }
  drawTraffic(withGaps([time, packets, flows]));
  drawVerdicts();
  // The legend of one is as high as the other's: only now is it known how much room there is.
  for (const name of Object.keys(plots)) fit($(name));
}

function fit(box) {
  const { plot } = plots[box.id] ?? {};
  const [width, height] = [box.clientWidth, box.clientHeight];
  if (plot && (plot.width !== width || plot.height !== height)) plot.setSize({ width, height });
}

function showNothing(chart, empty) {
  const words = chart.querySelector(".none");
  if (empty && !words) chart.append(el("p", { class: "none" }, "No history yet; it begins when the sensor has watched for some seconds."));
  if (!empty) words?.remove();
}

function drop(name) {
  plots[name]?.plot.destroy();
  plots[name] = null;
  $(`${name}-legend`).replaceChildren();
}

function drawTraffic(data) {
  const series = [{ name: "packets", color: "s0", scale: "y", area: true }, { name: "flows judged", color: "a0", scale: "z" }];
  show("traffic", series, data, (value, at) => rate(value, at === 0 ? "packets/s" : "flows/s"));
  const most = Math.max(...past.columns.packets);
  $("traffic").setAttribute("aria-label", `Traffic over the last ${rangeName()}: now ${rate(past.columns.packets.at(-1), "packets/s")} and ` +
    `${rate(past.columns.flows.at(-1), "flows/s")}, at most ${rate(most, "packets/s")}`);
}

function drawVerdicts() {
  const classes = shownClasses();
  const { time } = past.columns;
  const benign = past.verdicts[BENIGN] ?? time.map(() => 0);
  // Bars stand on each other: the highest first, so that the lower ones are drawn over it.
  const stacked = [];
  classes.forEach(([, values], place) => stacked.push(time.map((_, at) => (values[at] ?? 0) + (place ? stacked[place - 1][at] : 0))));
  const series = [{ name: "benign", color: "s1", scale: "z" }];
  const columns = [time, benign];
  for (let place = classes.length - 1; place >= 0; place -= 1) {
    series.push({ name: classes[place][0], color: `a${place}`, scale: "y", bars: true });
    columns.push(stacked[place]);
  }
  const raw = withGaps([time, benign, ...classes.map(([, values]) => values).reverse()]).slice(1);
  show("verdicts", series, withGaps(columns), (value, at, index) => {
    const flows = index === null ? sum(raw[at]) : (raw[at][index] ?? 0);
    return counted(flows, "flow", "flows");
  });
  say($("verdicts-step"), past.step === 1 ? "flows each second" : `flows in ${lasting(past.step)}`);
  const words = classes.map(([name, values]) => `${name} ${counted(sum(values), "flow", "flows")}`).join(", ");
  $("verdicts").setAttribute("aria-label", `Verdicts over the last ${rangeName()}: benign ${counted(sum(benign), "flow", "flows")}; ${words || "no attacks"}`);
}

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
const rangeName = () => RANGES.find(([seconds]) => seconds === past.range)[1];

/** Draws a chart; makes it anew when there are other series. */
function show(name, series, data, words) {
  const key = series.map((one) => one.name).join("\n");
  if (plots[name]?.key !== key) {
    drop(name);
    plots[name] = { key, plot: makePlot(name, series, data), legend: makeLegend(name, series) };
  }
  const plot = plots[name];
  plot.words = (index) => series.forEach((one, at) => say(plot.legend[at], words(data[at + 1][index ?? data[0].length - 1] ?? 0, at, index)));
  plot.plot.setData(data);
  plot.words(plot.plot.cursor.idx ?? null);
}

function makeLegend(name, series) {
  const values = series.map(() => el("span", { class: "value" }));
  const rows = series.map((one, at) => {
    const swatch = el("span", { class: one.bars ? "swatch" : "swatch line" });
    swatch.style.color = `var(--${one.color})`;
    return el("li", {}, swatch, el("span", {}, one.scale === "z" ? `${one.name} (right)` : one.name), values[at]);
  });
  // The order of the colours from below.
  $(`${name}-legend`).replaceChildren(rows[0], ...rows.slice(1).reverse());
  return values;
}

/** A colour as the canvas wants it. */
function color(name) {
  const probe = el("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function makePlot(name, series, data) {
  const box = $(name);
  const [soft, line] = [color("soft"), color("line")];
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const short = (plot, splits) => splits.map((value) => (value === null ? "" : scaled(value).join("\u202f")));
  const whole = (plot, splits) => splits.map((value) => (Number.isInteger(value) ? scaled(value).join("\u202f") : ""));
  const room = (plot, low, high) => [0, Math.max(high ?? 0, 1) * 1.1];
  const bars = uPlot.paths.bars({ size: [0.9, 14, 1], gap: 0 });
  const plot = new uPlot({
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [8, 0, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: (plot, low, high) => [high - past.range, high] },
      y: { range: room },
      z: { range: room },
    },
    axes: [
      { ...axis, size: 26, space: 56, incrs: [60, 120, 300, 600, 1800, 3600, 7200], values: (plot, splits) => splits.map((time) => clock(time * 1000, false)), grid: { show: false } },
      { ...axis, scale: "y", size: 46, space: 36, values: name === "verdicts" ? whole : short },
      { ...axis, scale: "z", side: 1, size: 46, space: 36, grid: { show: false }, values: name === "verdicts" ? whole : short },
    ],
    series: [{}, ...series.map((one) => ({
      scale: one.scale,
      stroke: color(one.color),
      width: one.bars ? 0 : 1.5,
      fill: one.bars ? color(one.color) : one.area ? color(one.color).replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)") : undefined,
      paths: one.bars ? bars : undefined,
      points: { show: false },
    }))],
    hooks: { setCursor: [(plot) => plots[name]?.words(plot.cursor.idx ?? null)] },
  }, data, box);
  return plot;
}

/** Sizes and colours follow the page. */
function watchCharts() {
  const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) fit(target);
  });
  sized.observe($("traffic"));
  sized.observe($("verdicts"));
  const again = () => {
    for (const name of Object.keys(plots)) drop(name);
    draw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  for (const [seconds, words] of RANGES) {
    const radio = el("input", { type: "radio", name: "range", value: seconds, checked: seconds === past.range });
    radio.addEventListener("change", () => {
      past.range = seconds;
      loadPast().catch(() => {});
    });
    $("ranges").append(el("label", {}, radio, el("span", {}, words)));
  }
  return again;
}
