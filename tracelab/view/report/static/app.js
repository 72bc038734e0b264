// Which trace and which sentence are shown: the address holds it, everything else follows.
// Addresses: "" the overview, #trace, #trace/sentence, #trace/context/statement, #trace/steps/step.

const VIEWS = [["reasoning", null, "Reasoning", () => reasoningView], ["agent", "steps", "Agents", () => agentView],
  ["context", "context", "Context", () => contextView]];
const kindsOf = (trace) => VIEWS.filter(([part]) => trace[part]);
const byId = new Map(data.traces.map((t) => [t.id, t]));
let shown = null; // the view of the trace on the page
let haystacks = null;

function address(trace, view, index) {
  const own = VIEWS.find(([part]) => part === view);
  const plain = kindsOf(trace)[0] === own;
  const parts = [encodeURIComponent(trace.id)];
  if (own && !plain) parts.push(own[1] || "reasoning");
  if (index !== null) parts.push(index);
  return "#" + parts.join("/");
}

function locate() {
  let parts;
  try { parts = location.hash.slice(1).split("/").map(decodeURIComponent); } catch { parts = [""]; }
  const asked = parts[0], trace = byId.get(asked) || (asked.length >= 6 ? data.traces.find((t) => t.id.startsWith(asked) || asked.startsWith(t.id)) : null)
    || data.traces.find((t) => t.name === asked && asked) || null;
  const known = trace ? kindsOf(trace) : [];
  const named = known.find(([part, word]) => parts[1] === (word || part)) || known[0] || null;
  const last = parts[parts.length - 1];
  $("lost").hidden = !asked || trace !== null;
  $("lost").replaceChildren("This file has no trace ", h("bdi", null, show(asked, 100)), ".");
  return { trace, view: named ? named[0] : null, index: parts.length > 1 && /^\d+$/.test(last) ? Number(last) : null };
}

function go(trace, view, index, replace) {
  const to = trace ? address(trace, view, index) : "#";
  if (replace || location.hash === to) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  route();
}

function route() {
  const at = locate(), same = shown && at.trace === state.trace && at.view === state.view;
  Object.assign(state, at);
  if (!same) render(); else choose();
}

function render() {
  const { trace, view } = state, box = $("trace");
  shown = null;
  $("overview").hidden = Boolean(trace);
  box.hidden = !trace;
  document.body.classList.toggle("has-trace", Boolean(trace));
  for (const link of $("traces").querySelectorAll("a")) link.toggleAttribute("aria-current", trace !== null && link.dataset.id === trace.id);
  for (const link of $("traces").querySelectorAll("a[aria-current]")) link.setAttribute("aria-current", "page");
  $("detail").hidden = true;
  if (!trace) { box.replaceChildren(); return; }
  const make = VIEWS.find(([part]) => part === view);
  shown = make ? make[3]()(trace, (i) => go(trace, view, i, true)) : null;
  const kinds = kindsOf(trace);
  box.replaceChildren(head(trace), kinds.length > 1 ? h("p.tabs", null, kinds.map(([part, , label]) =>
    h("a", { href: address(trace, part, null), "aria-current": part === view ? "page" : null }, label))) : "",
    shown ? shown.node : h("p.note", null, "Nothing has been measured in this trace yet: its text is above."));
  choose(true);
}

function head(trace) {
  const outcome = trace.outcome;
  const messages = trace.messages || [];
  return h("header.head", null,
    h("h1", null, h("bdi", null, show(trace.name, 200)), h("span.chip" + (outcome === null ? "" : outcome === "right" ? ".good" : ".bad"), { title: outcome === null ? "neither the source nor a reference says whether it is right" : trace.success === null ? "by its answer and the reference" : "as its source says" }, outcome || "outcome unknown")),
    h("p.lead", null, "Answer ", trace.answer === null ? h("span.dim", null, "not recorded") : h("b", { dir: "auto" }, show(trace.answer, 200)),
      trace.reference === null ? "" : h("span", null, ", reference ", h("b", { dir: "auto" }, show(trace.reference, 200))),
      h("span.dim", null, trace.tokens[1] ? ` · ${plural(trace.tokens[1], "response token")}` : trace.agent ? ` · ${plural(trace.agent.steps.length, "step")}` : "", trace.model ? [" · ", h("bdi", null, show(trace.model, 80))] : null,
        data.traces.some((t) => t.run !== trace.run) ? [" · run ", h("bdi", null, show(trace.run))] : null)),
    messages.length ? h("details.question", { open: messages.reduce((n, m) => n + m[2].length, 0) < 1200 }, h("summary", null, "Question"),
      messages.map(([role, name, text]) => h("div.message", null, h("p.role", null, role, name ? [" · ", h("bdi", null, show(name, 60))] : null),
        h("div.pre", { dir: "auto" }, show(text))))) : null);
}

