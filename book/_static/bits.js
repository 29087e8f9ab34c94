/* Chapter 11: queries and keys rounded to p significant bits, and what is left of the attention. */
"use strict";

(() => {
  const {
    generator, real, symbol, slider, select, say, mount, svg, chart, scales, colour, paint,
  } = globalThis.JLWidgets;
  const { zeros, dot, transpose, orthogonalise, leastNormQuery, shortestQuery, softmax } =
    globalThis.JLQueries;

  const [LENGTH, DIM] = [32, 20];
  const GAP = Math.log(1000);
  const MOST = 24;
  const FORMATS = { 4: "an 8-bit float, E4M3", 8: "bfloat16", 11: "float16", 24: "float32" };
  const METHODS = { interpolate: "interpolation, tight frame", max_margin: "max-margin" };

  const rng = generator(8);
  const orders = [0, 1, 2].map(() => rng.permutation(LENGTH));
  const target = Array.from({ length: LENGTH }, (_, i) => [...new Set(orders.map((o) => o[i]))]);
  const columns = zeros(DIM, LENGTH).map((column) => column.map(() => rng.normal()));
  const keys = transpose(orthogonalise(columns));
  const queries = {
    interpolate: target.map((support) =>
      leastNormQuery(support.map((j) => keys[j]), support.map(() => 3 * GAP)),
    ),
    max_margin: target.map((support) => shortestQuery(keys, support, support.map(() => 0), GAP)),
  };

  /** Round a number to p significant bits, ties to even. */
  function round(x, bits) {
    if (x === 0) return 0;
    const unit = 2 ** (Math.floor(Math.log2(Math.abs(x))) + 1 - bits);
    const scaled = x / unit;
    const tie = Math.abs(scaled - Math.trunc(scaled)) === 0.5;
    return unit * (tie ? 2 * Math.round(scaled / 2) : Math.round(scaled));
  }

  /** The rounded attention: its rows, and the largest ratio error, leak and total variation. */
  function measure(method, bits) {
    const Q = queries[method].map((query) => query.map((x) => round(x, bits)));
    const K = keys.map((key) => key.map((x) => round(x, bits)));
    const rows = target.map((support, i) => {
      const wanted = (j) => (support.includes(j) ? 1 / support.length : 0);
      const logits = K.map((key) => dot(Q[i], key));
      const on = support.map((j) => logits[j]);
      const attention = softmax(logits);
      return {
        attention,
        ratioError: Math.expm1(Math.max(...on) - Math.min(...on)),
        leak: Math.exp(Math.max(...logits.filter((_, j) => !support.includes(j))) - Math.min(...on)),
        distance: attention.reduce(
          (sum, weight, j) => sum + Math.abs(weight - wanted(j)) / 2,
          0,
        ),
      };
    });
    const worst = (name) => Math.max(...rows.map((row) => row[name]));
    const [ratioError, leak, distance] = ["ratioError", "leak", "distance"].map(worst);
    return { Q, K, rows, ratioError, leak, distance };
  }

  const element = (id) => document.getElementById(`bi-${id}`);

  function read() {
    const [method, bits] = [element("method").value, Number(element("bits").value)];
    return { method, bits, ...measure(method, bits) };
  }

  function draw() {
    const { method, bits, rows, ratioError, leak, distance } = read();
    say("bi-bits", FORMATS[bits] ? `${bits}: ${FORMATS[bits]}` : String(bits));
    for (const [id, value] of Object.entries({ ratio: ratioError, leak, tv: distance })) {
      element(id).textContent = real(value);
    }
    const { weight } = scales();
    paint(
      element("M"),
      rows.map((row) => row.attention),
      (value) => colour(weight, 2 * value),
      `Attention of ${LENGTH} tokens from numbers of ${bits} bits`,
    );
    const curve = Array.from({ length: MOST - 1 }, (_, i) => [
      i + 2,
      measure(method, i + 2).ratioError,
    ]);
    const x = { low: 0, high: MOST, label: "significant bits of a number" };
    const y = { low: 1e-7, high: 1e3, log: true };
    const label = `Ratio error against bits: ${real(ratioError)} at ${bits}`;
    chart(element("chart"), { x, y, label, ratio: 0.9 }, (at) => [
      svg("line", { class: "ex-here", x1: at.left, x2: at.right, y1: at.y(0.01), y2: at.y(0.01) }),
      svg("text", { class: "ex-free-label", x: at.left + 6, y: at.y(0.01) + 16 }, "one percent"),
      at.line(curve, ""),
      svg("circle", { cx: at.x(bits), cy: at.y(ratioError), r: 5 }),
    ]);
  }

  mount(
    "bits",
    `<div class="ex-controls in-two">
      ${select("bi-method", "Method", METHODS)}
      ${slider("bi-bits", `Bits ${symbol("p")}`, 2, MOST, 8)}
    </div>
    <div class="in-pair in-stack">
      <figure><figcaption>attention computed</figcaption><canvas id="bi-M" role="img"></canvas></figure>
      <figure><figcaption>ratio error</figcaption><div id="bi-chart"></div></figure>
    </div>
    <div class="ex-readings">
      <div class="ex-reading">ratio error <b id="bi-ratio"></b></div>
      <div class="ex-reading">leak <b id="bi-leak"></b></div>
      <div class="ex-reading">total variation <b id="bi-tv"></b></div>
    </div>
    <p class="ex-note">${LENGTH} tokens, three equal weights a row, ${symbol("m")} = ${DIM}, a leak of 0.001 asked for. Numbers are the
      largest of all rows; an exponent has as many bits as it needs.</p>`,
    draw,
  );
  globalThis.JLBits = { read, round, target, keys: keys.map((key) => Array.from(key)) };
})();
