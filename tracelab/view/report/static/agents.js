// A run of agents: what the audits concluded, V_t, and the steps with their calls and results.

// What nothing was measured for, and how a step is marked that it names.
const unmeasured = (evidence) => ({ judged: "named by an opinion", rule: "named by a rule" }[evidence] || "");

function agentView(trace, pick) {
  const a = trace.agent, out = h("div.agents");
  const verdicts = a.verdicts || [];
  const first = verdicts.find((v) => !unmeasured(v.evidence)) || null;
  const set = new Set(first && Array.isArray(first.credible_set) ? first.credible_set : []);
  if (!verdicts.length) out.append(h("p.note", null, "No audit of this trace has concluded anything yet."));
  for (const v of verdicts) out.append(verdictCard(a, v, pick));

  const name = Object.keys(a.curves)[0];
  let plot = null;
  if (name) {
    const at = first && first.decisive_step !== null ? first.decisive_step : null;
    const entry = { ...a.curves[name], rows: [...a.curves[name].rows] }, last = entry.rows.length - 1;
    const points = entry.rows.filter((r) => r !== null).length;
    // How the recorded run ended is known, not estimated.
    if (entry.rows[last] === null && trace.success !== null) entry.rows[last] = [Number(trace.success), null, null, null, "recorded"];
    const parts = curve(entry, {
      label: `Value curve of ${a.steps.length} steps: probability of success before every step of a model`, unit: "step", set, pick, dots: null, sparse: true,
      jump: at === null ? null : { index: at, text: `decisive: step ${at}` },
      foot: `V: probability of success when the run is executed again from before a step; band ${percent(a.curves[name].level)} (${name}).` +
        ` ${plural(points, "point")}: there is one before each step that a model took` + (entry.rows[last] && entry.rows[last][4] === "recorded" ? "; the ring at the end is how the recorded run ended." : ".") + (set.size ? " Shaded: credible set." : ""),
    });
    plot = parts[0];
    out.append(h("section.card", null, h("h2", null, "Probability of success before every step"), ...parts));
  } else out.append(h("p.note", null, "Probability of success before every step: not measured."));

  const speakers = [...new Set(a.steps.map((s) => s.who))];
  const list = h("div.timeline", { role: "grid", "aria-label": "Steps", tabindex: "-1" });
  const rows = a.steps.map((s, i) => {
    const score = stepScore(a, i), ok = score && score[3] !== null;
    const body = h("div.says", { role: "gridcell" }, stepBody(s, 600));
    if (score) tint(body, ok ? score[3] : null, 1);
    const tags = [];
    for (const v of verdicts) {
      const say = (word, kind) => tags.push(h("span.chip." + (unmeasured(v.evidence) ? "e-" + v.evidence : kind), { title: v.method }, unmeasured(v.evidence) || `${word} (${v.evidence})`));
      if (v.decisive_step === i) say("decisive", "bad");
      else if (v.runner_up === i) say("runner-up", "plain");
      if (!unmeasured(v.evidence) && v.correctable_step === i) say("correctable", "good");
    }
    if (a.label && a.label[0] === i) tags.push(h("span.chip", { title: a.label[2] }, "annotated"));
    const who = s.who || KINDS[s.kind] || s.kind;
    return h("div.row.step" + (set.has(i) ? ".credible" : ""), { role: "row", id: "s" + i, "aria-selected": "false", tabindex: "-1",
      on: { click: (e) => { if (!String(getSelection()) && !e.target.closest("summary")) pick(i); } } },
      h("span.index", { role: "rowheader" }, String(i)),
      h("span.who.w" + speakers.indexOf(s.who) % 6, { role: "gridcell" }, h("bdi", null, show(who, 40)),
        s.kind === "tool" ? h("span.dim", null, "tool ", h("bdi", null, show(s.tool || "(unnamed)", 30))) : null,
        s.flags.map((f) => h("span.chip", { title: FLAGS[f] || "" }, show(String(f).replaceAll("_", " "), 30))), tags),
      h("span.effect", { role: "gridcell" }, score ? h(ok ? "b." + sign(score[3]) : "span.dim", null, ok ? signed(score[3]) : "n/m") : null, score ? whisker(ok ? score.slice(3) : null, 1) : null),
      body);
  });
  list.append(...rows);
  const scored = a.steps.some((_, i) => stepScore(a, i));
  out.append(h("h2", null, "Steps"), scored ? h("p.note", null, `Effect of a step, beside it: probability of success after it minus before it; ${MINUS} lowered it, + raised it. n/m: not measured, never 0. Steps of tools have none: their part belongs to the step that called.`) : null, list);
  return {
    node: out, rows, total: a.steps.length,
    order: [...new Set(verdicts.flatMap((v) => [v.decisive_step, v.runner_up, v.correctable_step]).filter((x) => x !== null && x !== undefined))],
    select(i) { if (plot && plot.select) plot.select(i); },
    detail: (i) => stepDetail(a, i, pick), text: (i) => stepText(a.steps[i]),
  };
}

