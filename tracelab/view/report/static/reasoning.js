// A chain of thought: every sentence tinted by its effect, arcs between them, and their values.

const FDR = 0.1;

const V = 0, LO = 1, HI = 2, N = 3, STATUS = 4, P = 5, PADJ = 6, MATTERS = 7, DECISIVE = 8;

// The row of a sentence under a method; null where there is none.
const effect = (reasoning, method, i) => (reasoning.methods && reasoning.methods[method] || { rows: [] }).rows[i] || null;
const measured = (row) => row && row[V] !== null && row[STATUS] !== "insufficient" && row[STATUS] !== "failed";

// The pooled method has no p-value of its own; that of the same rollouts unpooled is used.
function adjusted(reasoning, method, i) {
  const row = effect(reasoning, method, i);
  if (row && row[PADJ] !== null) return row[PADJ];
  const raw = method === "resample-pooled" ? effect(reasoning, "resample", i) : null;
  return raw ? raw[PADJ] : null;
}

function scaleOf(reasoning, method) {
  const rows = (reasoning.methods && reasoning.methods[method] || { rows: [] }).rows;
  return Math.max(0.2, ...rows.filter(measured).map((row) => Math.abs(row[V])));
}

function ranked(reasoning, method) {
  return reasoning.sentences.map((_, i) => i).filter((i) => measured(effect(reasoning, method, i)))
    .sort((a, b) => Math.abs(effect(reasoning, method, b)[V]) - Math.abs(effect(reasoning, method, a)[V]) || a - b);
}

// The sentence whose jump decided it, if one stands out.
function decisive(reasoning, method) {
  const all = ranked(reasoning, method);
  const sure = all.filter((i) => effect(reasoning, method, i)[DECISIVE] !== null)
    .sort((a, b) => effect(reasoning, method, b)[DECISIVE] - effect(reasoning, method, a)[DECISIVE])[0];
  if (sure !== undefined) {
    const p = effect(reasoning, method, sure)[DECISIVE];
    return p >= 0.5 ? { index: sure, text: `decisive: sentence ${sure}, probability ${chance(p).replace("= ", "")}` } : null;
  }
  const first = all.find((i) => { const p = adjusted(reasoning, method, i); return p !== null && p <= FDR; });
  return first === undefined ? null : { index: first, text: `largest significant jump: sentence ${first}` };
}

