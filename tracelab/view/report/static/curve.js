// The value curve: expected reward from every boundary, its band, and the decisive jump.

function curve(entry, options) {
  // entry: {level, rows: [[value, lo, hi, n, status] | null, ...]} over boundaries 0 .. N.
  // options: {label, dots: rows of another method, jump: {index, text}, set: Set of steps, pick,
  // sparse: whether boundaries without a row are none rather than not measured}
  const rows = entry.rows, last = Math.max(1, rows.length - 1);
  const box = h("div.curve");
  const read = h("p.read", { "aria-live": "off" });
  let selected = null;

  function draw() {
    const W = Math.max(260, box.clientWidth || 700), H = 168;
    const L = 34, R = 12, T = 22, B = 26;
    const x = (b) => L + (W - L - R) * b / last, y = (v) => T + (H - T - B) * (1 - v);
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img", "aria-label": options.label });
    for (const v of [0, 0.5, 1]) {
      picture.append(svg("line", { class: "grid", x1: L, x2: W - R, y1: y(v), y2: y(v) }),
        svg("text", { class: "tick", x: L - 6, y: y(v) + 4, "text-anchor": "end" }, v === 0.5 ? ".5" : String(v)));
    }
    const step = nice(last, Math.max(2, Math.floor((W - L - R) / 56)));
    for (let b = 0; b <= last; b += step) picture.append(svg("text", { class: "tick", x: x(b), y: H - 8, "text-anchor": "middle" }, String(b)));
    if (options.set && options.set.size) {
      for (const i of options.set) picture.append(svg("rect", { class: "credible", x: x(i), y: T, width: x(i + 1) - x(i), height: H - T - B }));
    }
    // Where nothing was measured: hatched, and neither a line nor a band through it.
    let run = [];
    const flush = () => {
      if (run.length) {
        const band = run.filter((b) => rows[b][1] !== null);
        if (band.length > 1) picture.append(svg("polygon", { class: "band", points: [
          ...band.map((b) => `${x(b)},${y(rows[b][2])}`), ...band.reverse().map((b) => `${x(b)},${y(rows[b][1])}`)].join(" ") }));
        picture.append(svg("polyline", { class: "line", points: run.map((b) => `${x(b)},${y(rows[b][0])}`).join(" ") }));
        if (run.length === 1 || options.sparse) for (const b of run) picture.append(svg("circle", { class: rows[b][4] === "recorded" ? "raw" : "point", cx: x(b), cy: y(rows[b][0]), r: rows[b][4] === "recorded" ? 4 : 3 }));
      }
      run = [];
    };
    rows.forEach((row, b) => {
      if (row && row[0] !== null) { run.push(b); return; }
      if (!row && options.sparse) return; // no point by construction: the line goes on
      flush();
      picture.append(svg("rect", { class: "gap", x: Math.max(L, x(b - 0.5)), y: T, width: Math.min(x(b + 0.5), W - R) - Math.max(L, x(b - 0.5)), height: H - T - B }));
    });
    flush();
    if (options.dots && last <= 150) options.dots.forEach((row, b) => {
      if (row && row[0] !== null) picture.append(svg("circle", { class: "raw", cx: x(b), cy: y(row[0]), r: 2.2 }));
    });
    const jump = options.jump;
    let to = jump ? jump.index + 1 : 0;
    while (options.sparse && to < last && !rows[to]) to += 1;
    if (jump && rows[jump.index] && rows[to] && rows[jump.index][0] !== null && rows[to][0] !== null) {
      const i = jump.index, middle = (x(i) + x(to)) / 2, side = middle > W * 0.6 ? "end" : "start";
      picture.append(svg("rect", { class: "jump", x: x(i), y: T, width: Math.max(3, x(to) - x(i)), height: H - T - B }),
        svg("line", { class: "leap " + sign(rows[to][0] - rows[i][0]), x1: x(i), y1: y(rows[i][0]), x2: x(to), y2: y(rows[to][0]) }),
        svg("text", { class: "said", x: side === "end" ? x(to) : x(i), y: 14, "text-anchor": side }, jump.text));
    }
    const cursor = svg("line", { class: "cursor", y1: T, y2: H - B, x1: -9, x2: -9 });
    picture.append(cursor);
    box.replaceChildren(picture);
    const boundary = (event) => (event.clientX - picture.getBoundingClientRect().left - L) / (W - L - R) * last;
    picture.addEventListener("pointermove", (event) => tell(Math.max(0, Math.min(last, Math.round(boundary(event))))));
    picture.addEventListener("pointerleave", () => tell(null));
    picture.addEventListener("click", (event) => options.pick(Math.max(0, Math.min(last - 1, Math.floor(boundary(event))))));
    box.select = (i) => {
      selected = i;
      const at = i === null ? -9 : (x(i) + x(i + 1)) / 2;
      cursor.setAttribute("x1", at); cursor.setAttribute("x2", at);
    };
    box.select(selected);
  }
  function tell(b) {
    if (b === null) { read.textContent = options.foot; return; }
    const row = rows[b];
    if (row && row[4] === "recorded") { read.textContent = `the end: the recorded run ended at ${fixed(row[0])}`; return; }
    read.textContent = row && row[0] !== null
      ? `before ${options.unit} ${b}${b === last ? " (the end)" : ""}: ${fixed(row[0])}, ${interval(row[1], row[2], fixed)}, n = ${count(row[3])}`
      : `before ${options.unit} ${b}: ${!row && options.sparse ? "no model’s step, so no point of its own" : "not measured"}`;
  }
  // Drawn anew whenever its place becomes wider or narrower.
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth && box.clientWidth !== width) { width = box.clientWidth; draw(); }
  }).observe(box);
  box.select = (i) => { selected = i; };
  tell(null);
  return [box, read];
}

function nice(last, most) {
  for (const unit of [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 5000]) if (last / unit <= most) return unit;
  return 10000;
}