function choose(first) {
  if (!shown) return;
  const i = state.index !== null && state.index < shown.total ? state.index : null;
  state.index = i;
  shown.rows.forEach((row) => { if (row.getAttribute("aria-selected") === "true") { row.setAttribute("aria-selected", "false"); row.tabIndex = -1; } });
  const panel = $("detail"), row = i === null ? shown.rows[0] : shown.rows[i];
  if (row) row.tabIndex = 0;
  panel.hidden = i === null;
  document.body.classList.toggle("has-detail", i !== null);
  shown.select(i);
  if (i === null) { panel.replaceChildren(); return; }
  row.setAttribute("aria-selected", "true");
  const inside = document.activeElement === document.body || shown.node.contains(document.activeElement) || first;
  if (inside && !["SELECT", "INPUT"].includes(document.activeElement.tagName)) row.focus({ preventScroll: true });
  const noun = { reasoning: "Sentence", context: "Statement", agent: "Step" }[state.view];
  const move = (d, label, sign) => h("button", { type: "button", "aria-label": label, disabled: i + d < 0 || i + d >= shown.total,
    on: { click: () => go(state.trace, state.view, i + d, true) } }, sign);
  panel.replaceChildren(h("div.bar-top", null, h("h2", null, `${noun} ${i}`, h("span.dim", null, ` of 0–${shown.total - 1}`)),
    move(-1, "previous", "↑"), move(1, "next", "↓"),
    h("a.button", { href: address(state.trace, state.view, i), title: "A link to here" }, "Link"),
    h("button", { type: "button", "aria-label": "close", on: { click: () => go(state.trace, state.view, null, true) } }, "✕")),
    h("div.detail-body", null, shown.detail(i)));
  panel.scrollTop = 0;
  // Beside or above what covers the foot of a small screen.
  const box = row.getBoundingClientRect(), low = panel.getBoundingClientRect().top > 80 ? panel.getBoundingClientRect().top : innerHeight;
  if (box.top < 70 || box.bottom > low - 12) scrollTo({ top: scrollY + box.top - Math.max(90, (low - box.height) / 2.6), behavior: "instant" });
}

// The list of traces, and the search over all of them.
function listTraces() {
  const list = $("traces");
  list.replaceChildren(h("li", null, h("a.over", { href: "#" }, "Overview")), ...data.traces.map((trace) => {
    const r = trace.reasoning, m = r && data.methods.find((name) => r.methods && r.methods[name]);
    const top = m ? ranked(r, m)[0] : undefined;
    const statements = trace.context ? trace.context.statements : null;
    const verdict = trace.agent && (trace.agent.verdicts || []).find((v) => !unmeasured(v.evidence));
    const number = top !== undefined ? h("span.num." + sign(effect(r, m, top)[V]), { title: "its largest effect of a sentence" }, signed(effect(r, m, top)[V]))
      : verdict ? h("span.dim", { title: "verdict, " + verdict.evidence }, verdict.status)
        : statements && statements.length ? h("span.num.dim", { title: "statements that are grounded, of all" }, `${statements.filter((s) => s[2] === "grounded").length} of ${statements.length}`)
          : h("span.num.dim", { title: "not measured" }, "n/m");
    return h("li", null, h("a", { href: "#" + encodeURIComponent(trace.id), "data-id": trace.id, title: plain(trace.name) },
      h("span.name", { dir: "auto" }, show(trace.label, 80)),
      h("span.about", null, trace.outcome ? h("span.ended." + trace.outcome, null, h("span.sr", null, trace.outcome)) : null, h("bdi", null, show(trace.about, 80))), number));
  }));
}

// A text in an attribute: nothing there that could act on its reader.
const plain = (text) => String(text).replace(SUSPECT, "\ufffd").slice(0, 300);

// Tables of traces: a heading sorts, columns of few values can be chosen from.
function sortable(tableNode) {
  const body = tableNode.tBodies[0], heads = [...tableNode.tHead.rows[0].cells], all = [...body.rows];
  if (all.length < 2) return;
  const value = (row, k) => { const c = row.cells[k]; return c.dataset.v !== undefined ? Number(c.dataset.v) : c.querySelector(".dim") ? null : c.textContent.trim(); };
  heads.forEach((head, k) => {
    const button = h("button.sort", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((x) => x.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      // What is missing stays last, whichever way.
      body.append(...[...all].sort((x, y) => {
        const a = value(x, k), b = value(y, k);
        return a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b);
      }));
    });
  });
  const chosen = new Map(), told = h("span.dim", { role: "status" });
  const filter = () => {
    let shownRows = 0;
    for (const row of all) {
      row.hidden = [...chosen].some(([k, wanted]) => wanted && row.cells[k].textContent.trim() !== wanted);
      shownRows += !row.hidden;
    }
    told.textContent = shownRows < all.length ? `${count(shownRows)} of ${plural(all.length, "row")}` : plural(all.length, "row");
  };
  const controls = h("div.controls.filters");
  heads.forEach((head, k) => {
    if (head.dataset.choose === undefined) return;
    const counts = new Map();
    for (const row of all) { const v = row.cells[k].textContent.trim(); counts.set(v, (counts.get(v) || 0) + 1); }
    const choice = h("select", null, h("option", { value: "" }, "any"), [...counts].sort().map(([v, n]) => h("option", { value: v }, show(`${v.slice(0, 60)} (${n})`))));
    choice.addEventListener("change", () => { chosen.set(k, choice.value); filter(); });
    controls.append(h("label", null, head.textContent + " ", choice));
  });
  filter();
  controls.append(told);
  tableNode.closest(".traces-table").insertBefore(controls, tableNode.parentElement);
}

