/* Chapter 10: a query in the plane turns until exactly the wanted tokens rise above the gap. */
"use strict";

(() => {
  const { generator, real, symbol, slider, select, say, mount, svg, chart } = globalThis.JLWidgets;
  const { dot, shortestQuery } = globalThis.JLQueries;

  const [TOKENS, GAP] = [12, 3];
  const rng = generator(11);
  const keys = Array.from({ length: TOKENS }, () => Float64Array.of(rng.normal(), rng.normal()));

  const solve = (columns) => shortestQuery(keys, columns, columns.map(() => 0), GAP);

  // What can be asked for: corners and edges of the hull of the keys, and one token inside.
  const all = keys.map((_, j) => [j]);
  keys.forEach((_, i) => keys.forEach((_, j) => i < j && all.push([i, j])));
  const possible = all.filter((columns) => solve(columns) !== null);
  const inside = all.find(([j, other]) => other === undefined && solve([j]) === null);
  const some = (size) =>
    possible
      .filter((columns) => columns.length === size)
      .sort((a, b) => Math.hypot(...solve(a)) - Math.hypot(...solve(b)))
      .slice(0, 3);
  const wishes = [...some(2), ...some(1), inside];
  const name = (columns) =>
    columns === inside
      ? `token ${columns[0] + 1}, inside the others`
      : columns.length === 1
        ? `token ${columns[0] + 1}`
        : `tokens ${columns.map((j) => j + 1).join(" and ")}`;

  const element = (id) => document.getElementById(`tu-${id}`);
  const angle = ([x, y]) => (Math.atan2(y, x) * 180) / Math.PI;
  const turned = (from, by) => ((from + by + 540) % 360) - 180;

  /** The wish, its shortest query or null, and the query at the present angle, as long as that. */
  function read() {
    const columns = wishes[element("wish").value];
    const best = solve(columns);
    const first = keys[columns[0]];
    const goal = best ?? first.map((x) => (GAP * x) / dot(first, first));
    const turn = (Number(element("angle").value) * Math.PI) / 180;
    const length = Math.hypot(...goal);
    // At the slider's step next to the goal take the goal itself.
    const off = turned(Number(element("angle").value), -angle(goal));
    const query =
      Math.abs(off) <= 0.5 ? goal : Float64Array.of(length * Math.cos(turn), length * Math.sin(turn));
    const logits = keys.map((key) => dot(query, key));
    const wanted = columns.map((j) => logits[j]);
    const others = logits.filter((_, j) => !columns.includes(j));
    const gap = Math.min(...wanted) - Math.max(...others);
    const ratioError = Math.expm1(Math.max(...wanted) - Math.min(...wanted));
    return { columns, best, goal, query, logits, gap, ratioError };
  }

  function draw() {
    const { columns, best, query, logits, gap, ratioError } = read();
    const met = gap >= GAP * (1 - 1e-9) && ratioError < 1e-9;
    say("tu-angle", `${element("angle").value}°`);
    element("gap").textContent = gap < 0 ? `−${real(-gap)}` : real(gap);
    element("ratio").textContent = ratioError < 1e-9 ? "0" : real(ratioError);
    element("length").textContent = real(Math.hypot(...query));
    const verdict = element("verdict");
    verdict.className = `ex-verdict ${met ? "ex-good" : "ex-bad"}`;
    verdict.innerHTML = met
      ? "<b>There.</b> The wanted tokens are level, and no other is above the dashed line."
      : best === null
        ? "<b>No angle does:</b> the token is inside the hull of the others, one of them is always higher."
        : "<b>Not yet.</b> Turn until the wanted tokens are level and all others below the dashed line.";
    drawPlane(columns, query, logits);
    drawBars(columns, logits);
  }

  const kind = (columns, logits, j) =>
    columns.includes(j)
      ? "ex-on"
      : logits[j] > Math.min(...columns.map((c) => logits[c])) - GAP * (1 - 1e-9)
        ? "ex-off"
        : "ex-rest";

  function drawPlane(columns, query, logits) {
    const box = element("plane");
    const size = Math.max(Math.min(box.clientWidth, 320), 140);
    const reach = 1.15 * Math.max(...keys.map((key) => Math.hypot(...key)));
    const at = ([x, y]) => [(size * (1 + x / reach)) / 2, (size * (1 - y / reach)) / 2];
    const length = Math.hypot(...query);
    const unit = Array.from(query, (x) => x / length);
    /** The line of the keys whose logit is `level`. */
    const line = (level, style) => {
      const foot = unit.map((x) => (x * level) / length);
      const [a, b] = [-3 * reach, 3 * reach].map((t) =>
        at([foot[0] - t * unit[1], foot[1] + t * unit[0]]),
      );
      return svg("line", { class: style, x1: a[0], y1: a[1], x2: b[0], y2: b[1] });
    };
    const weakest = Math.min(...columns.map((j) => logits[j]));
    const [from, to] = [at([0, 0]), at(unit.map((x) => 0.6 * reach * x))];
    const parts = [
      line(weakest, "ex-level"),
      line(weakest - GAP, "ex-here"),
      svg("line", { class: "ex-arrow", x1: from[0], y1: from[1], x2: to[0], y2: to[1] }),
      svg("circle", { class: "ex-arrow", cx: to[0], cy: to[1], r: 4 }),
      ...keys.map((key, j) => {
        const [cx, cy] = at(key);
        return (
          svg("circle", { class: kind(columns, logits, j), cx, cy, r: 5 }) +
          svg("text", { x: cx + (cx > size - 25 ? -20 : 7), y: cy - 5 }, j + 1)
        );
      }),
    ];
    box.innerHTML = svg(
      "svg",
      {
        width: size, height: size, viewBox: `0 0 ${size} ${size}`, role: "img",
        "aria-label": "Keys in the plane, the query, and the line that the wanted tokens lie on",
      },
      parts.join(""),
    );
  }

  function drawBars(columns, logits) {
    const x = { low: 0, high: TOKENS + 1, label: "token" };
    const label = `Logits of ${TOKENS} tokens; wanted: ${name(columns)}`;
    const weakest = Math.min(...columns.map((j) => logits[j]));
    const y = { low: Math.min(...logits, weakest - GAP) - 0.5, high: Math.max(...logits, 0) + 0.5 };
    chart(element("bars"), { x, y, label, ratio: 0.9 }, (at) => [
      ...logits.map((value, j) =>
        svg("rect", {
          class: kind(columns, logits, j),
          x: at.x(j + 1) - 5,
          width: 10,
          y: Math.min(at.y(value), at.y(0)),
          height: Math.abs(at.y(value) - at.y(0)),
        }),
      ),
      at.line([[0, weakest - GAP], [TOKENS + 1, weakest - GAP]], "ex-here"),
    ]);
  }

  let turning = 0; // the latest turn, which alone goes on

  /** Turn to the shortest query, by two degrees at each frame. */
  function turn() {
    const run = ++turning;
    const goal = angle(read().goal);
    const input = element("angle");
    const atOnce = matchMedia("(prefers-reduced-motion: reduce)").matches;
    function step() {
      if (run !== turning) return;
      const now = Number(input.value);
      const rest = turned(goal, -now);
      const last = atOnce || Math.abs(rest) < 2;
      input.value = Math.round(last ? goal : turned(now, 2 * Math.sign(rest)));
      draw();
      if (!last) requestAnimationFrame(step);
    }
    step();
  }

  mount(
    "turning",
    `<div class="ex-controls in-two">
      ${select("tu-wish", "Wanted", Object.fromEntries(wishes.map((wish, i) => [i, name(wish)])))}
      ${slider("tu-angle", "Angle of the query", -180, 180, -170)}
    </div>
    <p class="ex-buttons"><button type="button" id="tu-turn">Turn to the shortest query</button></p>
    <p class="ex-verdict" id="tu-verdict" role="status" aria-live="polite"></p>
    <div class="in-pair in-stack"><div id="tu-plane"></div><div id="tu-bars"></div></div>
    <div class="ex-readings">
      <div class="ex-reading">gap (asked: ${GAP}) <b id="tu-gap"></b></div>
      <div class="ex-reading">ratio error <b id="tu-ratio"></b></div>
      <div class="ex-reading">length of the query <b id="tu-length"></b></div>
    </div>
    <p class="ex-note">${TOKENS} keys in the plane, ${symbol("m")} = 2. Blue line: where the weakest wanted token lies; dashed:
      the gap below it. The query is as long as the shortest one that does.</p>`,
    draw,
  );
  element("turn").addEventListener("click", turn);
  for (const id of ["angle", "wish"]) element(id).addEventListener("input", () => turning++);
  globalThis.JLTurning = { read, solve, keys: keys.map((key) => Array.from(key)), wishes, GAP };
})();
