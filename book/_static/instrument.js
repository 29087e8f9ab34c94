/* The front page's instrument: one set of keys, a sparse pattern to choose or to paint, and the
 * attention computed with m dimensions. */
"use strict";

(() => {
  const { generator, real, percent, symbol, slider, select, say, mount, scales, colour, paint } =
    globalThis.JLWidgets;
  const { zeros, dot, transpose, orthogonalise, leastNormQuery, shortestQuery, softmax } =
    globalThis.JLQueries;

  const LENGTH = 32;
  const GAP = Math.log(1000); // log(1/eps2), and for interpolation tau is three times that
  const FORMED = 0.05; // total variation of a row that counts as formed

  const PATTERNS = {
    scattered: "scattered",
    window: "causal window",
    blocks: "blocks",
    lines: "lines and slashes",
    painted: "painted",
  };
  const METHODS = {
    max_margin: "max-margin, random codes",
    tight: "interpolation, tight frame",
    gaussian: "interpolation, random codes",
  };

  // --- What is asked, what is drawn, what comes out -----------------------------------------------

  /** The supports of a pattern: a sorted array of columns for each row. */
  function supports(pattern) {
    const rng = generator(5);
    const drawn = Array.from({ length: 3 }, () => rng.permutation(LENGTH));
    const columns = {
      scattered: (i) => drawn.map((order) => order[i]),
      window: (i) => [i - 2, i - 1, i],
      blocks: (i) => [0, 1, 2, 3].map((step) => 4 * Math.floor(i / 4) + step),
      lines: (i) => [3, 17, i, i - 9],
    }[pattern];
    return Array.from({ length: LENGTH }, (_, i) =>
      [...new Set(columns(i))].filter((j) => j >= 0).sort((a, b) => a - b),
    );
  }

  /** Two sets of L codes of R^L for one seed; with m dimensions the first m coordinates are used. */
  function drawCodes(seed) {
    const rng = generator(seed);
    const columns = zeros(LENGTH, LENGTH).map((column) => column.map(() => rng.normal()));
    const copies = columns.map((column) => column.slice());
    return { gaussian: transpose(columns), tight: transpose(orthogonalise(copies)) };
  }

  function compute() {
    const all = codes[state.method === "tight" ? "tight" : "gaussian"];
    const keys = all.map((code) => code.slice(0, state.m));
    const rows = target.map((columns) => {
      const query =
        state.method === "max_margin"
          ? shortestQuery(keys, columns, columns.map(() => 0), GAP)
          : columns.length > state.m
            ? null
            : leastNormQuery(columns.map((j) => keys[j]), columns.map(() => 3 * GAP));
      const used = query ?? new Float64Array(state.m); // no query: every token alike
      const attention = softmax(keys.map((key) => dot(used, key)));
      const distance = attention.reduce(
        (sum, weight, j) =>
          sum + Math.abs(weight - (columns.includes(j) ? 1 / columns.length : 0)) / 2,
        0,
      );
      return { query: used, found: query !== null, attention, distance };
    });
    return { keys, rows };
  }

  // --- The page -----------------------------------------------------------------------------------

  const state = { pattern: "lines", method: "max_margin", m: 20, seed: 1 };
  let codes = drawCodes(state.seed);
  let target = supports(state.pattern);
  let result = null;
  let cursor = [0, 0];

  const HTML = `
    <div class="ex-controls in-two">
      ${select("in-pattern", "Pattern", PATTERNS)}
      ${select("in-method", "Method", METHODS)}
    </div>
    <div class="ex-dim">${slider("in-m", `Query dimension ${symbol("m")}`, 1, LENGTH, state.m)}</div>
    <p class="ex-verdict" id="in-verdict" role="status" aria-live="polite"></p>
    <div class="in-pair">
      <figure><figcaption>asked: paint here</figcaption>
        <div class="in-paint"><canvas id="in-A" tabindex="0" role="application"
          aria-describedby="in-help"></canvas><i id="in-cursor"></i></div></figure>
      <figure><figcaption>attention computed</figcaption>
        <canvas id="in-M" role="img"></canvas></figure>
      <figure><figcaption>input [${symbol("X")}₁ | ${symbol("X")}₂]</figcaption>
        <div class="in-room"><canvas id="in-X" role="img"></canvas></div></figure>
      <div class="in-side">
        <div class="ex-reading">${symbol("m/L")} <b id="in-share"></b></div>
        <div class="ex-reading" id="in-tv">total variation, worst row <b></b></div>
        <p class="ex-buttons"><button type="button" id="in-keys">New keys</button>
          <button type="button" id="in-clear">Clear</button></p>
      </div>
    </div>
    <p class="ex-note" id="in-help">${LENGTH} tokens, equal weights, a leak of 0.001 asked for. Arrow keys move on
      the pattern, the space bar paints. Each row keeps at least one token. The dashed frame is the room
      that the input takes at ${symbol("m")} = ${symbol("L")}.</p>`;

  const element = (id) => document.getElementById(`in-${id}`);

  function draw() {
    result = compute();
    const { keys, rows } = result;
    const failed = rows.filter((row) => !(row.distance <= FORMED)).length;
    const lost = rows.filter((row) => !row.found).length;
    const worst = Math.max(...rows.map((row) => row.distance));
    say("in-m", `${state.m} of ${LENGTH}`);
    element("share").textContent = percent(state.m / LENGTH);
    element("tv").querySelector("b").textContent = worst < 1e-4 ? "< 0.0001" : real(worst);
    element("tv").className = `ex-reading ${failed ? "ex-bad" : "ex-good"}`;
    const verdict = element("verdict");
    verdict.className = `ex-verdict ${failed ? "ex-bad" : "ex-good"}`;
    verdict.innerHTML = failed
      ? `<b>Fails</b> in ${failed} of ${LENGTH} rows` +
        (lost ? `; for ${lost} of them these keys admit no query.` : ".")
      : "<b>Formed</b>: every row is within 0.05 of what is asked" +
        (state.m === LENGTH ? ", but m = L is free." : ".");
    element("pattern").value = state.pattern;
    drawMatrices(keys, rows);
  }

  function drawMatrices(keys, rows) {
    const { weight, less, more } = scales();
    const A = target.map((columns) =>
      Array.from({ length: LENGTH }, (_, j) => (columns.includes(j) ? 1 / columns.length : 0)),
    );
    const shade = (value) => colour(weight, 2 * value);
    paint(element("A"), A, shade, `Pattern, ${PATTERNS[state.pattern]}, to paint on`);
    const M = rows.map((row) => row.attention);
    paint(element("M"), M, shade, `Attention of ${LENGTH} by ${LENGTH} tokens`);
    const spread = Math.max(...rows.map(({ query }) => Math.hypot(...query))) / Math.sqrt(state.m);
    const X = rows.map(({ query }, i) => [...query.map((x) => x / (spread || 1)), ...keys[i]]);
    paint(
      element("X"),
      X.map((row) => row.map((x, t) => [x, t])),
      ([x, t]) =>
        t < state.m
          ? colour(x < 0 ? less : more, Math.abs(x) / 2)
          : Array(3).fill(128 + 48 * Math.max(-2, Math.min(x, 2))),
      `Input, ${2 * state.m} numbers a token: a query and a key`,
    );
    element("X").style.width = `${(100 * state.m) / LENGTH}%`;
    element("X").style.aspectRatio = `${2 * state.m} / ${LENGTH}`;
    Object.assign(element("cursor").style, {
      left: `${(100 * cursor[1]) / LENGTH}%`,
      top: `${(100 * cursor[0]) / LENGTH}%`,
    });
  }

  // --- Painting -------------------------------------------------------------------------------------

  /** Put a token into a row's support, or take it out; the last one stays. */
  function set([i, j], on) {
    if (!(i in target) || j < 0 || j >= LENGTH || target[i].includes(j) === on) return;
    if (!on && target[i].length === 1) return;
    target[i] = on ? [...target[i], j].sort((a, b) => a - b) : target[i].filter((x) => x !== j);
    state.pattern = "painted";
    refresh();
  }

  function listen() {
    const canvas = element("A");
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [
        Math.floor(((event.clientY - box.top) / box.height) * LENGTH),
        Math.floor(((event.clientX - box.left) / box.width) * LENGTH),
      ];
    };
    let brush = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const [i, j] = at(event);
      brush = !target[i]?.includes(j);
      set([i, j], brush);
    });
    canvas.addEventListener("pointermove", (event) => brush !== null && set(at(event), brush));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => (brush = null));
    }
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (event.key in move) {
        cursor = cursor.map((x, d) => Math.max(0, Math.min(x + move[event.key][d], LENGTH - 1)));
      } else if (event.key === " ") {
        set(cursor, !target[cursor[0]].includes(cursor[1]));
      } else {
        return;
      }
      event.preventDefault();
      refresh();
    });
    element("m").addEventListener("input", (event) => (state.m = Number(event.target.value)));
    element("method").addEventListener("input", (event) => (state.method = event.target.value));
    element("pattern").addEventListener("input", (event) => {
      state.pattern = event.target.value;
      if (state.pattern !== "painted") target = supports(state.pattern);
    });
    element("keys").addEventListener("click", () => {
      codes = drawCodes(++state.seed);
      refresh();
    });
    element("clear").addEventListener("click", () => {
      target = Array.from({ length: LENGTH }, (_, i) => [i]);
      state.pattern = "painted";
      refresh();
    });
  }

  const refresh = mount("instrument", HTML, draw);
  listen();
  globalThis.JLInstrument = { GAP, state: () => ({ ...state, target }), result: () => result };
})();
