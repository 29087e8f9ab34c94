/* Chapter 14: a needle among keys, and selectors that see pages of keys instead of keys. */
"use strict";

(() => {
  const { generator, percent, symbol, slider, select, say, mount, svg, chart } =
    globalThis.JLWidgets;
  const { dot, softmax } = globalThis.JLQueries;

  const [LENGTH, DIM, STRENGTH] = [256, 32, 10];
  const SELECTORS = { quest: "Quest: coordinate boxes", mean: "mean of a page" };
  const GEOMETRIES = { random: "independent", smooth: "neighbours alike" };

  /** Normal keys, independent or each 0.95 correlated with the one before. */
  function drawKeys(geometry) {
    const rng = generator(14);
    const share = geometry === "smooth" ? 0.95 : 0;
    const keys = [];
    for (let j = 0; j < LENGTH; j++) {
      const fresh = Float64Array.from({ length: DIM }, () => rng.normal());
      const rest = Math.sqrt(1 - share * share);
      keys.push(j ? fresh.map((x, t) => share * keys[j - 1][t] + rest * x) : fresh);
    }
    return keys;
  }
  const drawn = Object.fromEntries(Object.keys(GEOMETRIES).map((name) => [name, drawKeys(name)]));

  const element = (id) => document.getElementById(`ne-${id}`);

  function read() {
    const keys = drawn[element("geometry").value];
    const needle = Number(element("needle").value);
    const page = 2 ** element("page").value;
    const budget = Number(element("budget").value);
    // The last token's query: its logit at the needle is STRENGTH, elsewhere what it happens to be.
    const scale = (STRENGTH * Math.sqrt(DIM)) / dot(keys[needle], keys[needle]);
    const query = keys[needle].map((x) => scale * x);
    const logits = keys.map((key) => dot(query, key) / Math.sqrt(DIM));
    const pages = Array.from({ length: LENGTH / page }, (_, p) =>
      keys.slice(p * page, (p + 1) * page),
    );
    const score = {
      quest: (some) =>
        query.reduce((sum, x, t) => sum + Math.max(...some.map((key) => x * key[t])), 0),
      mean: (some) => some.reduce((sum, key) => sum + dot(query, key), 0) / some.length,
    }[element("selector").value];
    const scores = pages.map((some) => score(some) / Math.sqrt(DIM));
    // The page of the query itself is kept, and the best others fill the budget.
    const order = scores
      .map((value, p) => [p === pages.length - 1 ? Infinity : value, p])
      .sort((a, b) => b[0] - a[0] || a[1] - b[1])
      .map(([, p]) => p);
    const kept = order.slice(0, Math.max(Math.floor(budget / page), 1));
    const own = Math.floor(needle / page);
    const weights = softmax(logits);
    const looked = weights.filter((_, j) => kept.includes(Math.floor(j / page)));
    const mass = looked.reduce((sum, weight) => sum + weight, 0);
    return {
      keys, needle, page, budget, query, logits, scores, kept, mass,
      found: kept.includes(own), rank: order.indexOf(own) + 1, weight: weights[needle],
    };
  }

  function draw() {
    const { needle, page, budget, logits, scores, kept, mass, found, rank, weight } = read();
    say("ne-needle", `token ${needle + 1}`);
    say("ne-page", page === 1 ? "1 key" : `${page} keys`);
    say("ne-budget", `${budget} keys`);
    element("rank").textContent = `${rank} of ${scores.length}`;
    element("share").textContent = percent((kept.length * page) / LENGTH);
    element("mass").textContent = percent(mass);
    const verdict = element("verdict");
    verdict.className = `ex-verdict ${found ? "ex-good" : "ex-bad"}`;
    verdict.innerHTML =
      (found ? "<b>Found.</b>" : "<b>Missed.</b>") +
      ` The needle has ${percent(weight)} of the attention; its page is number ${rank}` +
      ` of ${scores.length} by score, and ${kept.length} ${kept.length === 1 ? "is" : "are"} looked at.`;
    const shown = [...logits, ...scores, 0];
    const y = { low: Math.min(...shown) - 1, high: Math.max(...shown) + 1 };
    const label =
      `Logits of ${LENGTH} keys and scores of ${scores.length} pages; ` +
      `the needle is ${found ? "found" : "missed"}`;
    const x = { low: 0, high: LENGTH, label: "token" };
    chart(element("chart"), { x, y, label, ratio: 0.45 }, (at) => [
      ...scores.map((value, p) =>
        svg("rect", {
          class: kept.includes(p) ? "ex-on ex-page" : "ex-rest ex-page",
          x: at.x(p * page),
          width: at.x(page) - at.x(0),
          y: Math.min(at.y(value), at.y(0)),
          height: Math.abs(at.y(value) - at.y(0)),
        }),
      ),
      ...logits.map((value, j) =>
        svg("circle", {
          class: j === needle ? (found ? "ex-on" : "ex-off") : "ex-rest",
          cx: at.x(j + 0.5).toFixed(1),
          cy: at.y(value).toFixed(1),
          r: j === needle ? 6 : 1.5,
        }),
      ),
    ]);
  }

  mount(
    "needle",
    `<div class="ex-controls in-two">
      ${select("ne-selector", "Selector", SELECTORS)}
      ${select("ne-geometry", "Keys", GEOMETRIES)}
    </div>
    <div class="ex-controls">
      ${slider("ne-page", "Page", 0, 6, 4)}
      ${slider("ne-budget", "Looked at", 64, LENGTH, 64, 16)}
      ${slider("ne-needle", "Needle", 0, LENGTH - 65, 100)}
    </div>
    <p class="ex-verdict" id="ne-verdict" role="status" aria-live="polite"></p>
    <div id="ne-chart"></div>
    <div class="ex-readings">
      <div class="ex-reading">rank of its page <b id="ne-rank"></b></div>
      <div class="ex-reading">keys looked at <b id="ne-share"></b></div>
      <div class="ex-reading">attention kept <b id="ne-mass"></b></div>
    </div>
    <p class="ex-note">${LENGTH} keys, ${symbol("m")} = ${DIM}; the last token’s query has a logit of ${STRENGTH} at the needle. Points:
      logits. Bars: what the selector sees of each page; blue pages are looked at.</p>`,
    draw,
  );
  globalThis.JLNeedle = { read, LENGTH, DIM };
})();
