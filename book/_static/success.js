/* Chapter 4: the success that theorems promise as m grows, and where m = L makes them vacuous. */
"use strict";

(() => {
  const { integer, percent, real, symbol, slider, say, mount, svg, chart } = globalThis.JLWidgets;
  const { correlatedExponent, studentLogTail, logSum, leastDim } = globalThis.JLTails;

  const LENGTHS = Array.from({ length: 19 }, (_, i) => 2 ** (6 + i));
  const ERRORS = [0.05, 0.1, 0.2, 0.5, 1];
  const LEAKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
  const METHODS = { svd_projection: "T1", row_projection: "T2", interpolate: "T3" };
  const ETA = 0.5;

  /** log of the bound on the failure probability, a function of m: equal weights. */
  function logFailure(method, length, k, ratioError, leak) {
    const gap = -Math.log(leak);
    if (method === "interpolate") {
      const pairs = Math.log(length * (length - 1));
      return (m) => (m < k ? 0 : pairs + studentLogTail(m - k + 1, 2 / (3 * Math.sqrt(k))));
    }
    const [tau, tolerance] = [Math.log1p(ratioError) + gap, Math.log1p(ratioError)];
    const norm = Math.SQRT2 * tau * (method === "svd_projection" ? k : Math.sqrt(k));
    const ratios = correlatedExponent(tolerance / norm, 0);
    const leaks = correlatedExponent((tau - gap) / norm, -tau / norm);
    const events = [length * k * (k - 1), length * k * (length - k)].map(Math.log);
    return (m) => logSum([events[0] - m * ratios, events[1] - m * leaks]);
  }

  const element = (id) => document.getElementById(`su-${id}`);

  function read() {
    const length = LENGTHS[element("L").value];
    const k = Number(element("k").value);
    const ratioError = ERRORS[element("eps1").value];
    const leak = LEAKS[element("eps2").value];
    const curves = Object.keys(METHODS).map((method) => {
      const bound = logFailure(method, length, k, ratioError, leak);
      const m = leastDim(bound, Math.log(ETA), k, 2 ** 40);
      return { method, m, success: (dim) => 1 - Math.exp(Math.min(bound(dim), 0)) };
    });
    return { length, k, ratioError, leak, curves };
  }

  function draw() {
    const { length, k, ratioError, leak, curves } = read();
    say("su-L", integer(length));
    say("su-k", String(k));
    say("su-eps1", String(ratioError));
    say("su-eps2", String(leak));
    for (const { method, m } of curves) {
      const box = element(method);
      box.className = `ex-reading ${m < length ? "ex-good" : "ex-bad"}`;
      box.querySelector("b").textContent = integer(m);
      box.querySelector("small").textContent =
        m < length ? `${percent(m / length)} of L` : "vacuous: m ≥ L";
    }
    const high = 10 ** Math.ceil(Math.log10(Math.max(length, ...curves.map(({ m }) => m)) * 1.5));
    const x = { low: 10, high, log: true, label: "query dimension m" };
    const y = { low: 0, high: 1.05 };
    const label = curves.map(({ method, m }) => `${METHODS[method]} asks for ${m}`).join(", ");
    chart(element("chart"), { x, y, label: `${label}; L is ${length}` }, (at) => [
      svg("rect", {
        class: "ex-free",
        x: at.x(length),
        y: at.top,
        width: at.right - at.x(length),
        height: at.bottom - at.top,
      }),
      at.line([[length, 0], [length, 1.05]], "ex-here"),
      ...curves.flatMap(({ method, m, success }, i) => [
        at.line(
          Array.from({ length: 161 }, (_, step) => {
            const dim = 10 * (high / 10) ** (step / 160);
            return [dim, success(Math.round(dim))];
          }),
          `ex-line-${i}`,
        ),
        svg("circle", { cx: at.x(m), cy: at.y(ETA), r: 4 }),
        svg("text", { x: at.x(m) + 8, y: at.y(ETA) + 4 + 16 * (1 - i) }, METHODS[method]),
      ]),
      svg("text", { class: "ex-free-label", x: at.x(length) + 6, y: at.bottom - 6 }, "m ≥ L"),
    ]);
  }

  const reading = (method, name) => `
    <div class="ex-reading" id="su-${method}">${METHODS[method]} ${name} <b></b> <small></small></div>`;

  mount(
    "success",
    `<div class="ex-controls in-two">
      ${slider("su-L", `Length ${symbol("L")}`, 0, LENGTHS.length - 1, 4)}
      ${slider("su-k", `Nonzeros ${symbol("k")}`, 1, 8, 2)}
      ${slider("su-eps1", `Ratio error ${symbol("ε")}₁`, 0, ERRORS.length - 1, 4)}
      ${slider("su-eps2", `Leak ${symbol("ε")}₂`, 0, LEAKS.length - 1, 5)}
    </div>
    <div id="su-chart"></div>
    <div class="ex-readings">
      ${reading("svd_projection", "SVD projection")}
      ${reading("row_projection", "row projection")}
      ${reading("interpolate", "interpolation")}
    </div>
    <p class="ex-note">Height: the probability of success that each theorem promises, for equal weights. Points and
      numbers: where it is one half.</p>`,
    draw,
  );
  globalThis.JLSuccess = { read, logFailure };
})();
