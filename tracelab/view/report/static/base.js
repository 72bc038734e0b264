// Elements, text and numbers. Text of traces only ever becomes text nodes: see `show`.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";
const CLIP = 3000; // characters of a text that are laid out before somebody asks for the rest

// The rule of tracelab/report/text.py.
const SUSPECT = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;
const CONTROLS = ("NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN " +
  "EM SUB ESC FS GS RS US").split(" ");
const NAMED = {
  0x7f: "DEL", 0x061c: "ALM", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x202a: "LRE", 0x202b: "RLE",
  0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2028: "LSEP", 0x2029: "PSEP", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};

function mark(char) {
  const code = char.codePointAt(0);
  if (code === 0x1e) return " […] "; // where the middle of a long rollout was taken out
  if (code < 0x20) return CONTROLS[code];
  return NAMED[code] || "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

// An element. Attributes are ours, never a trace's; children are elements or text.
function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  return fill(node, attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

// Text of a trace: controls and direction overrides become labelled marks, matches of the search
// are marked, and a very long text waits to be asked for.
function show(text, clip = CLIP) {
  const out = document.createDocumentFragment();
  text = text === null || text === undefined ? "" : String(text);
  const all = text.length <= clip;
  pour(out, all ? text : text.slice(0, clip));
  if (!all) {
    const rest = h("button.more", { type: "button", tabindex: "-1" },
      ` … show all ${count(text.length)} characters`);
    rest.addEventListener("click", (event) => {
      event.stopPropagation();
      const whole = document.createDocumentFragment();
      pour(whole, text.slice(clip));
      rest.replaceWith(whole);
    });
    out.append(rest);
  }
  return out;
}

function pour(out, text) {
  let at = 0;
  for (const match of text.matchAll(SUSPECT)) {
    found(out, text.slice(at, match.index));
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    out.append(h("span.ctl", { title: "U+" + code }, mark(match[0])));
    at = match.index + match[0].length;
  }
  found(out, text.slice(at));
}

function found(out, text) {
  const wanted = state.search;
  const low = wanted ? text.toLowerCase() : "";
  if (!wanted || low.length !== text.length) { if (text) out.append(text); return; }
  let at = 0;
  for (let i = low.indexOf(wanted); i >= 0; i = low.indexOf(wanted, at)) {
    out.append(text.slice(at, i), h("mark", null, text.slice(i, i + wanted.length)));
    at = i + wanted.length;
  }
  out.append(text.slice(at));
}

// Numbers. A missing one is said to be missing.
const count = (n) => n === null || n === undefined ? "not measured" : Number(n).toLocaleString("en-US");
function fixed(v, digits = 2) {
  if (v === null || v === undefined) return "not measured";
  const a = Math.abs(v);
  const text = a.toFixed(a >= 0.0005 && a < 0.005 ? Math.max(3, digits) : digits);
  return (v < 0 && Number(text) !== 0 ? MINUS : "") + text;
}
const signed = (v, digits = 2) =>
  v === null || v === undefined ? "not measured" : (v > 0 && Number(fixed(v, digits)) !== 0 ? "+" : "") + fixed(v, digits);
const interval = (lo, hi, how = signed) => lo === null || lo === undefined ? "no interval" : `${how(lo)} to ${how(hi)}`;
// The class of a signed number; what is shown as 0.00 has no colour.
const sign = (v) => Math.abs(v) < 0.0005 ? "none" : v > 0 ? "pos" : "neg";
const percent = (v) => v === null || v === undefined ? "not measured" : Math.round(100 * v) + "\u00a0%";
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const pvalue = (p) => p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : "= " + p.toFixed(3);
const chance = (p) => p > 0.99 && p < 1.0001 ? "> 0.99" : p < 0.01 ? "< 0.01" : "= " + p.toFixed(2);

const state = { trace: null, view: null, index: null, method: null, search: "", arcs: 20 };

function facts(pairs) {
  const list = h("dl.facts");
  for (const [name, value] of pairs) if (value !== null) list.append(h("dt", null, name), h("dd", null, value));
  return list;
}

function table(heads, rows, label) {
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": label },
    h("table", null,
      h("thead", null, h("tr", null, heads.map((x) => h(x.startsWith("#") ? "th.num" : "th", { scope: "col" }, x.replace(/^#/, ""))))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, i) =>
        h(heads[i].startsWith("#") ? "td.num" : "td", null, cell)))))));
}

// A signed effect and its interval on an axis from -scale to scale; all in percent of the width.
function whisker(row, scale) {
  const box = h("span.whisker", { "aria-hidden": "true" }, h("i.zero"));
  const [value, lo, hi] = row || [];
  if (value === null || value === undefined) { box.classList.add("missing"); return box; }
  const at = (v) => 50 + 50 * Math.max(-1, Math.min(1, v / scale));
  const bar = h("i.bar"), dot = h("i.dot");
  if (lo !== null && lo !== undefined) {
    bar.style.left = at(lo) + "%";
    bar.style.width = Math.max(1, at(hi) - at(lo)) + "%";
    box.append(bar);
  }
  dot.style.left = at(value) + "%";
  box.append(dot);
  box.classList.add(sign(value));
  return box;
}

// Tint an element by a signed number: `strength` in [0, 1].
function tint(node, value, scale) {
  if (value === null || value === undefined) { node.classList.add("missing"); return; }
  node.classList.add(sign(value));
  node.style.setProperty("--t", Math.round(100 * Math.min(1, Math.abs(value) / scale)) + "%");
}
