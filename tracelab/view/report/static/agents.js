// A run of agents: the timeline, V_t, and what the audits concluded at which level of evidence.

const EVIDENCE = {
  executed: "steps were taken again in a real environment", replayed: "recorded tool results were replayed",
  scored: "log-probabilities only, nothing was run", judged: "a model’s opinion, nothing was measured",
};

function agentView(trace, pick) {
  const a = trace.agent, out = h("div.agents");
  const verdicts = a.verdicts || [];
  const first = verdicts[0] || null;
  const set = new Set(first && Array.isArray(first.credible_set) ? first.credible_set : []);
  if (!verdicts.length) out.append(h("p.note", null, "No audit of this trace has concluded anything yet."));
  for (const v of verdicts) out.append(verdictCard(a, v, pick));

  const name = Object.keys(a.curves)[0];
  let plot = null;
  if (name) {
    const at = first && first.decisive_step !== null ? first.decisive_step : null;
    const parts = curve(a.curves[name], {
      label: `Value curve of ${a.steps.length} steps: probability of success before every step`, unit: "step", set, pick, dots: null,
      jump: at === null ? null : { index: at, text: `decisive: step ${at}` },
      foot: `V: probability of success given the trajectory so far; band ${percent(a.curves[name].level)} (${name}).` + (set.size ? " Shaded: credible set." : ""),
    });
    plot = parts[0];
    out.append(h("section.card", null, h("h2", null, "Probability of success before every step"), ...parts));
  } else out.append(h("p.note", null, "Probability of success before every step: not measured."));

  const speakers = [...new Set(a.steps.map((s) => s[0]))];
  const list = h("div.timeline", { role: "listbox", "aria-label": "Steps", tabindex: "-1" });
  const rows = a.steps.map(([who, text, kind, tool, flags], i) => {
    const score = stepScore(a, i), ok = score && score[3] !== null;
    const body = h("span.text", { dir: "auto" }, show(text.trim() || "(nothing)", 600));
    if (score) tint(body, ok ? score[3] : null, 1);
    const tags = [];
    for (const v of verdicts) {
      if (v.decisive_step === i) tags.push(h("span.chip.bad", null, "decisive"));
      else if (v.runner_up === i) tags.push(h("span.chip", null, "runner-up"));
      if (v.correctable_step === i) tags.push(h("span.chip.good", null, "correctable"));
    }
    if (a.label && a.label[0] === i) tags.push(h("span.chip", { title: a.label[2] }, "annotated"));
    return h("div.row.step" + (set.has(i) ? ".credible" : ""), { role: "option", id: "s" + i, "aria-selected": "false", tabindex: "-1",
      on: { click: () => { if (!String(getSelection())) pick(i); } } },
      h("span.index", null, String(i)), h("span.who.w" + speakers.indexOf(who) % 6, null, h("bdi", null, show(who || kind || "step", 40)),
        tool ? h("span.dim", null, show(tool, 30)) : null, flags.map((f) => h("span.chip", null, show(String(f).replaceAll("_", " "), 30))), tags),
      body, h("span.effect", null, score ? h(ok ? "b" : "span.dim", null, ok ? signed(score[3]) : "n/m") : null, score ? whisker(ok ? score.slice(3) : null, 1) : null));
  });
  list.append(...rows);
  out.append(h("p.note", null, `Effect of a step: probability of success after it minus before it; ${MINUS} lowered it, + raised it.`), list);
  return {
    node: out, rows, total: a.steps.length, order: verdicts.flatMap((v) => [v.decisive_step, v.runner_up, v.correctable_step]).filter((x) => x !== null),
    select(i) { if (plot && plot.select) plot.select(i); },
    detail: (i) => stepDetail(a, i), text: (i) => a.steps[i][0] + " " + a.steps[i][1],
  };
}

const stepScore = (a, i) => (a.scores[i] || []).find((s) => s[1] === "delta_value") || null;

function verdictCard(a, v, pick) {
  const step = (i) => i === null || i === undefined ? "none named"
    : h("span", null, h("button.link", { type: "button", on: { click: () => pick(i) } }, "step " + i), a.steps[i] ? [" by ", h("bdi", null, show(a.steps[i][0], 40))] : null);
  const set = Array.isArray(v.credible_set) && v.credible_set.length ? v.credible_set.flatMap((i, k) => [k ? ", " : "", step(i)]) : "not measured";
  return h("section.card.verdict", null,
    h("h2", null, `Verdict: ${v.status} `, h("span.chip.e-" + v.evidence, { title: EVIDENCE[v.evidence] }, v.evidence), " ", h("span.dim", null, v.method)),
    h("p.note", null, `Evidence: ${EVIDENCE[v.evidence] || v.evidence}.`),
    facts([["decisive step", step(v.decisive_step)], ["agent", v.agent === null ? "none named" : h("bdi", null, show(v.agent, 60))],
      ["tool", v.tool === null ? null : h("bdi", null, show(v.tool, 60))], ["whose failure", v.who === null ? null : show(v.who, 60)],
      ["why", v.reason === null ? null : show(v.reason, 600)], ["as annotated", a.label ? h("span", null, step(a.label[0]), a.label[2] ? [": ", h("bdi", null, show(a.label[2], 300))] : null) : null],
      ["probability", v.posterior === null ? "not measured" : fixed(v.posterior)], ["credible set (90\u00a0%)", h("span", null, set)],
      ["runner-up", step(v.runner_up)], ["earliest correctable", step(v.correctable_step)],
      ["correction that fixed it", v.counterfactual === null ? "none was found" : h("div.pre", { dir: "auto" }, show(v.counterfactual, 1500))],
      ["spent", `${v.rollouts === null ? "" : plural(v.rollouts, "re-execution") + ", "}${plural(v.tokens, "token")}`]]),
    v.extra && Object.keys(v.extra).length ? h("details", null, h("summary", null, "Evidence and everything else it reports"),
      h("div.pre", { dir: "ltr" }, show(JSON.stringify(v.extra, null, 2), 6000))) : null);
}

function stepDetail(a, i) {
  const [who, text, kind, tool] = a.steps[i], scores = a.scores[i] || [];
  const out = [h("p.chips", null, h("span.chip", null, h("bdi", null, show(who || "step", 60))), kind ? h("span.chip", null, show(kind, 60)) : null, tool ? h("span.chip", null, h("bdi", null, show(tool, 60))) : null),
    h("div.pre", { dir: "auto" }, show(text.trim(), 8000)), h("h3", null, "Measures")];
  if (!scores.length) return [...out, h("p.note", null, "Not measured.")];
  return [...out, table(["measure", "method", "#value", "#interval", "#n", "evidence"], scores.map(([m, metric, evidence, v, lo, hi, n]) => [
    metric.replaceAll("_", " "), m, v === null ? h("span.missing.pad", null, "not measured") : metric === "delta_value" ? signed(v) : fixed(v), v === null ? "" : interval(lo, hi), count(n),
    h("span.chip.e-" + evidence, null, evidence)]), "Measures of the step")];
}
