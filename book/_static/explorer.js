/* The page of the explorer: controls, table, curve and picture over explorer-math.js. */
"use strict";

(() => {
  const math = globalThis.JLExplorer;
  const {
    superscript, scientific, integer, real, percent, symbol, svg, scales, colour, onTheme,
    slider: sliderWith, select: selectWith, paint: paintOn,
  } = globalThis.JLWidgets;

  // --- What can be set -----------------------------------------------------------------------

  const power = (exponent) => Math.round(2 ** exponent);
  const LENGTHS = Array.from({ length: 81 }, (_, step) => power(4 + step / 4));

  const CONTROLS = {
    L: { label: "Sequence length", symbol: "L", values: LENGTHS, start: 4096 },
    k: {
      label: "Nonzeros per row",
      symbol: "k",
      values: Array.from({ length: 32 }, (_, i) => i + 1),
      start: 4,
    },
    gamma: { label: "Ratio bound", symbol: "γ", values: [1, 1.5, 2, 3, 5, 10, 20], start: 2 },
    eps1: {
      label: "Ratio error",
      symbol: "ε₁",
      values: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
      start: 0.1,
    },
    eps2: {
      label: "Leak",
      symbol: "ε₂",
      values: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
      start: 0.01,
    },
    eta: {
      label: "Failure probability",
      symbol: "η",
      values: [1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.05, 0.1, 0.5],
      start: 0.01,
    },
    scale: {
      label: "Logit scale of T3 and T4",
      symbol: "τ",
      values: [1.25, 1.5, 2, 3, 4, 6, 10, 30],
      start: 3,
      unit: " log(1/ε₂)",
    },
    R: {
      label: "Logit size allowed by T6",
      symbol: "R",
      values: [1, 2, 5, 10, 20, 50, 100, 1000],
      start: 10,
      unit: " log(1/ε₂)",
    },
    bits: {
      label: "Bits per number for T7",
      symbol: "b",
      values: [4, 8, 16, 32, 64],
      start: 16,
    },
  };

  const METHODS = {
    svd_projection: {
      id: "T1",
      name: "SVD projection",
      note: "the paper’s way",
      scope: "each pattern whose columns are as sparse,",
    },
    row_projection: {
      id: "T2",
      name: "row projection",
      note: "only rows need be sparse",
      scope: "each pattern",
    },
    interpolate: {
      id: "T3",
      name: "interpolation",
      note: "exact ratios",
      scope: "each pattern",
    },
    tight: {
      id: "T3",
      name: "tight frame",
      note: "T3, all tokens drawn at once",
      scope: "each pattern",
    },
    universal: {
      id: "T4",
      name: "universal codes",
      note: "T3 for every pattern at once",
      scope: "all patterns at once",
    },
    max_margin: {
      id: "T9",
      name: "max-margin",
      note: "an exact law",
      scope: "each pattern",
    },
    every_support: {
      id: "T9",
      name: "every support",
      note: "max-margin, all at once",
      scope: "all patterns at once",
    },
    moment_curve: { id: "T5", name: "moment curve", note: "real arithmetic, huge logits" },
  };
  const NECESSARY = {
    radon: { id: "T5", name: "Radon", note: "whatever the logits", letter: "m" },
    packing: { id: "T6", name: "packing", note: "for logits of size R", letter: "m" },
    bits: { id: "T7", name: "counting bits", note: "on the hidden size d", letter: "d" },
  };
  const ONE_NUMBER = ["max_margin", "every_support", "moment_curve"]; // no closed form beside it
  const SETTINGS = { // of the rows that are a method with settings of its own
    tight: { method: "interpolate", codes: "tight" },
    every_support: { method: "max_margin", scope: "every_support" },
  };

  const PATTERNS = { random: "random", window: "causal window", blocks: "blocks" };
  const PICTURE_METHODS = ["interpolate", "tight", "row_projection", "svd_projection"];
  const PICTURE_LENGTHS = [64, 96, 128];
  const TARGET_SEED = 7;
  const MANY_DRAWS = 100;
  const DECADES = 12; // of the bars' axis: 1 to 10^12, beyond every setting

  const state = Object.fromEntries(Object.entries(CONTROLS).map(([id, { start }]) => [id, start]));
  Object.assign(state, { method: "interpolate" });
  // m: null for the theorem's.
  Object.assign(state, { shown: "interpolate", pattern: "random", size: 64, m: null, seed: 1 });

  const CHOICES = {
    ...Object.fromEntries(Object.entries(CONTROLS).map(([id, { values }]) => [id, values])),
    method: Object.keys(METHODS),
    shown: PICTURE_METHODS,
    pattern: Object.keys(PATTERNS),
    size: PICTURE_LENGTHS,
  };

  /** The arguments of the functions of explorer-math.js for the present state. */
  function setting(method = state.method, length = state.L) {
    return {
      ...(SETTINGS[method] ?? { method }),
      length,
      rowNnz: Math.min(state.k, state.L, length),
      maxRatio: state.gamma,
      ratioError: state.eps1,
      leak: state.eps2,
      failureProb: state.eta,
      logitScale: logitScale(method),
      scaleRatio: state.R,
      bits: state.bits,
    };
  }

  /** tau, or undefined for the package's default. */
  function logitScale(method) {
    const chosen = ["interpolate", "tight", "universal"].includes(method) && state.scale !== 3;
    return chosen ? -state.scale * Math.log(state.eps2) : undefined;
  }

  function dim(method, bound, length = state.L) {
    const arguments_ = setting(method, length);
    return method === "universal"
      ? math.universalDim(arguments_, bound)
      : math.requiredDim(arguments_, bound === "sharp" ? undefined : bound);
  }

  // --- Words and numbers ---------------------------------------------------------------------

  /** Text of a control's value, k capped at L. */
  function shownValue(id) {
    const { unit = "" } = CONTROLS[id];
    const value = id === "k" ? Math.min(state.k, state.L) : state[id];
    return (value >= 1000 ? integer(value) : real(value)) + unit;
  }

  function pythonCall() {
    const given = setting();
    const { method, codes, scope, length, rowNnz, maxRatio, ratioError, leak, failureProb } = given;
    const parts = [length, rowNnz];
    if (method !== "universal") parts.push(`method="${method}"`);
    if (!ONE_NUMBER.includes(state.method)) {
      parts.push(`max_ratio=${maxRatio}`);
      if (method.endsWith("projection")) parts.push(`ratio_error=${ratioError}`);
      parts.push(`leak=${leak}`);
    }
    if (method !== "moment_curve") parts.push(`failure_prob=${failureProb}`);
    if (given.logitScale !== undefined) parts.push(`logit_scale=${given.logitScale}`);
    if (scope) parts.push(`scope="${scope}"`);
    if (codes) parts.push(`codes="${codes}"`);
    const name = method === "universal" ? "universal_dim" : "required_dim";
    return `jla.${name}(${parts.join(", ")})`;
  }

  /** The length, to one digit, from which on the chosen method asks for less than L; or null. */
  function firstUsefulLength() {
    let [low, high] = [4 * Math.log2(state.L), 240]; // quarters of an octave
    if (dim(state.method, "sharp", power(high / 4)) >= power(high / 4)) return null;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (dim(state.method, "sharp", power(middle / 4)) < power(middle / 4)) high = middle;
      else low = middle;
    }
    return power(high / 4);
  }

  // --- Building the page ---------------------------------------------------------------------

  const slider = (id) => {
    const { label, symbol: letter, values } = CONTROLS[id];
    return sliderWith(`ex-${id}`, `${label} ${symbol(letter)}`, 0, values.length - 1, 0);
  };

  const select = (id, label, values, name) =>
    selectWith(`ex-${id}`, label, Object.fromEntries(values.map((value) => [value, name(value)])));

  const methodName = (method) => `${METHODS[method].id} ${METHODS[method].name}`;

  const barRow = (key, { id, name, note }, kind) => `
    <tr id="ex-row-${key}" class="ex-${kind}" role="row">
      <th scope="row" role="rowheader"><b>${id}</b> ${name} <small>${note}</small></th>
      <td class="ex-bar" role="cell" aria-hidden="true">
        <i class="ex-closed"></i><i class="ex-sharp"></i></td>
      <td class="ex-number" role="cell" data-bound="sharp"></td>
      <td class="ex-number" role="cell" data-bound="closed_form"></td>
    </tr>`;

  const groupRow = (title) => `
    <tr class="ex-group" role="row"><th scope="rowgroup" role="columnheader">${title}</th>
      <td class="ex-bar" role="cell" aria-hidden="true"></td>
      <td role="cell"></td><td role="cell"></td></tr>`;

  const DIMENSIONS = () => `
    <div class="ex-head">
      ${select("method", "Method", Object.keys(METHODS), methodName)}
      <p class="ex-headline" id="ex-headline"></p>
      <p class="ex-verdict" id="ex-verdict" role="status" aria-live="polite"></p>
    </div>
    <div class="ex-controls">${["L", "k", "gamma", "eps1", "eps2", "eta"].map(slider).join("")}</div>
    <details class="ex-more"><summary>Assumptions of T3, T4, T6 and T7</summary>
      <div class="ex-controls">${["scale", "R", "bits"].map(slider).join("")}</div></details>
    <table class="ex-table" role="table" aria-label="Required and necessary dimensions">
      <thead><tr role="row">
        <th scope="col" role="columnheader">Enough with this method</th>
        <td class="ex-bar ex-axis" role="cell" aria-hidden="true"><b>L</b></td>
        <th scope="col" role="columnheader">sharp</th>
        <th scope="col" role="columnheader">closed form</th>
      </tr></thead>
      <tbody>
        ${Object.keys(METHODS).map((key) => barRow(key, METHODS[key], "required")).join("")}
        ${groupRow("Necessary for any method")}
        ${Object.keys(NECESSARY).map((key) => barRow(key, NECESSARY[key], "necessary")).join("")}
      </tbody>
    </table>
    <p class="ex-key"><i class="ex-swatch ex-sharp"></i>sharp
      <i class="ex-swatch ex-closed"></i>closed form
      <i class="ex-swatch ex-need"></i>necessary
      <i class="ex-swatch ex-free"></i>m ≥ L: an exact factorisation is free</p>
    <figure class="ex-curve">
      <figcaption id="ex-curve-caption"></figcaption>
      <div id="ex-curve"></div>
    </figure>
    <p class="ex-code"><code id="ex-code"></code>
      <button type="button" id="ex-copy">Copy</button></p>`;

  const canvas = (id, title) => `
    <figure><figcaption>${title}</figcaption>
      <canvas id="ex-${id}" role="img"></canvas></figure>`;

  const reading = (id, label) => `
    <div class="ex-reading" id="ex-${id}">${label} <b></b> <small></small></div>`;

  const PICTURE = () => `
    <div class="ex-controls ex-selects">
      ${select("shown", "Method", PICTURE_METHODS, methodName)}
      ${select("pattern", "Pattern", Object.keys(PATTERNS), (id) => PATTERNS[id])}
      ${select("size", "Length", PICTURE_LENGTHS, (n) => n)}
    </div>
    <div class="ex-control ex-dim">
      <label for="ex-m">Query dimension ${symbol("m")}</label>
      <output id="ex-m-value" for="ex-m"></output>
      <input type="range" id="ex-m" min="0" step="1">
      <div class="ex-mark" aria-hidden="true"><span id="ex-mark"></span></div>
    </div>
    <p class="ex-buttons">
      <button type="button" id="ex-draw">New draw</button>
      <button type="button" id="ex-theorem">The theorem’s m</button>
      <button type="button" id="ex-many">Draw ${MANY_DRAWS} times</button>
    </p>
    <p class="ex-verdict" id="ex-met" role="status" aria-live="polite"></p>
    <div class="ex-matrices">
      ${canvas("A", "target <i>A</i>")}
      ${canvas("M", "attention <i>M</i>")}
      ${canvas("D", "difference <i>M − A</i>")}
    </div>
    <div class="ex-readings">
      ${reading("ratio", "ratio error")}
      ${reading("leak", "leak")}
      ${reading("tv", "total variation")}
    </div>
    <p class="ex-note" id="ex-theory"></p>
    <p class="ex-note" id="ex-share" role="status" aria-live="polite"></p>`;

  const element = (id) => document.getElementById(`ex-${id}`);

  // --- Dimensions: table and curve -----------------------------------------------------------

  /** Position on the bars' axis in percent. */
  const position = (m) => `${Math.min(Math.max(Math.log10(Math.max(m, 1)) / DECADES, 0), 1) * 100}%`;

  function updateControls() {
    for (const id of Object.keys(CONTROLS)) {
      const input = element(id);
      input.value = CONTROLS[id].values.indexOf(state[id]);
      input.setAttribute("aria-valuetext", shownValue(id));
      element(`${id}-value`).textContent = shownValue(id);
    }
    for (const id of ["method", "shown", "pattern", "size"]) element(id).value = state[id];
  }

  function updateTable() {
    for (const method of Object.keys(METHODS)) {
      const row = element(`row-${method}`);
      const [sharp, closed] = ["sharp", "closed_form"].map((bound) => dim(method, bound));
      const alone = ONE_NUMBER.includes(method);
      row.classList.toggle("ex-chosen", method === state.method);
      fillRow(row, sharp, alone ? null : closed, "");
    }
    for (const [bound, { letter }] of Object.entries(NECESSARY)) {
      fillRow(element(`row-${bound}`), math.necessaryDim(setting(), bound), null, `${letter} ≥ `);
    }
    document.querySelector(".ex-table").style.setProperty("--ex-length", position(state.L));
  }

  function fillRow(row, sharp, closed, prefix) {
    row.style.setProperty("--ex-to-sharp", position(sharp));
    row.style.setProperty("--ex-to-closed", position(closed ?? sharp));
    const [first, second] = row.querySelectorAll(".ex-number");
    first.textContent = prefix + integer(sharp);
    first.title = String(sharp);
    second.textContent = closed === null ? "" : integer(closed);
    second.title = closed === null ? "" : String(closed);
  }

  function updateHeadline() {
    const { method, L } = state;
    const m = dim(method, "sharp");
    element("headline").innerHTML =
      `${symbol("m")} = <strong>${integer(m)}</strong>` +
      `<span>hidden size ${symbol("d")} = 2${symbol("m")} = ${integer(2 * m)}</span>`;
    element("headline").classList.toggle("ex-vacuous", m >= L);
    let text;
    if (m >= L) {
      const from = firstUsefulLength();
      text =
        `<b>Vacuous here.</b> m ≥ L = ${integer(L)}, and with m = L every matrix has an exact ` +
        `factorisation. ` +
        (from === null
          ? "At no length within reach does this method ask for less than L."
          : `From about L = ${from < 1000 ? from : scientific(from, 1)} on it asks for less than L.`);
    } else {
      text = `<b>${percent(m / L)} of L = ${integer(L)}.</b> `;
      if (method === "moment_curve") {
        text += "Enough for every L in real arithmetic, with logits that grow at least like L².";
      } else {
        text += `Enough for ${METHODS[method].scope} with probability at least ${Number((1 - state.eta).toPrecision(6))}.`;
      }
    }
    element("verdict").innerHTML = text;
    element("code").textContent = pythonCall();
    element("copy").textContent = "Copy";
  }

  function updateCurve() {
    const box = element("curve");
    const width = Math.max(box.clientWidth, 280);
    const height = Math.round(Math.min(300, width * 0.62));
    const [left, right, top, bottom] = [42, 12, 10, 40];
    const stride = state.method === "universal" ? 8 : 2; // T4's sums are long
    const lengths = LENGTHS.filter((L, i) => L >= state.k && i % stride === 0);
    const [sharp, closed] = ["sharp", "closed_form"].map((bound) =>
      lengths.map((L) => dim(state.method, bound, L)),
    );
    const necessary = ["radon", "packing"].map((bound) =>
      lengths.map((L) => math.necessaryDim(setting(state.method, L), bound)),
    );
    const [first, last] = [LENGTHS[0], LENGTHS[LENGTHS.length - 1]].map(Math.log10);
    const decades = Math.max(8, Math.ceil(Math.log10(Math.max(...closed))));
    const x = (L) => left + ((Math.log10(L) - first) / (last - first)) * (width - left - right);
    const y = (m) =>
      height - bottom - (Math.log10(Math.max(m, 1)) / decades) * (height - top - bottom);
    const line = (values, name) =>
      svg("polyline", {
        class: name,
        points: values.map((m, i) => `${x(lengths[i]).toFixed(1)},${y(m).toFixed(1)}`).join(" "),
      });
    const parts = [
      svg("polygon", {
        class: "ex-free",
        points: [
          [x(10 ** first), y(10 ** first)], [x(10 ** last), y(10 ** last)],
          [x(10 ** last), top], [x(10 ** first), top],
        ].map((point) => point.join(",")).join(" "),
      }),
    ];
    for (let decade = 0; decade <= decades; decade += decades > 8 ? 3 : 2) {
      const at = y(10 ** decade);
      parts.push(svg("line", { class: "ex-grid", x1: left, x2: width - right, y1: at, y2: at }));
      const label = decade ? `10${superscript(decade)}` : "1";
      parts.push(svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, label));
    }
    for (let decade = 2; decade <= 7; decade++) {
      const at = { x: x(10 ** decade), y: height - bottom + 17, "text-anchor": "middle" };
      parts.push(svg("text", at, `10${superscript(decade)}`));
    }
    const middle = (left + width - right) / 2;
    const [here, chosen] = [x(state.L), dim(state.method, "sharp")];
    parts.push(
      svg("text", { x: middle, y: height - 4, "text-anchor": "middle" }, "sequence length L"),
      svg("line", { class: "ex-here", x1: here, x2: here, y1: top, y2: height - bottom }),
      ...necessary.map((values) => line(values, "ex-need")),
      ONE_NUMBER.includes(state.method) ? "" : line(closed, "ex-closed"),
      line(sharp, "ex-sharp"),
      svg("text", { class: "ex-free-label", x: left + 8, y: top + 15 }, "m ≥ L: free"),
      svg("circle", { class: "ex-sharp", cx: here, cy: y(chosen), r: 5 }),
    );
    const label =
      `${methodName(state.method)}: m from ${integer(sharp[0])} at L = ${integer(lengths[0])} ` +
      `to ${integer(sharp[sharp.length - 1])} at L = ${integer(lengths[lengths.length - 1])}`;
    box.innerHTML = svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      parts.join(""),
    );
    element("curve-caption").innerHTML =
      `<b>${methodName(state.method)}</b>: ${symbol("m")} against ${symbol("L")}, ` +
      "the other settings as above";
  }

  // --- The picture ---------------------------------------------------------------------------

  let picture = null; // {key, target, build, theorem, dims, built, measured}

  /** The target and the method of the picture, prepared once for each setting. */
  function prepare() {
    const arguments_ = setting(state.shown, state.size);
    const key = JSON.stringify([arguments_, state.pattern]);
    if (picture?.key === key) return;
    const rng = math.generator(TARGET_SEED);
    const target = math.drawTarget({ ...arguments_, pattern: state.pattern }, rng);
    const { method, codes, ratioError, leak } = arguments_;
    const tau = arguments_.logitScale ?? math.defaultLogitScale(method, ratioError, leak);
    const theorem = math.requiredDim(arguments_);
    const dims = new Set([theorem]);
    for (let m = 1; m <= 4 * theorem; m *= 2 ** (1 / 6)) dims.add(Math.round(m));
    picture = {
      key,
      arguments: arguments_,
      target,
      theorem,
      dims: [...dims].sort((one, other) => one - other),
      build: math.builder(target, method, tau, codes),
    };
  }

  /** The m of the picture: the theorem's, or the nearest on the slider to what was set. */
  function pictureDim() {
    if (state.m === null) return picture.theorem;
    const distance = (m) => Math.abs(Math.log(m / state.m));
    return picture.dims.reduce((best, m) => (distance(m) < distance(best) ? m : best));
  }

  const meets = ({ ratioError, leak }) => ratioError <= state.eps1 && leak <= state.eps2;

  function updatePicture() {
    prepare();
    const m = pictureDim();
    const { dims, theorem, target } = picture;
    const input = element("m");
    input.max = dims.length - 1;
    input.value = dims.indexOf(m);
    input.setAttribute("aria-valuetext", integer(m));
    element("m-value").textContent = integer(m);
    const mark = element("mark");
    mark.textContent = `the theorem’s m = ${integer(theorem)}`;
    mark.parentElement.style.setProperty("--ex-at", dims.indexOf(theorem) / (dims.length - 1));
    picture.built = picture.build(m, math.generator(state.seed));
    picture.measured = picture.built && math.measure(picture.built, target);
    drawMatrices();
    writeReadings(m);
    element("share").textContent = "";
  }

  function writeReadings(m) {
    const { measured, theorem, target, arguments: arguments_ } = picture;
    const { ratioError = NaN, leak = NaN, totalVariation = NaN } = measured ?? {};
    const write = (id, value, asked) => {
      const box = element(id);
      const met = asked === undefined ? "" : value <= asked ? "ex-good" : "ex-bad";
      box.className = `ex-reading ${measured ? met : ""}`;
      const goal =
        asked === undefined
          ? "the largest of all rows"
          : `asked ≤ ${real(asked)}: ${value <= asked ? "met" : "missed"}`;
      box.querySelector("b").textContent =
        !measured ? "–" : value < 1e-9 ? "< 10⁻⁹" : real(value);
      box.querySelector("small").textContent = measured ? goal : "";
    };
    write("ratio", ratioError, state.eps1);
    write("leak", leak, state.eps2);
    write("tv", totalVariation);
    const verdict = element("met");
    const missed = measured ? measured.rows.filter((row) => !meets(row)).length : target.length;
    verdict.classList.toggle("ex-good", missed === 0);
    verdict.classList.toggle("ex-bad", missed > 0);
    verdict.innerHTML = !measured
      ? `<b>Impossible.</b> With m = ${m} below k = ${arguments_.rowNnz} the codes of a support ` +
        "are linearly dependent: no query interpolates."
      : missed
        ? `<b>Precision missed</b> in ${missed} of ${target.length} rows, at m = ${integer(m)}.`
        : `<b>Precision met</b> in all ${target.length} rows, at m = ${integer(m)}.`;
    const chance = math.failureProbability(m, arguments_);
    element("theory").textContent =
      `${METHODS[state.shown].id} at k = ${arguments_.rowNnz}, γ = ${real(state.gamma)}, ` +
      `ε₁ = ${real(state.eps1)}, ε₂ = ${real(state.eps2)}, as set above: ` +
      (chance >= 1
        ? "at this m it promises nothing."
        : `at this m a draw misses the precision with probability at most ${real(chance)}.`) +
      (m >= state.size
        ? ` Since m ≥ L = ${state.size}, an exact factorisation would be free: ` +
          "so short a sequence shows how it works, not what it saves."
        : "");
  }

  function drawMatrices() {
    const { target, measured } = picture;
    const length = target.length;
    const A = target.map(({ columns, weights }) => {
      const row = new Float64Array(length);
      columns.forEach((j, s) => (row[j] = weights[s]));
      return row;
    });
    const M = measured ? measured.rows.map(({ row }) => row) : A.map((row) => row.map(() => 0));
    const D = measured ? M.map((row, i) => row.map((value, j) => value - A[i][j])) : M;
    const largest = Math.max(...A.map((row) => Math.max(...row)));
    const { weight: stops, less, more } = scales();
    const weight = (value) => colour(stops, value / largest);
    const signed = (value) => colour(value < 0 ? less : more, Math.abs(value) / largest);
    const paint = (id, ...given) => paintOn(element(id), ...given);
    const top = Math.max(...D.map((row) => Math.max(...row.map(Math.abs))));
    paint("A", A, weight, `Target, ${PATTERNS[state.pattern]}, ${length} by ${length}`);
    paint("M", M, weight, measured ? "Attention that was computed" : "No attention matrix");
    paint("D", D, signed, `Difference, at most ${real(top)} in any entry`);
  }

  let drawing = 0; // the run of many draws that may still write

  /** Draw many times, a few at each frame, and say how often the precision was missed. */
  function drawMany() {
    const run = ++drawing;
    const { build, target } = picture;
    const m = pictureDim();
    const rng = math.generator(state.seed + 1e6);
    let [done, failed] = [0, 0];
    const button = element("many");
    button.disabled = true;
    function step() {
      if (run !== drawing) return;
      for (const end = Math.min(done + 5, MANY_DRAWS); done < end; done++) {
        const built = build(m, rng);
        if (!built || !meets(math.measure(built, target))) failed++;
      }
      if (done < MANY_DRAWS) {
        requestAnimationFrame(step);
        return;
      }
      button.disabled = false;
      element("share").innerHTML =
        `<b>${failed} of ${MANY_DRAWS}</b> further draws at m = ${integer(m)} missed the precision.`;
    }
    step();
  }

  // --- Acting on the reader ------------------------------------------------------------------

  let parts = new Set();

  /** Redraw at the next frame what the change of a control touches. */
  function refresh(...names) {
    if (parts.size === 0) {
      requestAnimationFrame(() => {
        const wanted = parts;
        parts = new Set();
        updateControls();
        if (wanted.has("dimensions")) [updateTable, updateHeadline, updateCurve].forEach((f) => f());
        if (wanted.has("picture")) {
          drawing++;
          element("many").disabled = false;
          updatePicture();
        }
      });
    }
    names.forEach((name) => parts.add(name));
  }

  function change(id, value, ...names) {
    state[id] = value;
    const pairs = Object.entries(state).filter(([, item]) => item !== null);
    history.replaceState(null, "", `#${new URLSearchParams(pairs)}`);
    refresh(...names);
  }

  /** Take the state from the address; values that no control has are left out. */
  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const [id, values] of Object.entries(CHOICES)) {
      const value = values.find((item) => String(item) === given.get(id));
      if (value !== undefined) state[id] = value;
    }
    for (const [id, absent] of [["m", null], ["seed", 1]]) {
      const value = Number(given.get(id));
      if (given.has("L")) state[id] = Number.isSafeInteger(value) && value > 0 ? value : absent;
    }
  }

  async function copy() {
    const code = element("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      element("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: leave it selected
      element("copy").textContent = "Selected";
    }
  }

  function listen() {
    for (const [id, { values }] of Object.entries(CONTROLS)) {
      const touched = ["L", "R", "bits"].includes(id) ? [] : ["picture"];
      element(id).addEventListener("input", (event) =>
        change(id, values[event.target.value], "dimensions", ...touched),
      );
    }
    element("method").addEventListener("change", (event) =>
      change("method", event.target.value, "dimensions"),
    );
    for (const id of ["shown", "pattern"]) {
      element(id).addEventListener("change", (event) => change(id, event.target.value, "picture"));
    }
    element("size").addEventListener("change", (event) =>
      change("size", Number(event.target.value), "picture"),
    );
    element("m").addEventListener("input", (event) =>
      change("m", picture.dims[event.target.value], "picture"),
    );
    element("draw").addEventListener("click", () => change("seed", state.seed + 1, "picture"));
    element("theorem").addEventListener("click", () => change("m", null, "picture"));
    element("many").addEventListener("click", drawMany);
    element("copy").addEventListener("click", copy);
    addEventListener("hashchange", () => {
      readAddress();
      refresh("dimensions", "picture");
    });
    new ResizeObserver(() => refresh("dimensions")).observe(element("curve"));
    onTheme(() => refresh("picture"));
  }

  function start() {
    document.getElementById("explorer-dimensions").innerHTML = DIMENSIONS();
    document.getElementById("explorer-picture").innerHTML = PICTURE();
    const axis = document.querySelector(".ex-axis");
    for (let decade = 0; decade <= DECADES; decade += 3) {
      const tick = document.createElement("span");
      tick.textContent = decade ? `10${superscript(decade)}` : "1";
      tick.style.left = position(10 ** decade);
      axis.append(tick);
    }
    readAddress();
    listen();
    updateControls();
    updateTable();
    updateHeadline();
    updateCurve();
    updatePicture();
  }

  start();
  Object.assign(math, { CHOICES, state: () => ({ ...state }), picture: () => picture });
})();