const KINDS = { llm: "model", tool: "tool", user: "user", system: "system" };
const FLAGS = {
  missing_result: "the log has no result of this call", orphan_result: "a result of no call in the log", duplicate_id: "another call has the same id",
  invalid_arguments: "the arguments are not JSON", binary: "holds binary data", non_text: "holds parts that are no text", no_content: "says nothing",
  missing_parent: "the step that led to it is not in the log", coordinator: "hands work to others", copied_context: "repeats what was given", error: "the log calls it an error",
};
const stepScore = (a, i) => (a.scores[i] || []).find((s) => s[1] === "delta_value" && !unmeasured(s[2])) || null;
const stepText = (s) => [s.who || "", s.tool || "", s.text, ...(s.calls || []).flatMap((c) => [c[0] || "", c[1] || ""]), s.arguments || "", s.result ? s.result[0] || "" : ""].join(" ");

// What a step says, the calls it asks for, and what a tool answered: each by itself, whole.
function stepBody(s, clip, pick) {
  const out = [], calls = s.calls || [];
  if (s.text.trim()) out.push(h("div.text.pre", { dir: "auto" }, show(s.text.trim(), clip)));
  for (const [tool, args, bad, at] of calls) {
    out.push(h("div.call", null, h("p.call-head", null, h("span.chip", null, "call"), " ", h("b", null, h("bdi", null, show(tool || "(unnamed tool)", 80))), " ",
      at === null ? h("span.dim", null, "no result in the log") : pick ? h("button.link", { type: "button", on: { click: () => pick(at) } }, `result: step ${at}`) : h("span.dim", null, `result: step ${at}`)),
      args === null ? h("p.note", null, "Its arguments are not recorded.") : block(args, "arguments", clip),
      bad ? h("p.note.warn", null, show(bad, 200)) : null));
  }
  if (s.result) {
    const [text, failed] = s.result;
    if (s.arguments !== null && s.arguments !== undefined) out.push(block(s.arguments, "called with", clip));
    out.push(h("div.result" + (failed ? ".failed" : ""), null, h("p.call-head", null, h("span.chip" + (failed ? ".bad" : ""), null, failed ? "result: error" : "result")),
      text === null ? h("p.note", null, "No result was recorded.") : text === "" ? h("p.note", null, "An empty result.") : block(text, "", clip)));
  }
  if (!out.length) out.push(h("div.text.dim", null, "(nothing)"));
  return out;
}

// A text exactly as it is; a long one opens.
function block(text, label, clip) {
  const body = h("div.pre.code", { dir: "auto" }, show(text, Math.max(clip * 20, 20000)));
  const lines = text.split("\n").length;
  if (text.length <= clip && lines <= 14) return h("div", null, label ? h("span.dim.small", null, label) : null, body);
  const start = text.slice(0, 160).split("\n").slice(0, 2).join("\n");
  return h("details.long", null, h("summary", null, `${label || "text"}, ${count(text.length)} characters `, h("span.peek", { dir: "auto" }, show(start, 160), "…")), body);
}

