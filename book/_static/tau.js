/* Chapter 7: the dimension of interpolation on Gaussian codes (T3) as the logit scale grows. */
"use strict";

(() => {
  const { integer, percent, real, symbol, slider, say, mount, svg, chart } = globalThis.JLWidgets;
  const { studentLogTail, leastDim } = globalThis.JLTails;

  const [LEAK, ETA] = [0.01, 0.01];
  const GAP = -Math.log(LEAK);
  const SCALES = Array.from({ length: 61 }, (_, i) => 1.05 * (20 / 1.05) ** (i / 60));
  const LENGTHS = Array.from({ length: 15 }, (_, i) => 2 ** (6 + i));

  /** The least m of T3 for equal weights, at tau = scale log(1/eps2); Infinity for the limit. */
  function dim(length, k, scale) {
    const theta = (1 - 1 / scale) / Math.sqrt(k);
    const pairs = Math.log(length * (length - 1));
    const rate = Math.log1p(theta * theta) / 2;
    const enough = Math.ceil(k - 1 + Math.max(1, (pairs - Math.log(2 * ETA) + 0.1) / rate));
    const logFailure = (m) => pairs + studentLogTail(m - k + 1, theta);
    return leastDim(logFailure, Math.log(ETA), k, enough);
  }

  const element = (id) => document.getElementById(`ta-${id}`);

  function read() {
    const length = LENGTHS[element("L").value];
    const k = Number(element("k").value);
    const scale = SCALES[element("tau").value];
    const [m, limit] = [dim(length, k, scale), dim(length, k, Infinity)];
    return { length, k, scale, tau: scale * GAP, m, limit };
  }

  function draw() {
    const { length, k, scale, tau, m, limit } = read();
    say("ta-tau", `${real(scale)} log(1/ε₂)`);
    say("ta-L", integer(length));
    say("ta-k", String(k));
    element("m").textContent = integer(m);
    element("share").textContent = m < length ? percent(m / length) : "vacuous: m ≥ L";
    element("m").parentElement.className = `ex-reading ${m < length ? "ex-good" : "ex-bad"}`;
    element("logit").textContent = tau.toFixed(1);
    element("limit").textContent = integer(limit);
    const curve = SCALES.map((value) => [value, dim(length, k, value)]);
    const low = 10 ** Math.floor(Math.log10(limit));
    const high = 10 ** Math.ceil(Math.log10(curve[0][1]));
    const x = { low: 1, high: 20, label: "logit scale τ, in units of log(1/ε₂)" };
    const label = `m against the logit scale: ${m} at ${real(scale)} log(1/leak), ${limit} in the limit`;
    chart(element("chart"), { x, y: { low, high, log: true }, label }, (at) => {
      const top = length < high ? Math.max(at.y(Math.max(length, low)), at.top) : at.top;
      const free = { class: "ex-free", x: at.left, width: at.right - at.left, y: at.top };
      return [
        svg("rect", { ...free, height: top - at.top }),
        length < high && length > low
          ? svg("text", { class: "ex-free-label", x: at.right - 76, y: top - 5 }, "m ≥ L: free")
          : "",
        at.line([[1, limit], [20, limit]], "ex-need"),
        at.line(curve, ""),
        svg("circle", { cx: at.x(scale), cy: at.y(m), r: 5 }),
      ];
    });
  }

  mount(
    "tau",
    `<div class="ex-controls">
      ${slider("ta-tau", `Logit scale ${symbol("τ")}`, 0, SCALES.length - 1, 22)}
      ${slider("ta-L", `Length ${symbol("L")}`, 0, LENGTHS.length - 1, 4)}
      ${slider("ta-k", `Nonzeros ${symbol("k")}`, 1, 16, 4)}
    </div>
    <div id="ta-chart"></div>
    <div class="ex-readings">
      <div class="ex-reading">${symbol("m")} of T3 <b id="ta-m"></b> <small id="ta-share"></small></div>
      <div class="ex-reading">logits on the support ${symbol("τ")} <b id="ta-logit"></b></div>
      <div class="ex-reading">limit of large ${symbol("τ")} <b id="ta-limit"></b></div>
    </div>
    <p class="ex-note">Equal weights, Gaussian codes, leak and failure probability 0.01. Below
      ${symbol("τ")} = log(1/${symbol("ε")}₂) even exact logits would leak.</p>`,
    draw,
  );
  globalThis.JLTau = { read, dim, SCALES, LENGTHS };
})();
