/* Chapter 3: inner products of projected unit vectors, by correlation and dimension. */
"use strict";

(() => {
  const { generator, real, symbol, slider, say, mount, svg, chart } = globalThis.JLWidgets;
  const { correlatedExponent } = globalThis.JLTails;

  const [PAIRS, MOST] = [300, 1000];
  const rng = generator(3);
  const height = Array.from({ length: PAIRS }, () => rng.uniform());
  // With independent normal u, v a coordinate of (Gx, Gy) is (u, rho u + sqrt(1 - rho^2) v)/sqrt(m).
  // For m rows, the sums of u^2 and of u v of each pair:
  const sums = [[new Float64Array(PAIRS), new Float64Array(PAIRS)]];
  for (let m = 1; m <= MOST; m++) {
    const next = sums[m - 1].map((sum) => sum.slice());
    for (let pair = 0; pair < PAIRS; pair++) {
      const u = rng.normal();
      next[0][pair] += u * u;
      next[1][pair] += u * rng.normal();
    }
    sums.push(next);
  }

  const dims = [];
  for (let m = 1; m <= MOST; m *= 1.08) if (Math.round(m) !== dims.at(-1)) dims.push(Math.round(m));
  dims.push(MOST);

  const element = (id) => document.getElementById(`pr-${id}`);

  /** Chernoff's bound on P(|<Gx,Gy> - rho| > eps), both sides. */
  const bound = (m, eps, rho) =>
    Math.min(
      1,
      Math.exp(-m * correlatedExponent(eps, rho)) + Math.exp(-m * correlatedExponent(eps, -rho)),
    );

  function read() {
    const m = dims[element("m").value];
    const [rho, eps] = ["rho", "eps"].map((id) => Number(element(id).value));
    const [squares, mixed] = sums[m];
    const products = Array.from(
      squares,
      (square, pair) => (rho * square + Math.sqrt(1 - rho * rho) * mixed[pair]) / m,
    );
    const off = products.filter((x) => Math.abs(x - rho) > eps).length;
    const spread = Math.sqrt((1 + rho * rho) / m);
    return { m, rho, eps, products, off, spread, bound: bound(m, eps, rho) };
  }

  function draw() {
    const { m, rho, eps, products, off, spread, bound: most } = read();
    say("pr-m", String(m));
    say("pr-rho", real(rho).replace("-", "−"));
    say("pr-eps", String(eps));
    element("off").textContent = `${off} of ${PAIRS}`;
    element("spread").textContent = real(spread);
    element("bound").textContent = real(most);
    const x = { low: -2.5, high: 2.5, label: "inner product after the projection" };
    const label = `Inner products of ${PAIRS} pairs of correlation ${rho}; ${off} are off by more than ${eps}`;
    chart(element("chart"), { x, y: { low: 0, high: 1, bare: true }, label, ratio: 0.4 }, (at) => [
      ...[[-2.5, rho - eps], [rho + eps, 2.5]].map(([from, to]) =>
        svg("rect", {
          class: "ex-free",
          x: at.x(from),
          y: at.top,
          width: at.x(to) - at.x(from),
          height: at.bottom - at.top,
        }),
      ),
      ...products.map((value, i) =>
        svg("circle", {
          class: Math.abs(value - rho) > eps ? "ex-dot ex-off" : "ex-dot",
          cx: at.x(value).toFixed(1),
          cy: at.y(height[i]).toFixed(1),
          r: 2.5,
        }),
      ),
      svg("line", { class: "ex-here", x1: at.x(rho), x2: at.x(rho), y1: at.top, y2: at.bottom }),
    ]);
  }

  mount(
    "products",
    `<div class="ex-controls">
      ${slider("pr-m", `Rows of the map ${symbol("m")}`, 0, dims.length - 1, dims.indexOf(30))}
      ${slider("pr-rho", `Correlation ${symbol("ρ")}`, -1, 1, 0, 0.1)}
      ${slider("pr-eps", `Error ${symbol("ε")}`, 0.05, 0.95, 0.3, 0.05)}
    </div>
    <div id="pr-chart"></div>
    <div class="ex-readings">
      <div class="ex-reading">off by more than ${symbol("ε")} <b id="pr-off"></b></div>
      <div class="ex-reading">standard deviation <b id="pr-spread"></b></div>
      <div class="ex-reading">Chernoff’s bound <b id="pr-bound"></b></div>
    </div>
    <p class="ex-note">${PAIRS} pairs of unit vectors, a map of its own for each; a step of ${symbol("m")} adds a row to all
      of them. Height is only for the eye.</p>`,
    draw,
  );
  globalThis.JLProducts = { read, bound, dims };
})();