function reasoningView(trace, pick) {
  const r = trace.reasoning, total = r.sentences.length;
  const methods = data.methods.filter((m) => r.methods && r.methods[m]);
  const method = methods.includes(state.method) ? state.method : methods[0] || null;
  const out = h("div.reasoning");
  const scale = scaleOf(r, method);

  const curves = r.curves || {};
  const name = curves[method] ? method : curves["resample-pooled"] ? "resample-pooled" : Object.keys(curves)[0];
  let plot = null;
  if (name) {
    const parts = curve(curves[name], {
      label: `Value curve of ${total} sentences by ${name}: expected reward from every boundary`,
      unit: "sentence", dots: name === "resample-pooled" && curves.resample ? curves.resample.rows : null,
      jump: method ? decisive(r, method) : null, pick,
      foot: `Expected ${rewardWord(trace)} when the trace is continued from before each sentence; band ${percent(curves[name].level)} (${name})` +
        (name === "resample-pooled" && curves.resample ? "; dots are unpooled means." : "."),
    });
    plot = parts[0];
    out.append(h("section.card", null, h("h2", null, "Value curve"), ...parts));
  } else out.append(h("p.note", null, "Value curve: not measured."));

  const controls = h("div.controls");
  if (methods.length) {
    const choice = h("select", { id: "method" }, methods.map((m) => h("option", { value: m, selected: m === method }, m)));
    choice.addEventListener("change", () => { state.method = choice.value; render(); $("method").focus(); });
    controls.append(h("label", { for: "method" }, "Method "), choice);
  }
  const kinds = [...new Set((r.links || []).map((l) => l[0] + " " + l[1]))];
  if (kinds.length) {
    const most = h("input", { id: "arcs", type: "range", min: 0, max: Math.min(100, r.links.length), value: Math.min(state.arcs, r.links.length) });
    const told = h("output", { for: "arcs" }, most.value);
    most.addEventListener("input", () => { state.arcs = Number(most.value); told.textContent = most.value; drawArcs(); });
    controls.append(h("label", { for: "arcs" }, "Arcs "), most, told);
  }
  out.append(controls, legend(trace, r, method, scale));

  const list = h("div.sentences", { role: "listbox", "aria-label": "Sentences, tinted by effect", tabindex: "-1" });
  const rows = r.sentences.map((sentence, i) => {
    const row = effect(r, method, i), ok = measured(row), p = adjusted(r, method, i);
    const text = h("span.text", { dir: "auto" }, show(sentence[0].replace(/^[ \n]+|\s+$/g, "") || "(white space)"));
    tint(text, ok ? row[V] : null, scale);
    if (ok && p !== null && p <= FDR) text.classList.add("fdr");
    if (row && row[STATUS] === "certified") text.classList.add("certified");
    const says = ok ? signed(row[V]) : "not measured";
    return h("div.row", { role: "option", id: "s" + i, "aria-selected": "false", tabindex: "-1",
      on: { click: () => { if (!String(getSelection())) pick(i); } } },
      h("span.index", null, String(i)),
      h("span.cat.c-" + sentence[1], { title: data.categories[sentence[1]] }, h("span", null, sentence[1])),
      h("span.effect", null, h(ok ? "b" : "span.dim", null, ok ? says : "n/m"), whisker(ok ? row : null, scale),
        ok ? null : h("span.sr", null, " not measured"), row && row[STATUS] === "certified" ? h("span.sr", null, " certified") : null),
      text);
  });
  list.append(...rows);
  const arcs = svg("svg", { class: "arcs", "aria-hidden": "true" });
  const body = h("div.body", null, arcs, list);
  out.append(body);

  function drawArcs() {
    const links = r.links || [];
    arcs.replaceChildren();
    if (!links.length) { body.classList.add("plain"); return; }
    const width = arcs.clientWidth || 72, top = list.offsetTop;
    arcs.setAttribute("height", list.offsetHeight);
    const middle = rows.map((row) => row.offsetTop - top + row.offsetHeight / 2);
    const i = state.index;
    const mine = i === null ? [] : links.filter((l) => l[2] === i || l[3] === i);
    const strongest = [...links].sort((a, b) => Math.abs(b[4]) - Math.abs(a[4])).slice(0, state.arcs);
    for (const link of new Set([...(i === null ? strongest : strongest.filter((l) => !mine.includes(l))), ...mine])) {
      const [, , from, to, value, , , , padj] = link;
      const reach = width - 6 - (width - 14) * Math.min(1, 0.25 + Math.abs(to - from) / Math.max(4, total) * 1.5);
      const a = middle[from], b = middle[to], x = width - 3;
      const own = mine.includes(link), sure = padj !== null && padj <= FDR;
      arcs.append(svg("path", { d: `M${x},${a} C${reach},${a} ${reach},${b} ${x},${b}`,
        class: ["arc", value > 0 ? "pos" : "neg", sure ? "sure" : "", own ? "own" : i === null ? "" : "faint"].join(" ") }),
        svg("circle", { cx: x, cy: b, r: own ? 3 : 2, class: "end " + (value > 0 ? "pos" : "neg") + (i !== null && !own ? " faint" : "") }));
    }
  }
  let height = 0;
  new ResizeObserver(() => {
    if (list.offsetHeight !== height) { height = list.offsetHeight; drawArcs(); }
  }).observe(list);
  return {
    node: out, rows, total, order: method ? ranked(r, method) : [],
    select(i) { if (plot && plot.select) plot.select(i); drawArcs(); },
    detail: (i) => sentenceDetail(trace, method, i, pick),
    text: (i) => r.sentences[i][0],
  };
}

const rewardWord = (trace) => ({
  reference: "chance of the right answer", own_answer: "chance of the trace’s own answer",
}[trace.reward] || "reward");

function legend(trace, r, method, scale) {
  if (!method) return h("p.note", null, "No effect of a sentence was measured in this trace.");
  const swatch = (kind, t) => { const s = h("span.sw." + kind); if (t) s.style.setProperty("--t", t); return s; };
  const levels = r.methods[method].level;
  return h("details.legend", { open: innerWidth > 760 }, h("summary", null, "Legend: signs and units"),
    h("div.key", null,
      h("span", null, swatch("neg", "100%"), swatch("neg", "50%"), ` ${MINUS} lowered, `, swatch("pos", "50%"), swatch("pos", "100%"),
        ` + raised the ${rewardWord(trace)}; full colour at ±${scale.toFixed(2)}`),
      h("span", null, swatch("missing"), " not measured (n/m), never 0"),
      h("span", null, swatch("fdr"), ` significant at a false discovery rate of ${percent(FDR)}` + (method === "resample-pooled" ? " (unpooled test)" : "")),
      (r.methods[method].rows.some((row) => row && row[STATUS] === "certified")) ? h("span", null, swatch("certified"), " certified: so often written that its effect is bounded") : null,
      (r.links || []).length ? h("span", null, "arcs: sentence → later sentence (dot), change in how often it is written; solid if significant") : null),
    h("p.note", null, `Effect of a sentence = expected reward (0 to 1) after it minus before it; the whisker is its ${percent(levels)} interval. Categories are given by rules, not measured.`),
    h("dl.terms", null, [...new Set(r.sentences.map((s) => s[1]))].flatMap((c) => [h("dt", null, h("span.cat.c-" + c, null, h("span", null, c))), h("dd", null, data.categories[c])])));
}
