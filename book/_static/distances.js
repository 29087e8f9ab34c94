/* Chapter 2: squared lengths under random maps, as rows are added to the maps, and the exact tail. */
"use strict";

(() => {
  const { generator, real, symbol, slider, say, mount, svg, chart } = globalThis.JLWidgets;
  const { chiSquareTails, logGamma } = globalThis.JLTails;

  const [MAPS, MOST] = [300, 1000];
  const rng = generator(2);
  const height = Array.from({ length: MAPS }, () => rng.uniform());
  // The image of a unit vector has independent normal coordinates: lengths[m][map] for m rows.
  const lengths = [new Float64Array(MAPS)];
  for (let m = 1; m <= MOST; m++) {
    lengths.push(lengths[m - 1].map((length) => length + rng.normal() ** 2));
  }

  const dims = [];
  for (let m = 1; m <= MOST; m *= 1.08) if (Math.round(m) !== dims.at(-1)) dims.push(Math.round(m));
  dims.push(MOST);

  const element = (id) => document.getElementById(`ds-${id}`);

  /** How likely one squared length is off by more than a factor 1 +- eps: exactly, and at most. */
  function failure(m, eps) {
    const exact = chiSquareTails(m, 1 + eps)[0] + chiSquareTails(m, 1 - eps)[1];
    const [above, below] = [eps - Math.log1p(eps), -eps - Math.log1p(-eps)];
    return { exact, chernoff: Math.min(1, Math.exp((-m * above) / 2) + Math.exp((-m * below) / 2)) };
  }

  function read() {
    const m = dims[element("m").value];
    const eps = Number(element("eps").value);
    const squares = Array.from(lengths[m], (length) => length / m);
    const off = squares.filter((x) => Math.abs(x - 1) > eps).length;
    return { m, eps, squares, off, share: off / MAPS, ...failure(m, eps) };
  }

  function draw() {
    const { m, eps, squares, off, exact, chernoff } = read();
    say("ds-m", String(m));
    say("ds-eps", String(eps));
    element("off").textContent = `${off} of ${MAPS}`;
    element("exact").textContent = real(exact);
    element("bound").textContent = real(chernoff);
    const half = m / 2;
    const constant = half * Math.log(half) - logGamma(half);
    const logDensity = (x) => constant + (half - 1) * Math.log(x) - half * x;
    const peak = logDensity(Math.max(1 - 2 / m, 0.02));
    const label = `Squared lengths under ${MAPS} maps of ${m} rows; ${off} are off by more than ${eps}`;
    const x = { low: 0, high: 2.5, label: "squared length of the image of a unit vector" };
    chart(element("chart"), { x, y: { low: 0, high: 1.05, bare: true }, label, ratio: 0.4 }, (at) => [
      ...[[0, 1 - eps], [1 + eps, 2.5]].map(([from, to]) =>
        svg("rect", {
          class: "ex-free",
          x: at.x(from),
          y: at.top,
          width: at.x(to) - at.x(from),
          height: at.bottom - at.top,
        }),
      ),
      ...squares.map((value, i) =>
        svg("circle", {
          class: Math.abs(value - 1) > eps ? "ex-dot ex-off" : "ex-dot",
          cx: at.x(value).toFixed(1),
          cy: at.y(height[i]).toFixed(1),
          r: 2.5,
        }),
      ),
      at.line(
        Array.from({ length: 249 }, (_, i) => [
          (i + 1) / 100,
          Math.exp(logDensity((i + 1) / 100) - peak),
        ]),
        "ex-need",
      ),
    ]);
  }

  mount(
    "distances",
    `<div class="ex-controls in-two">
      ${slider("ds-m", `Rows of the map ${symbol("m")}`, 0, dims.length - 1, dims.indexOf(10))}
      ${slider("ds-eps", `Distortion ${symbol("ε")}`, 0.05, 0.95, 0.3, 0.05)}
    </div>
    <div id="ds-chart"></div>
    <div class="ex-readings">
      <div class="ex-reading">outside 1 ± ${symbol("ε")}, drawn <b id="ds-off"></b></div>
      <div class="ex-reading">exact probability <b id="ds-exact"></b></div>
      <div class="ex-reading">Chernoff’s bound <b id="ds-bound"></b></div>
    </div>
    <p class="ex-note">${MAPS} random maps of one unit vector; each step adds a row to all of them. Height is
      only for the eye; the line is the density.</p>`,
    draw,
  );
  globalThis.JLDistances = { read, failure, dims };
})();
