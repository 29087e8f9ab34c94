/* What the book's interactive parts share: random numbers, numbers in words, controls, charts,
 * matrices. Everything hangs on the one global name JLWidgets. */
"use strict";

globalThis.JLWidgets = (() => {
  const { abs, ceil, exp, floor, log, log10, max, min, sqrt } = Math;

  // --- Random numbers ------------------------------------------------------------------------

  /** A seeded generator: {uniform(), normal(), chi(n), permutation(n)}. */
  function generator(seed) {
    let state = seed >>> 0;
    function word() { // mulberry32
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (t ^ (t >>> 14)) >>> 0;
    }
    const uniform = () => ((word() >>> 5) * 67108864 + (word() >>> 6) + 0.5) / 9007199254740992;
    let spare = null;
    function normal() {
      if (spare !== null) {
        const value = spare;
        spare = null;
        return value;
      }
      const radius = sqrt(-2 * log(uniform()));
      const angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    }
    /** The length of a standard normal vector of R^n (Marsaglia and Tsang 2000). */
    function chi(n) {
      const shape = n / 2 + (n < 2 ? 1 : 0);
      const d = shape - 1 / 3;
      for (;;) {
        const x = normal();
        const v = (1 + x / sqrt(9 * d)) ** 3;
        if (v > 0 && log(uniform()) < (x * x) / 2 + d - d * v + d * log(v)) {
          return sqrt(2 * d * v * (n < 2 ? uniform() ** (2 / n) : 1));
        }
      }
    }
    function permutation(n) {
      const order = Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = floor(uniform() * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
      }
      return order;
    }
    return { uniform, normal, chi, permutation };
  }

  // --- Words and numbers ---------------------------------------------------------------------

  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);

  function scientific(x, digits = 2) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
    const power10 = `10${superscript(Number(exponent))}`;
    return mantissa === "1" ? power10 : `${mantissa} × ${power10}`;
  }

  const integer = (n) =>
    n >= 1e8 ? scientific(n) : n >= 1e4 ? n.toLocaleString("en-US") : String(n);

  function real(x) {
    if (!Number.isFinite(x)) return x < 0 ? "−∞" : "∞";
    if (x !== 0 && (abs(x) < 1e-3 || abs(x) >= 1e5)) return scientific(x);
    return x >= 100 ? integer(Math.round(x)) : String(Number(x.toPrecision(2)));
  }

  const percent = (share) => `${Number((100 * share).toPrecision(2))}%`;

  // --- Controls ------------------------------------------------------------------------------

  const symbol = (text) => `<span class="ex-symbol">${text}</span>`;

  const slider = (id, label, first, last, value, step = 1) => `
    <div class="ex-control">
      <label for="${id}">${label}</label>
      <output id="${id}-value" for="${id}"></output>
      <input type="range" id="${id}" min="${first}" max="${last}" step="${step}" value="${value}">
    </div>`;

  const select = (id, label, names) => `
    <div class="ex-control ex-select">
      <label for="${id}">${label}</label>
      <select id="${id}">${Object.entries(names)
        .map(([value, name]) => `<option value="${value}">${name}</option>`)
        .join("")}</select>
    </div>`;

  /** Say a slider's value in its output and to a screen reader. */
  function say(id, text) {
    document.getElementById(`${id}-value`).textContent = text;
    document.getElementById(id).setAttribute("aria-valuetext", text);
  }

  /** Fill an element; draw now, and again when a control, the width or the theme changes. */
  function mount(id, html, draw) {
    const root = document.getElementById(id);
    root.innerHTML = html;
    let [waiting, width] = [false, root.clientWidth];
    function refresh() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        draw();
      });
    }
    root.addEventListener("input", refresh);
    new ResizeObserver(() => {
      if (root.clientWidth !== width) refresh();
      width = root.clientWidth;
    }).observe(root);
    onTheme(refresh);
    draw();
    return refresh;
  }

  const onTheme = (refresh) =>
    new MutationObserver(refresh).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });

  // --- Charts and matrices -------------------------------------------------------------------

  const svg = (name, attributes, text = "") => {
    const pairs = Object.entries(attributes).map(([key, value]) => `${key}="${value}"`);
    return `<${name} ${pairs.join(" ")}>${text}</${name}>`;
  };

  /** Where the ticks of an axis {low, high, log} are, and what they say. */
  function ticks({ low, high, log: logarithmic }) {
    if (logarithmic) {
      const [first, last] = [ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9)];
      const every = ceil((last - first) / 6) || 1;
      const name = (d) =>
        abs(d) < 3 ? String(Number((10 ** d).toPrecision(1))) : `10${superscript(d)}`;
      return Array.from({ length: floor((last - first) / every) + 1 }, (_, i) => {
        const decade = first + i * every;
        return [10 ** decade, name(decade)];
      });
    }
    const rough = (high - low) / 5;
    const unit = 10 ** floor(log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough * 0.999);
    const first = ceil(low / step - 1e-9);
    return Array.from({ length: floor(high / step + 1e-9) - first + 1 }, (_, i) => {
      const value = Number(((first + i) * step).toPrecision(10));
      return [value, integer(value).replace("-", "−")];
    });
  }

  /**
   * A chart with the axes {low, high, log, label, bare} in a box; `marks` is given
   * {x, y, top, bottom, left, right, line} in pixels and returns what to draw.
   */
  function chart(box, { x: xAxis, y: yAxis, label, ratio = 0.55 }, marks) {
    const width = max(box.clientWidth, 260);
    const height = Math.round(min(320, max(190, width * ratio)));
    const [left, right, top, bottom] = [46, width - 12, 10, height - 40];
    const scale = ({ low, high, log: logarithmic }, from, to) => {
      const f = logarithmic ? log : (value) => value;
      const share = (value) => (f(min(max(value, low), high)) - f(low)) / (f(high) - f(low));
      return (value) => from + share(value) * (to - from);
    };
    const [x, y] = [scale(xAxis, left, right), scale(yAxis, bottom, top)];
    const text = (attributes, content) => svg("text", attributes, content);
    const line = (points, name) =>
      svg("polyline", {
        class: name,
        points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
      });
    const parts = [];
    for (const [value, name] of yAxis.bare ? [] : ticks(yAxis)) {
      parts.push(svg("line", { class: "ex-grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
      parts.push(text({ x: left - 6, y: y(value) + 4, "text-anchor": "end" }, name));
    }
    for (const [value, name] of ticks(xAxis)) {
      parts.push(text({ x: x(value), y: bottom + 17, "text-anchor": "middle" }, name));
    }
    const middle = { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" };
    parts.push(text(middle, xAxis.label), ...marks({ x, y, top, bottom, left, right, line }));
    box.innerHTML = svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      parts.join(""),
    );
  }

  /** Colours of the scale from 0 to 1, as [red, green, blue]. */
  const SCALES = {
    light: {
      weight: [[255, 255, 255], [158, 202, 225], [33, 113, 181], [8, 48, 107]],
      less: [[255, 255, 255], [0, 114, 178]],
      more: [[255, 255, 255], [213, 94, 0]],
    },
    dark: {
      weight: [[24, 27, 32], [16, 78, 130], [86, 180, 233], [225, 242, 255]],
      less: [[24, 27, 32], [86, 180, 233]],
      more: [[24, 27, 32], [245, 130, 40]],
    },
  };
  const scales = () => SCALES[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];

  function colour(stops, share) {
    const at = min(max(share, 0), 1) * (stops.length - 1);
    const index = min(floor(at), stops.length - 2);
    return stops[index].map((value, c) => value + (at - index) * (stops[index + 1][c] - value));
  }

  /** Paint a matrix on a canvas, a pixel an entry. */
  function paint(canvas, rows, pick, label) {
    [canvas.width, canvas.height] = [rows[0].length, rows.length];
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    rows.forEach((row, i) =>
      row.forEach((value, j) => image.data.set([...pick(value), 255], 4 * (i * row.length + j))),
    );
    context.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", label);
  }

  return {
    generator, superscript, scientific, integer, real, percent,
    symbol, slider, select, say, mount, onTheme, svg, chart, scales, colour, paint,
  };
})();
