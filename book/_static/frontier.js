/* Chapter 9: the dimensions that logits of a given size need, and what max-margin is predicted to
 * do with them. */
"use strict";

(() => {
  const { integer, real, symbol, slider, say, mount, svg, chart } = globalThis.JLWidgets;
  const { logBinomial, normalTails } = globalThis.JLTails;

  const LENGTHS = Array.from({ length: 15 }, (_, i) => 2 ** (6 + i));
  const SIZES = Array.from({ length: 61 }, (_, i) => 10 ** (i / 15));

  /** E max(H - a, 0) and E max(H - a, 0)^2 for normal H. */
  function excess(a) {
    const { density, above } = normalTails(a);
    return [density - a * above, (1 + a * a) * above - a * density];
  }

  /** The zero of a decreasing function between two ends. */
  function zero(f, low, high) {
    for (let step = 0; step < 100; step++) {
      const middle = (low + high) / 2;
      if (f(middle) > 0) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  /** R/Delta of the typical max-margin query, by Gordon's comparison; Infinity where there is none. */
  function predicted(m, length, k) {
    const [n, nu] = [length - k, m - k + 1];
    if (nu < 1) return Infinity;
    const room = (a) => nu - n * excess(a)[1];
    const low = zero((a) => -room(a), -Math.sqrt(nu / n) - 1, 40);
    const a = zero((b) => n * excess(b)[0] - Math.sqrt(k * Math.max(room(b), 0)), low, 40);
    const margin = Math.sqrt(Math.max(room(a), 0) / k) - a;
    return margin > 0 ? Math.sqrt(m) / margin : Infinity;
  }

  /** Necessary: whatever the logits (T5), and for logits of size R/Delta = s (T6). */
  function radon(length, k) {
    let largest = 0;
    while (4 ** (largest + 1) <= length + 1) largest++;
    return 2 * Math.min(k, largest);
  }
  function packing(length, k, s) {
    const least = logBinomial(length, k) / (Math.log1p(8 * s) + Math.log1p(4 * s));
    return Math.ceil(least * (1 - 1e-12) - 1e-9);
  }

  const element = (id) => document.getElementById(`fr-${id}`);

  function read() {
    const length = LENGTHS[element("L").value];
    const k = Number(element("k").value);
    const size = SIZES[element("R").value];
    let [low, high] = [k, length]; // of the least m whose typical query is short enough
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (predicted(middle, length, k) > size) low = middle + 1;
      else high = middle;
    }
    return {
      length, k, size,
      enough: high < length ? high : null,
      needed: Math.max(packing(length, k, size), radon(length, k)),
    };
  }

  function draw() {
    const { length, k, size, enough, needed } = read();
    say("fr-L", integer(length));
    say("fr-k", String(k));
    say("fr-R", `${real(size)} gaps`);
    element("enough").textContent = enough === null ? "m ≥ L" : integer(enough);
    element("needed").textContent = integer(needed);
    const high = 10 ** Math.ceil(Math.log10(length));
    const curve = [];
    for (let m = k; m < length; m = Math.ceil(1.04 * m)) {
      const value = predicted(m, length, k);
      if (value <= 1e4) curve.push([value, m]);
    }
    const necessary = SIZES.map((s) => [s, Math.max(packing(length, k, s), 1)]);
    const least = Math.max(radon(length, k), 1);
    const x = { low: 1, high: 1e4, log: true, label: "longest query times longest key, in gaps" };
    const label = `Dimension against the size of the logits, ${length} tokens, ${k} a row`;
    chart(element("chart"), { x, y: { low: 1, high, log: true }, label }, (at) => [
      svg("rect", {
        class: "ex-free",
        x: at.left,
        width: at.right - at.left,
        y: at.top,
        height: at.y(length) - at.top,
      }),
      svg("text", { class: "ex-free-label", x: at.left + 8, y: at.y(length) - 5 }, "m ≥ L: free"),
      at.line(necessary, "ex-need"),
      at.line([[1, least], [1e4, least]], "ex-need"),
      at.line(curve, ""),
      svg("line", { class: "ex-here", x1: at.x(size), x2: at.x(size), y1: at.top, y2: at.bottom }),
      enough === null ? "" : svg("circle", { cx: at.x(size), cy: at.y(enough), r: 5 }),
    ]);
  }

  mount(
    "frontier",
    `<div class="ex-controls">
      ${slider("fr-R", `Size of the logits ${symbol("R/Δ")}`, 0, SIZES.length - 1, 15)}
      ${slider("fr-L", `Length ${symbol("L")}`, 0, LENGTHS.length - 1, 4)}
      ${slider("fr-k", `Nonzeros ${symbol("k")}`, 1, 16, 4)}
    </div>
    <div id="fr-chart"></div>
    <div class="ex-readings">
      <div class="ex-reading">max-margin, predicted: ${symbol("m")} <b id="fr-enough"></b></div>
      <div class="ex-reading">necessary: ${symbol("m")} ≥ <b id="fr-needed"></b></div>
    </div>
    <p class="ex-note">Blue: the typical max-margin query, a prediction. Grey: no input can do with less, by packing (T6,
      falling) and by Radon (T5, level).</p>`,
    draw,
  );
  globalThis.JLFrontier = { read, predicted, radon, packing, LENGTHS, SIZES };
})();
