// One sentence: how sure, what else was written there, and where that led.

function sentenceDetail(trace, method, i, pick) {
  const r = trace.reasoning, [text, category, role, tokens, started, spent] = r.sentences[i];
  const out = [];
  out.push(h("p.chips", null,
    h("span.cat.c-" + category, { title: data.categories[category] }, h("span", null, category)),
    role ? h("span.chip", null, "planted role: ", h("bdi", null, show(role))) : null,
    h("span.dim", null, `${plural(tokens, "token")}`)));
  out.push(h("blockquote", { dir: "auto" }, show(text.trim())));

  const names = data.methods.filter((m) => effect(r, m, i));
  out.push(h("h3", null, "Effect on the " + rewardWord(trace)));
  if (!names.length) out.push(h("p.note", null, "Not measured."));
  else {
    const scale = Math.max(0.2, ...names.map((m) => effect(r, m, i)).filter(measured)
      .flatMap((row) => [row[V], row[LO], row[HI]].filter((x) => x !== null).map(Math.abs)));
    for (const m of names) out.push(effectLine(r, m, i, scale, m === method));
  }
  out.push(...valuesBeside(r, method, i), ...answersAround(r, i), ...otherMeasures(r, i), ...alternativesAt(r, i),
    ...linksOf(r, i, pick));
  out.push(h("h3", null, "Cost"), h("p", null, started === null
    ? "No rollouts were started before this sentence."
    : `${plural(started, "rollout")} started before this sentence, ${plural(spent, "generated token")}.`));
  return out;
}

function effectLine(r, m, i, scale, chosen) {
  const row = effect(r, m, i), ok = measured(row), level = r.methods[m].level;
  const more = [`n = ${count(row[N])}`];
  if (row[P] !== null) more.push(`p ${pvalue(row[P])}`);
  if (row[PADJ] !== null) more.push(`p adjusted ${pvalue(row[PADJ])}`);
  if (row[MATTERS] !== null) more.push(`P(matters) ${chance(row[MATTERS])}`);
  if (row[DECISIVE] !== null) more.push(`P(decisive) ${chance(row[DECISIVE])}`);
  if (row[STATUS] === "certified") more.push("certified: so often written that its effect is bounded");
  const value = ok ? h("b." + sign(row[V]), null, signed(row[V])) : h("span.missing.pad", null, row[STATUS] === "failed" ? "failed" : "not measured");
  return h("div.measure" + (chosen ? ".chosen" : ""), null,
    h("span.method", null, m), value,
    h("span", null, ok ? `${percent(level)}: ${interval(row[LO], row[HI])}` : "too few observations"),
    whisker(ok ? row : null, scale), h("span.dim", null, more.join(" · ")));
}

function valuesBeside(r, method, i) {
  const curves = r.curves || {};
  const name = curves[method] ? method : curves["resample-pooled"] ? "resample-pooled" : Object.keys(curves)[0];
  if (!name) return [];
  const [a, b] = [curves[name].rows[i], curves[name].rows[i + 1]];
  const say = (row) => row && row[0] !== null ? `${fixed(row[0])} (${interval(row[1], row[2], fixed)}, n = ${count(row[3])})` : "not measured";
  const out = [facts([["value before", say(a)], ["value after", say(b)]])];
  const row = effect(r, method, i);
  if (!row || !a || !b || a[3] === null || b[3] === null) return out;
  const sum = a[3] + b[3];
  return [...out, h("p.note", null, row[N] === sum ? `n of the effect counts rollouts from before the sentence and from after it: ${count(a[3])} + ${count(b[3])} = ${count(sum)}.`
    : `n of the effect (${count(row[N])}, ${method}) is not ${count(a[3])} + ${count(b[3])}: the values (${name}) count all graded rollouts at their boundary, the effect those that its method compares.`)];
}

function answersAround(r, i) {
  const a = r.answers;
  if (!a || (!a.at[i].length && !a.at[i + 1].length)) return [h("h3", null, "Answers before and after"), h("p.note", null, "Not measured.")];
  const sum = (rows) => rows.reduce((s, [, n]) => s + n, 0);
  const before = sum(a.at[i]), after = sum(a.at[i + 1]);
  const lookup = (rows) => new Map(rows);
  const [x, y] = [lookup(a.at[i]), lookup(a.at[i + 1])];
  const names = [...new Set([...x.keys(), ...y.keys()])]
    .sort((p, q) => (y.get(q) || 0) + (x.get(q) || 0) - (y.get(p) || 0) - (x.get(p) || 0)).slice(0, 10);
  const bar = (n, total, kind) => {
    if (!total) return h("span.bar.missing", null, "not measured");
    const inner = h("i." + kind);
    inner.style.width = 100 * (n || 0) / total + "%";
    return h("span.bar", null, inner, h("span", null, `${percent((n || 0) / total)} (${n || 0})`));
  };
  return [h("h3", null, "Answers before and after"),
    h("div.answers", null,
      h("span.dim", null, "answer"), h("span.dim", null, `before, n = ${count(before)}`), h("span.dim", null, `after, n = ${count(after)}`),
      names.map((k) => [
        h("span.answer", { dir: "auto" }, k < 0 ? "all others" : show(a.names[k], 120), k >= 0 && a.rewards[k] !== null ? h("span.dim", null, ` reward ${fixed(a.rewards[k], a.rewards[k] % 1 ? 2 : 0)}`) : null),
        bar(x.get(k), before, "before"), bar(y.get(k), after, "after")]).flat())];
}