function verdictCard(a, v, pick) {
  const opinion = Boolean(unmeasured(v.evidence));
  const step = (i) => i === null || i === undefined ? "none named"
    : h("span", null, h("button.link", { type: "button", on: { click: () => pick(i) } }, "step " + i), a.steps[i] && a.steps[i].who ? [" by ", h("bdi", null, show(a.steps[i].who, 40))] : null);
  const set = Array.isArray(v.credible_set) && v.credible_set.length ? v.credible_set.flatMap((i, k) => [k ? ", " : "", step(i)]) : "none";
  const rest = Object.entries(v.extra || {});
  return h("section.card.verdict", null,
    h("h2", null, opinion ? (v.evidence === "rule" ? "Rule" : "Opinion") : `Verdict: ${v.status}`, " ", h("span.chip.e-" + v.evidence, null, v.evidence), " ", h("span.dim", null, v.method)),
    h("p.note", null, opinion ? "" : `${data.statuses[v.status] ? data.statuses[v.status][0].toUpperCase() + data.statuses[v.status].slice(1) + ". " : ""}`, `Evidence: ${data.evidence[v.evidence] || v.evidence}.`),
    facts([[opinion ? "names step" : "decisive step", step(v.decisive_step)], ["agent", v.agent === null ? "none named" : h("bdi", null, show(v.agent, 60))],
      ["tool", v.tool === null ? null : h("bdi", null, show(v.tool, 60))], ["whose failure", v.who === null ? null : show(v.who, 60)],
      ["why", v.reason === null ? null : show(v.reason, 1200)],
      ["on record", v.recorded === null ? null : h("div.pre", { dir: "auto" }, show(v.recorded, 1500))],
      ["came instead", v.came_instead === null ? null : h("div.pre", { dir: "auto" }, show(v.came_instead, 1500))], ["as annotated", a.label ? h("span", null, step(a.label[0]), a.label[2] ? [": ", h("bdi", null, show(a.label[2], 300))] : null) : null],
      ...(opinion ? [] : [["probability", v.posterior === null ? "not measured" : `${chance(v.posterior).replace("= ", "")} that this step decided it`],
        ["credible set (90\u00a0%)", h("span", null, set)], ["runner-up", step(v.runner_up)], ["earliest correctable", step(v.correctable_step)],
        ["correction that fixed it", v.counterfactual === null ? "none was found" : h("div.pre", { dir: "auto" }, show(v.counterfactual, 1500))],
        ["spent", `${v.rollouts === null ? "" : plural(v.rollouts, "re-execution") + ", "}${plural(v.tokens, "token")}`]])]),
    rest.length ? h("details", null, h("summary", null, "Everything else it reports"),
      facts(rest.map(([key, value]) => [key.replaceAll("_", " "), value === null ? "none" : typeof value === "object"
        ? h("div.pre.code", { dir: "auto" }, show(JSON.stringify(value, null, 1), 6000)) : h("bdi", null, show(typeof value === "number" && !Number.isInteger(value) ? fixed(value) : value, 2000))]))) : null);
}

function stepDetail(a, i, pick) {
  const s = a.steps[i], scores = a.scores[i] || [];
  const out = [h("p.chips", null, h("span.chip", null, h("bdi", null, show(s.who || KINDS[s.kind] || "step", 60))), h("span.dim", null, KINDS[s.kind] || s.kind),
    s.tool && s.kind === "tool" ? h("span.dim", null, "tool ", h("bdi", null, show(s.tool, 60))) : null), ...stepBody(s, 8000, pick)];
  if (s.flags.length) out.push(h("ul.note", null, s.flags.map((f) => h("li", null, `${String(f).replaceAll("_", " ")}: ${FLAGS[f] || "as the log says"}`))));
  if (!scores.length) return [...out, h("h3", null, "Measures"), h("p.note", null, s.kind === "llm" ? "Not measured." : "Not measured: only steps that a model took are.")];
  for (const level of Object.keys(data.evidence)) {
    const mine = scores.filter((x) => x[2] === level);
    if (!mine.length) continue;
    out.push(h("h3", null, { judged: "Opinions ", rule: "Rules " }[level] || "Measures ", h("span.chip.e-" + level, null, level)),
      table(["measure", "method", "#value", "#interval", "#n"], mine.map(([m, metric, , v, lo, hi, n]) => [
        MEASURES[metric] || metric.replaceAll("_", " "), m, v === null ? h("span.missing.pad", null, "not measured") : metric === "delta_value" ? signed(v) : fixed(v), v === null ? "" : interval(lo, hi), count(n)]), "Measures of the step, " + level));
  }
  return out;
}

const MEASURES = { delta_value: "effect on the probability of success", p_decisive: "probability that it decided the failure", keep: "probability of writing exactly this step" };
