// Building blocks: elements whose text is always text, and numbers, times and shares as a person reads them.

const $ = (id) => document.getElementById(id);

/** An element. Children are elements, or anything else as text; nothing from data becomes markup. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
}

/** A shape of the sprite. It says nothing that the words beside it do not. */
function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Changes text only if it is another: what stays the same is not read out again. */
function say(element, text) {
  const words = String(text);
  if (element.textContent !== words) element.textContent = words;
}

/** Changes state, word and shape of a mark. */
function mark(element, kind, shape, words) {
  element.classList.remove("good", "warn", "bad");
  if (kind) element.classList.add(kind);
  element.querySelector("use").setAttribute("href", `#i-${shape}`);
  say(element.querySelector("span"), words);
}

const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** Three digits that matter: 0, 0.4, 12.3, 456. */
function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 99.95 || Number.isInteger(value)) return String(Math.round(value));
  if (size >= 9.95) return value.toFixed(1);
  if (size >= 0.0995) return value.toFixed(size >= 0.995 ? 1 : 2);
  return size < 0.01 ? "<0.01" : value.toFixed(2);
}

/** A number and the prefix of its unit: 12300 is ["12.3", "k"]. */
function scaled(value) {
  if (!Number.isFinite(value)) return ["–", ""];
  const step = STEPS.find(([size]) => Math.abs(value) >= size * 0.9995);
  return step ? [digits(value / step[0]), step[1]] : [digits(value), ""];
}

/** A count: whole up to a million, 1.2 M beyond. */
function count(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) < 1e6) return Math.round(value).toLocaleString("en-GB").replaceAll(",", "\u202f");
  return scaled(value).join("\u00a0");
}

/** A count with its noun. */
const counted = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

/** A size with its unit: 1.5 MB. */
function bytes(value) {
  const [number, prefix] = scaled(value);
  return `${number}\u00a0${prefix}B`;
}

/** A rate with its unit: 1.5 k packets/s. */
function rate(value, unit) {
  const [number, prefix] = scaled(value);
  return `${number}\u00a0${prefix}${prefix && unit.startsWith("bit") ? "" : prefix ? "\u00a0" : ""}${unit}`;
}

/** A share: 97.3 %. */
const percent = (share) => (Number.isFinite(share) ? `${digits(share * 100)}\u00a0%` : "–");

/** How sure the model is: never all of it. */
const sure = (share) => (share >= 0.9995 ? "over 99.9\u00a0%" : percent(share));

/** A length of time in its two largest units: 2 d 3 h, 4 min 10 s. */
function lasting(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return seconds <= 0 ? "0 s" : "less than 1 s";
  const whole = Math.floor(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  const [size, unit] = parts[first];
  const rest = first + 1 < parts.length ? Math.floor((whole % size) / parts[first + 1][0]) : 0;
  const tail = rest > 0 ? ` ${rest} ${parts[first + 1][1]}` : "";
  return `${Math.floor(whole / size)} ${unit}${tail}`.replaceAll(" ", "\u00a0");
}

/** A time of day here; with its day unless that is today. */
function clock(time, withSeconds = true) {
  const date = time instanceof Date ? time : new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  const two = (number) => String(number).padStart(2, "0");
  const day = `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ""}`;
  if (date.toDateString() === new Date().toDateString()) return day;
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${day}`;
}

/** A time for eyes and machines. */
const timeOf = (text) => el("time", { datetime: text, title: text }, clock(text));

/** An address with a port; IPv6 in brackets. */
function end(address, port) {
  if (!address) return "–";
  if (port === null || port === undefined) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A list of names and values. `rows` are [name, value] or [name, value, class]. */
function pairs(rows) {
  const list = el("dl", { class: "pairs" });
  for (const [name, value, kind] of rows) list.append(el("div", { class: kind }, el("dt", {}, name), el("dd", {}, value)));
  return list;
}