function haystack(trace) {
  const parts = [trace.name, trace.id, trace.answer || "", ...(trace.messages || []).map((m) => m[2])];
  if (trace.reasoning) parts.push(...trace.reasoning.sentences.map((s) => s[0]));
  if (trace.context) parts.push(...trace.context.context.flat().map((p) => p[0]), ...trace.context.response.map((p) => p[0]));
  if (trace.agent) parts.push(...trace.agent.steps.map(stepText));
  return parts.join("\n").toLowerCase();
}

function search() {
  const wanted = $("search").value.trim().toLowerCase();
  state.search = wanted.length > 1 ? wanted : "";
  haystacks = haystacks || data.traces.map(haystack);
  let hits = 0;
  [...$("traces").children].slice(1).forEach((item, i) => {
    const hit = haystacks[i].includes(wanted);
    item.hidden = !hit;
    hits += hit;
  });
  const here = state.search && shown ? matches().length : 0;
  $("found").textContent = wanted ? `${plural(hits, "trace")}${shown ? `, ${plural(here, "match")} here`.replace("matchs", "matches") : ""}` : "";
  if (state.trace) render();
}

const matches = () => state.search && shown ? [...Array(shown.total).keys()].filter((i) => shown.text(i).toLowerCase().includes(state.search)) : [];

function nextMatch(back) {
  const all = matches();
  if (!state.trace || !all.length) {
    const item = [...$("traces").children].slice(1).find((x) => !x.hidden);
    if (item && state.search) { const trace = byId.get(item.firstElementChild.dataset.id); if (trace !== state.trace) go(trace, kindsOf(trace)[0] && kindsOf(trace)[0][0], null); }
    return;
  }
  const at = state.index === null ? -1 : state.index;
  const to = back ? [...all].reverse().find((i) => i < at) ?? all[all.length - 1] : all.find((i) => i > at) ?? all[0];
  go(state.trace, state.view, to, true);
}

function step(d) {
  if (shown) go(state.trace, state.view, state.index === null ? (d > 0 ? 0 : shown.total - 1) : Math.max(0, Math.min(shown.total - 1, state.index + d)), true);
}

function byEffect(d) {
  if (!shown || !shown.order.length) return;
  const at = shown.order.indexOf(state.index);
  go(state.trace, state.view, shown.order[at < 0 ? 0 : (at + d + shown.order.length) % shown.order.length], true);
}

function nextTrace(d) {
  const open = [...$("traces").children].slice(1).filter((x) => !x.hidden).map((x) => byId.get(x.firstElementChild.dataset.id));
  const at = open.indexOf(state.trace), to = open[at < 0 ? (d > 0 ? 0 : open.length - 1) : at + d];
  if (to) { go(to, kindsOf(to)[0] && kindsOf(to)[0][0], null); scrollTo(0, 0); }
}

const KEYS = {
  ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1), a: () => byEffect(1), A: () => byEffect(-1),
  "]": () => nextTrace(1), "[": () => nextTrace(-1), o: () => go(null), Escape: () => { if (shown) go(state.trace, state.view, null, true); },
  "/": () => { openList(true); $("search").focus(); }, "?": () => $("help").showModal(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const on = event.target;
  if (on.id === "search") {
    if (event.key === "Enter") { event.preventDefault(); nextMatch(event.shiftKey); }
    if (event.key === "Escape") { on.value = ""; search(); on.blur(); }
    return;
  }
  if (/^(SELECT|INPUT|TEXTAREA)$/.test(on.tagName) && event.key !== "Escape") return;
  // Arrows scroll where nothing can be selected, and in what scrolls by itself.
  const arrow = event.key.startsWith("Arrow");
  if (arrow && (!shown || on.closest("#detail") || on.closest(".scroll"))) return;
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});

function openList(open) {
  document.body.classList.toggle("list-open", open);
  $("open-list").setAttribute("aria-expanded", String(open));
}

const THEMES = ["auto", "light", "dark"];
function theme(choice) {
  document.documentElement.dataset.theme = choice;
  $("theme").textContent = "Theme: " + choice;
  try { localStorage.setItem("tracelab-theme", choice); } catch { /* a file without storage */ }
}

let kept = "auto";
try { kept = localStorage.getItem("tracelab-theme") || "auto"; } catch { /* a file without storage */ }
theme(THEMES.includes(kept) ? kept : "auto");
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
$("keys").addEventListener("click", () => $("help").showModal());
$("open-list").addEventListener("click", () => openList(!document.body.classList.contains("list-open")));
$("traces").addEventListener("click", () => openList(false));
let typing = 0;
$("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, 120); });
addEventListener("hashchange", route);
document.querySelectorAll("table.sortable").forEach(sortable);
listTraces();
route();
