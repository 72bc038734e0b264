// A context: the statements of a response, and the spans that the selected one rests on.

const LABELS = data.labels;

function contextView(trace, pick) {
  const c = trace.context, methods = Object.keys(c.effects);
  const method = methods.includes(state.method) ? state.method : methods[0] || null;
  const out = h("div.context");
  const scale = (i) => Math.max(1, ...(method ? c.effects[method].rows[i] : []).filter((x) => x && x[0] !== null).map((x) => Math.abs(x[0])));

  const counts = {};
  for (const s of c.statements) counts[s[2]] = (counts[s[2]] || 0) + 1;
  out.append(h("dl.terms", { "aria-label": "Labels of the statements" }, Object.keys(LABELS).filter((l) => counts[l]).flatMap((l) => [
    h("dt", null, h("b.num", null, String(counts[l])), " ", h("span.chip.l-" + l, null, l)), h("dd", null, LABELS[l])])));
  if (methods.length > 1) {
    const choice = h("select", { id: "method" }, methods.map((m) => h("option", { value: m, selected: m === method }, m)));
    choice.addEventListener("change", () => { state.method = choice.value; render(); $("method").focus(); });
    out.append(h("div.controls", null, h("label", { for: "method" }, "Method "), choice));
  }

  const spans = [];
  const paint = (piece) => {
    const [text, index] = piece;
    if (index === null) return h("span", { dir: "auto" }, show(text));
    const node = h("span.span", { dir: "auto", title: "span " + index }, show(text));
    spans[index] = node;
    return node;
  };
  const sources = h("section.card.sources", { tabindex: "0", "aria-label": "Context" }, h("h2", null, "Context"));
  c.context.forEach((message, turn) => {
    const loose = c.spans.map((s, k) => [s, k]).filter(([s]) => s[2] === turn && s[3] !== null);
    const [role, name] = c.heads[turn];
    sources.append(h("div.message", null, h("p.role", null, role, name ? [" · ", h("bdi", null, show(name))] : null),
      h("div.pre", { dir: "auto" }, message.map(paint), loose.map(([s, k]) => paint([s[3], k])))));
  });
  if (!c.context.length) sources.append(h("p.note", null, "This trace has no messages before the response."));
  sources.append(h("div.key", null,
    h("span", null, swatchOf("neg"), ` ${MINUS} makes the statement less likely, `, swatchOf("pos"), " + likelier, in nats of log-probability"),
    h("span", null, swatchOf("fdr"), " interval on one side of 0 (and at least a tenth of the largest)"), h("span", null, swatchOf("missing"), " not measured, never 0")));

  const list = h("div.statements", { role: "listbox", "aria-label": "Statements of the response", tabindex: "-1" });
  const rows = c.statements.map((s, i) => h("div.row.statement", { role: "option", id: "s" + i, "aria-selected": "false", tabindex: "-1",
    on: { click: () => { if (!String(getSelection())) pick(i); } } },
    h("span.index", null, String(i)), h("span.chip.l-" + s[2], { title: LABELS[s[2]] || "" }, s[2]),
    h("span.text.l-" + s[2], { dir: "auto" }, show(s[1].trim() || "(white space)"))));
  list.append(...rows);
  const response = h("section.card", null, h("h2", null, "Response"),
    h("p.note", null, "Select a statement to see what it rests on."), rows.length ? list : h("div.pre", { dir: "auto" }, c.response.map((p) => show(p[0]))));
  out.append(h("div.two", null, response, sources));

  return {
    node: out, rows, total: c.statements.length,
    order: c.statements.map((s, i) => [s, i]).filter(([s]) => !["memory", "derived", "parametric"].includes(s[2])).map(([, i]) => i),
    select(i) {
      let top = null;
      const most = i === null ? 1 : scale(i);
      spans.forEach((node, k) => {
        node.className = "span";
        if (i === null || !method) return;
        const row = c.effects[method].rows[i][k], ok = row && row[0] !== null && row[4] !== "insufficient";
        tint(node, ok ? row[0] : null, most);
        if (ok && row[0] > 0 && (top === null || row[0] > top[0])) top = [row[0], node];
        if (ok && row[1] !== null && (row[1] > 0 || row[2] < 0) && Math.abs(row[0]) > 0.1 * most) node.classList.add("fdr");
        node.title = `span ${k}: ` + (ok ? `${signed(row[0])} nats, ${interval(row[1], row[2])}` : "not measured");
      });
      if (top) sources.scrollTop += top[1].getBoundingClientRect().top - sources.getBoundingClientRect().top - sources.clientHeight / 3;
    },
    detail: (i) => statementDetail(trace, method, i, scale(i)),
    text: (i) => c.statements[i][1],
  };
}

function swatchOf(kind) {
  const node = h("span.sw." + kind);
  if (kind === "pos" || kind === "neg") node.style.setProperty("--t", "100%");
  return node;
}

function statementDetail(trace, method, i, scale) {
  const c = trace.context, [target, text, label, full, empty, alone, parametric, ablations] = c.statements[i];
  const out = [h("p.chips", null, h("span.chip.l-" + label, null, label), h("span.dim", null, LABELS[label] || "")),
    h("blockquote", { dir: "auto" }, show(text.trim())),
    facts([["log p with the context", full === null ? "not measured" : fixed(full) + " nats"],
      ["log p without it", empty === null ? "not measured" : fixed(empty) + " nats"],
      ["alone, after its first token", alone !== null ? fixed(alone) + " nats, with neither the context nor the rest of the response" : label === "parametric" ? "not measured" : null],
      ["share that needs no context", parametric === null ? "not measured" : `${fixed(parametric)} (probability without over with, at most 1)`],
      ["ablations", count(ablations)], ["target", h("code", null, show(target))]])];
  if (!method) return [...out, h("p.note", null, "No effects of spans were measured.")];
  const entry = c.effects[method], test = entry.tests[i];
  const rows = entry.rows[i].map((row, k) => [row, k]);
  const known = rows.filter(([row]) => row && row[0] !== null).sort((a, b) => b[0][0] - a[0][0]);
  out.push(h("h3", null, "Spans it rests on"), h("p.note", null, `Effect of keeping the span on log p, nats; ${percent(entry.level)} intervals; ${method}. ` +
    (test && test[0] !== null ? `${plural(test[0], "span")} with an interval above 0.` : "")));
  const line = ([row, k]) => h("div.measure", null, h("span.method", null, "span " + k), h("b." + sign(row[0]), null, signed(row[0])),
    h("span", null, interval(row[1], row[2])), whisker(row, scale), h("span.quote", { dir: "auto" }, show(spanText(c, k).trim(), 160),
      c.spans[k][0] ? h("span.dim", null, " · planted role: ", h("bdi", null, show(c.spans[k][0]))) : null));
  out.push(...known.slice(0, 8).map(line));
  if (known.length > 8) out.push(h("details", null, h("summary", null, `${known.length - 8} more spans`), known.slice(8).map(line)));
  const missing = rows.length - known.length;
  if (missing) out.push(h("p.missing.pad", null, `${plural(missing, "span")} not measured`));
  out.push(h("h3", null, "How faithful this is"), test ? facts([
    ["predicts fresh ablations (LDS)", fixed(test[1])], ["out of fold, biased low", fixed(test[2])],
    ["lost without the top span", test[3] === null ? "not measured" : fixed(test[3]) + " nats"]]) : h("p.note", null, "Not measured."));
  return out;
}

function spanText(c, k) {
  if (c.spans[k][3] !== null) return c.spans[k][3];
  for (const message of c.context) for (const [text, index] of message) if (index === k) return text;
  return "";
}