const MEANING = {
  tv: "total variation of the answers before and after, from 0", js: "Jensen–Shannon distance of the answers before and after, nats, from 0",
  different_fraction: "share of rollouts that write something different here", entropy_before: "entropy of what is written here, nats",
  overdetermined: "share of repeated sentences among those written here", keep: "probability of writing exactly this sentence",
};

function otherMeasures(r, i) {
  const rows = (r.more || {})[i] || [];
  if (!rows.length) return [];
  return [h("details", null, h("summary", null, `Other measures (${rows.length})`),
    table(["measure", "method", "#value", "#interval", "#n"], rows.map(([m, metric, v, lo, hi, n, status, , padj, reason]) => [
      h("span", { title: MEANING[metric] || "" }, metric.replaceAll("_", " ")), m,
      v === null ? h("span.missing.pad", { title: reason || status }, "not measured") : fixed(v, 3),
      v === null ? "" : interval(lo, hi, (z) => fixed(z)) + (padj !== null ? `, p adj. ${pvalue(padj)}` : ""), count(n)]), "Other measures"),
    h("ul.note", null, [...new Set(rows.map((x) => x[1]))].filter((m) => MEANING[m]).map((m) => h("li", null, `${m.replaceAll("_", " ")}: ${MEANING[m]}`))))];
}

function alternativesAt(r, i) {
  const alt = (r.alternatives || {})[i], out = [h("h3", null, "Written instead")];
  if (!alt) return [...out, h("p.note", null, "No rollout that reached this sentence wrote anything else.")];
  const reached = r.answers ? r.answers.at[i].reduce((s, [, n]) => s + n, 0) : null;
  out.push(h("p.note", null, `${count(alt.n)}${reached && reached >= alt.n ? " of " + count(reached) : ""} rollouts left the trace here, with ${plural(alt.distinct, "different sentence")}.` + (reached !== null && reached < alt.n ? ` ${count(alt.n - reached)} of them could not be graded, so that fewer are counted above.` : "") +
    (alt.groups.length < alt.distinct ? ` The ${alt.groups.length} most frequent are shown.` : "") +
    (alt.rollouts.length < alt.n ? ` ${plural(alt.rollouts.length, "rollout")} can be read in this file; all are in the warehouse.` : "")));
  alt.groups.forEach(([text, n, reward, similarity, ends], g) => {
    const mine = alt.rollouts.filter((x) => x[0] === g);
    const head = h("summary", null, h("span.n", null, `${count(n)}×`),
      h("span.said", { dir: "auto" }, text === null ? h("i", null, "(nothing: it ended)") : show(text.trim(), 300)),
      h("span.led", null, h("span", null, `reward ${fixed(reward)}`),
        h("span.dim", null, " → ", ends.slice(0, 3).map(([answer, k], j) => [j ? ", " : "", h("bdi", null, show(answer, 40)), k < n ? ` (${k})` : ""]).flat(),
          similarity === null ? "" : ` · similarity ${fixed(similarity)}`)));
    out.push(h("details.alt", null, head, mine.length ? mine.map(rolloutOf) : h("p.note", null, "Its rollouts are in the warehouse only.")));
  });
  return out;
}

function rolloutOf([, answer, reward, finish, tokens, start, chars, text]) {
  return h("div.rollout", null,
    h("p.dim", null, `from before sentence ${start} · ${plural(tokens, "token")} · `, finish === "length" ? "cut at the token limit · " : "",
      "answer ", h("bdi", null, show(answer, 60)), ` · reward ${fixed(reward)}`, chars > text.length ? ` · shortened from ${count(chars)} characters` : ""),
    h("div.pre", { dir: "auto" }, show(text, 4000)));
}

function linksOf(r, i, pick) {
  const links = (r.links || []).filter((l) => l[2] === i || l[3] === i);
  if (!links.length) return [];
  const line = ([m, metric, from, to, v, lo, hi, n, padj]) => {
    const other = from === i ? to : from;
    return h("li", null, h("button.link", { type: "button", on: { click: () => pick(other) } }, `${from === i ? "→" : "←"} ${other}`),
      h("b." + sign(v), null, signed(v)), h("span.dim", null, ` ${interval(lo, hi)}, n = ${count(n)}, p adj. ${pvalue(padj)} · ${metric.replaceAll("_", " ")} `),
      h("span.quote", { dir: "auto" }, show(r.sentences[other][0].trim(), 90)));
  };
  const size = (a, b) => Math.abs(b[4]) - Math.abs(a[4]);
  const out = links.filter((l) => l[2] === i).sort(size).slice(0, 8), into = links.filter((l) => l[3] === i).sort(size).slice(0, 8);
  return [h("h3", null, "Links"), h("p.note", null, "Change in how often the later sentence, or one like it, is written; + makes it likelier."),
    h("ul.links", null, out.map(line), into.map(line))];
}
