/* The arithmetic of the explorer: dimensions, random codes, constructions, measurements.
 *
 * The same definitions as the package (jl_attention.theory, .methods, .precision), to which
 * tests/browser/test_explorer.py compares every function here. No page, no state: over
 * widgets.js, tails.js and queries.js, everything hangs on the one global name JLExplorer.
 */
"use strict";

globalThis.JLExplorer = (() => {
  const { log, log1p, exp, expm1, sqrt, ceil, floor, max, min, abs } = Math;
  const { generator } = globalThis.JLWidgets;
  const { excess, correlatedExponent, logBeta, studentLogTail, logBinomial, logSum, leastDim } =
    globalThis.JLTails;
  const { zeros, dot, transpose, orthogonalise, leastNormQuery } = globalThis.JLQueries;

  // --- Tails and exponents -------------------------------------------------------------------

  const polarisationExponent = (e) => e * e * (1 / 4 - e / 6);
  const innerProductExponent = (e) => excess(e) / 2;

  function orthogonalExponent(e) {
    const z = (2 * e * e) / (1 + sqrt(1 + 4 * e * e));
    return z - log1p(z) / 2;
  }

  // --- Tight codes: jl_attention.theory.frames --------------------------------------------------

  /**
   * log P(a logit off the support exceeds theta ||b||) with tight codes, -Infinity from m = L on.
   *
   * The mean of P(u_1^2 > theta^2 x), u uniform on the sphere of R^(L-k), over x = beta/(1 - beta),
   * beta of the law Beta((m-k+1)/2, (L-m)/2). With theta^2 x = 1/(1 + e^-v) the integrand in v falls
   * exponentially at both ends, and the trapezoidal rule is exact up to rounding.
   */
  function tightLogTail(dim, length, k, theta) {
    if (dim >= length) return -Infinity;
    if (dim < k) return 0;
    const [a, b, others] = [(dim - k + 1) / 2, (length - dim) / 2, length - k];
    const softplus = (v) => max(v, 0) + log1p(exp(-abs(v)));
    const constant = logBeta(a, b);
    function integrand(v, logCap) {
      const logX = -softplus(-v) - 2 * log(theta);
      return a * logX - (a + b) * softplus(logX) - constant - softplus(v) + logCap(v);
    }
    const bound = (v) => integrand(v, () => (-(others - 1) / 2) * softplus(v));
    const cap = (v) => (others === 1 ? -log(2) : studentLogTail(others - 1, exp(v / 2)));
    let [peak, step] = [0, 50]; // the bound of the cap has the integrand's shape
    for (; step > 1e-4; step /= 4) {
      for (const side of [-step, step]) while (bound(peak + side) > bound(peak)) peak += side;
    }
    const least = bound(peak) - 45;
    const [left, right] = [-1, 1].map((side) => {
      let reach = 1e-4;
      while (bound(peak + side * reach) > least) reach *= 1.2;
      return reach;
    });
    const h = (left + right) / 320;
    const logs = Array.from({ length: 321 }, (_, i) => integrand(peak - left + i * h, cap));
    return logSum(logs) + log(h);
  }

  // --- Max-margin: jl_attention.theory.absorption -----------------------------------------------

  /** Coefficients of Weideman's rational approximation of exp(u^2) erfc(u), Re u >= 0. */
  const ERFCX_SCALE = sqrt(40 / Math.SQRT2);
  const ERFCX = Array.from({ length: 40 }, (_, n) => {
    let sum = ERFCX_SCALE ** 2; // the sample at angle 0
    for (let sample = 1; sample < 80; sample++) {
      const angle = (sample * Math.PI) / 80;
      const t = ERFCX_SCALE * Math.tan(angle / 2);
      const value = exp(-t * t) * (ERFCX_SCALE ** 2 + t * t);
      sum += 2 * value * Math.cos((n + 1) * angle);
    }
    return sum / 160;
  });

  /** exp(u^2) erfc(u) for u = x + iy, x >= 0, as [real, imaginary]. */
  function erfcx(x, y = 0) {
    const size = (ERFCX_SCALE + x) ** 2 + y * y;
    const [re, im] = [(ERFCX_SCALE + x) / size, -y / size]; // 1/(scale + u)
    const [zRe, zIm] = [2 * ERFCX_SCALE * re - 1, 2 * ERFCX_SCALE * im];
    let [sumRe, sumIm] = [0, 0];
    for (let n = ERFCX.length - 1; n >= 0; n--) {
      [sumRe, sumIm] = [sumRe * zRe - sumIm * zIm + ERFCX[n], sumRe * zIm + sumIm * zRe];
    }
    const [re2, im2] = [2 * (re * re - im * im), 4 * re * im];
    const root = sqrt(Math.PI);
    return [
      sumRe * re2 - sumIm * im2 + re / root,
      sumRe * im2 + sumIm * re2 + im / root,
    ];
  }

  /** log Phi(z) and phi(z)/Phi(z). */
  function normal(z) {
    const scaled = erfcx(abs(z) / Math.SQRT2)[0] / 2;
    const density = exp((-z * z) / 2);
    const logPhi = z < 0 ? log(scaled) - (z * z) / 2 : log1p(-density * scaled);
    const mills = z < 0 ? 1 / scaled : density / (1 - density * scaled);
    return [logPhi, mills / sqrt(2 * Math.PI)];
  }

  /** The zero of n phi/Phi - a z from a start, and the slope there. */
  function saddle(n, a, start) {
    for (let [z, step] = [start, 0]; ; step++) {
      const mills = normal(z)[1];
      const slope = -n * mills * (mills + z) - a;
      const move = (n * mills - a * z) / slope;
      z -= move;
      if (abs(move) <= 1e-9 * (1 + abs(z)) || step === 60) return [z, slope];
    }
  }

  /** log of the mean of Phi(z)^n over z of variance 1/a. */
  function logExternalAngle(n, a) {
    const [peak, slope] = saddle(n, a, 0);
    const width = 1 / sqrt(-slope);
    const [low, high] = [peak - 9 * width, peak + 9 / sqrt(a)];
    const count = ceil((high - low) / width / 0.4);
    const logs = Array.from({ length: count + 1 }, (_, i) => {
      const z = low + ((high - low) * i) / count;
      return n * normal(z)[0] - (a * z * z) / 2;
    });
    return logSum(logs) + log((high - low) / count) + log(a / (2 * Math.PI)) / 2;
  }

  /** log P(a Gaussian vector of R^j with covariance I - J/(k+j) is positive). */
  function logInternalAngle(k, j) {
    const a = k + j;
    const [z0, curvature] = saddle(j, -a, -sqrt(j / k));
    const reach = 9 / sqrt(k);
    const count = ceil((reach * sqrt(curvature)) / 0.4);
    let [top, sum] = [0, 0];
    for (let i = 0; i <= count; i++) {
      const y = (reach * i) / count;
      const [re, im] = erfcx(-z0 / Math.SQRT2, -y / Math.SQRT2);
      const size = j * log(Math.hypot(re, im) / 2) + (k * (z0 * z0 - y * y)) / 2;
      if (i === 0) top = size;
      sum += (i ? 2 : 1) * exp(size - top) * Math.cos(j * Math.atan2(im, re) + k * z0 * y);
    }
    return top + log((sum * reach) / count) + log(a / (2 * Math.PI)) / 2;
  }

  /** log p(L, m, k), the probability that a support has no query; from `enough` on any bound. */
  function logInfeasible(dim, length, k, enough = 0) {
    const [n, nu] = [length - k, dim - k + 1];
    if (nu < 1) return n || nu < 0 ? 0 : -Infinity;
    let [total, last] = [-Infinity, -Infinity];
    for (let j = nu + 1; j <= n && total + log(2) <= enough; j += 2) {
      const term =
        logBinomial(n, j) + logInternalAngle(k, j) + logExternalAngle(n - j, k + j);
      total = logSum([total, term]);
      if (term < min(last, total - 30)) break;
      last = term;
    }
    return min(log(2) + total, 0);
  }

  /** jl_attention.required_dim of max-margin queries, `scope` "pattern" or "every_support". */
  function maxMarginDim({ length, rowNnz: k, failureProb, scope }) {
    const rows = scope === "every_support" ? logBinomial(length, k) : log(length);
    const allowed = log(failureProb) - rows;
    const fails = (m) => logInfeasible(m, length, k, allowed) > allowed;
    let low = min(k, max(length - 1, 1));
    let high = max(low, ceil(2 * k * lambertW(length / (2 * k)))); // about half of the rows
    while (fails(high)) [low, high] = [high + 1, ceil(1.25 * high)];
    while (low < high) {
      const middle = floor((low + high) / 2);
      if (fails(middle)) low = middle + 1;
      else high = middle;
    }
    return high;
  }

  // --- Dimensions ----------------------------------------------------------------------------

  const PROJECTIONS = ["svd_projection", "row_projection"];
  const SCALE_FACTOR = 3;

  const logitTolerance = (eps1) => 0.5 * log1p(eps1);
  const offSupportTolerance = (eps1, eps2, tau) => tau + log(eps2) - logitTolerance(eps1);

  /** tau where none is given: the least for the projections, 3 log(1/eps2) for the others here. */
  function defaultLogitScale(method, eps1, eps2) {
    return PROJECTIONS.includes(method) ? log1p(eps1) - log(eps2) : -SCALE_FACTOR * log(eps2);
  }

  /** One theorem for a class of targets: {least, closed(logEta), sharp(m), logFailure(m)}. */
  function theorem({ length, rowNnz, method, codes, maxRatio, ratioError, leak, logitScale }) {
    const k = rowNnz;
    const tau = logitScale ?? defaultLogitScale(method, ratioError, leak);
    const beta = tau + log(maxRatio);
    const logPairs = 2 * log(length);
    if (method === "interpolate") {
      const theta = offSupportTolerance(0, leak, tau) / (beta * sqrt(k));
      const rate = log1p(theta * theta) / 2;
      const pairs = log(length * (length - 1));
      const some = min(k, length - 1); // a row that attends to all tokens leaks nowhere
      const sharp = (m) =>
        pairs +
        (codes === "tight"
          ? tightLogTail(m, length, some, theta)
          : studentLogTail(max(m - some + 1, 1), theta));
      return {
        least: k,
        closed: (logEta) => ceil(k - 1 + max(1, (logPairs - log(2) - logEta) / rate)),
        sharp,
        logFailure: sharp,
      };
    }
    const norm = beta * (method === "svd_projection" ? k : sqrt(k));
    const sides = method === "svd_projection" ? 2 : 1;
    const epsOn = logitTolerance(ratioError) / norm;
    const epsOff = offSupportTolerance(ratioError, leak, tau) / norm;
    const rate = polarisationExponent(min(epsOn, epsOff));
    const [on, off] = [innerProductExponent(epsOn), orthogonalExponent(epsOff)];
    const [onPairs, offPairs] = [log(2 * k * length), log(sides * length * length)];
    // In differences of logits: ratios and leaks, each one inner product of norm N.
    const N = Math.SQRT2 * norm;
    const ratio = correlatedExponent((2 * logitTolerance(ratioError)) / N, log(maxRatio) / N);
    const leaks = correlatedExponent(offSupportTolerance(0, leak, tau) / N, -tau / N);
    const some = min(k, floor(length / 2));
    const [ratioEvents, leakEvents] = [length * k * (k - 1), length * some * (length - some)];
    return {
      least: 1,
      closed: (logEta) => ceil(max(1, (logPairs + log(4) - logEta) / rate)),
      sharp: (m) => logSum([onPairs - m * on, offPairs - m * off]),
      logFailure: (m) => logSum([log(ratioEvents) - m * ratio, log(leakEvents) - m * leaks]),
    };
  }

  /** jl_attention.required_dim, with `bound` "differences", "sharp", "closed_form" or its default. */
  function requiredDim(setting, bound) {
    const { length, rowNnz, method, failureProb } = setting;
    if (method === "moment_curve") return 2 * rowNnz;
    if (method === "max_margin") return maxMarginDim(setting);
    const { least, closed, sharp, logFailure } = theorem(setting);
    const high = closed(log(failureProb)); // enough in every form
    if (bound === "closed_form") return high;
    return leastDim(bound === "sharp" ? sharp : logFailure, log(failureProb), least, high);
  }

  /** jl_attention.failure_probability in its default form. */
  function failureProbability(dim, setting) {
    const { least, logFailure } = theorem(setting);
    return dim < least ? 1 : exp(min(logFailure(dim), 0));
  }

  /** w e^w = x for x > 0, by Newton's method on w + log w = log x. */
  function lambertW(x) {
    let w = x < 3 ? x / (1 + x) : log(x) - log(log(x));
    for (let step = 0; step < 50; step++) {
      const next = (w * (1 + log(x / w))) / (1 + w);
      if (abs(next - w) <= 1e-16 * w) break;
      w = next;
    }
    return w;
  }

  /** jl_attention.universal_dim by its route "supports". */
  function universalDim(setting, bound = "sharp") {
    const { length, rowNnz: k, maxRatio, leak, failureProb, logitScale } = setting;
    const tau = logitScale ?? defaultLogitScale("interpolate", 0, leak);
    const allowed = offSupportTolerance(0, leak, tau) / tau;
    const largest = (tau + log(maxRatio)) / tau;
    const logEta = log(failureProb);
    const terms = [];
    for (let size = 1; size <= k; size++) {
      const rows = logBinomial(length, size) + log(length - size);
      for (let raised = 0; raised < (maxRatio === 1 ? 1 : size); raised++) {
        const rise = allowed / sqrt(raised * largest ** 2 + (size - raised));
        terms.push({ size, pairs: rows + logBinomial(size, raised), rise });
      }
    }
    const rate = log1p(allowed ** 2 / (k * largest ** 2)) / 2;
    const allPairs = logSum(terms.map((term) => term.pairs));
    const closed = max(1, ceil((allPairs - log(2) - logEta) / rate)) + k - 1;
    if (bound === "closed_form") return closed;
    /** Terms are visited from the largest bound down, until the rest no longer counts. */
    function logFailure(m) {
      const bounds = terms
        .map((term) => ({
          ...term,
          nu: m - term.size + 1,
          most: term.pairs - ((m - term.size + 1) / 2) * log1p(term.rise ** 2),
        }))
        .sort((one, other) => other.most - one.most);
      const logs = [];
      let top = -Infinity;
      for (const { pairs, rise, nu, most } of bounds) {
        if (most < top - 45) break;
        logs.push(pairs + studentLogTail(nu, rise));
        top = max(top, logs[logs.length - 1]);
      }
      return logSum(logs);
    }
    return leastDim(logFailure, logEta, k, closed);
  }

  const roundUp = (bound) => max(ceil(bound * (1 - 1e-12) - 1e-9), 0);

  /** jl_attention.necessary_dim; for "packing" X is chosen for the pattern (fixed_keys=False). */
  function necessaryDim({ length, rowNnz, scaleRatio, bits }, bound) {
    if (bound === "radon") {
      let largest = 0;
      while (4 ** (largest + 1) <= length + 1) largest++;
      return 2 * min(rowNnz, largest);
    }
    const patterns = logBinomial(length, rowNnz);
    if (bound === "bits") return roundUp(patterns / log(2) / bits);
    return roundUp(patterns / (log1p(8 * scaleRatio) + log1p(4 * scaleRatio)));
  }

  // --- Targets -------------------------------------------------------------------------------

  /** Supports of a pattern with k nonzeros in each row: an array of column arrays. */
  function supports(pattern, length, k, rng) {
    if (pattern === "random") return regularSupports(length, k, rng);
    return Array.from({ length }, (_, i) => {
      const first = pattern === "window" ? max(0, i - k + 1) : floor(i / k) * k;
      const last = pattern === "window" ? i : min(first + k, length) - 1;
      return Array.from({ length: last - first + 1 }, (_, j) => first + j);
    });
  }

  /** k disjoint random permutations; a row that repeats itself swaps with a random other row. */
  function regularSupports(length, k, rng) {
    const rows = Array.from({ length }, () => []);
    for (let step = 0; step < k; step++) {
      const drawn = rng.permutation(length);
      for (let row = 0; row < length; row++) {
        while (rows[row].includes(drawn[row])) {
          const other = floor(rng.uniform() * length);
          if (!rows[row].includes(drawn[other]) && !rows[other].includes(drawn[row])) {
            [drawn[row], drawn[other]] = [drawn[other], drawn[row]];
          }
        }
      }
      rows.forEach((row, i) => row.push(drawn[i]));
    }
    return rows;
  }

  /** A target as rows of {columns, weights}, log-uniform weights of ratio `maxRatio` in a row. */
  function drawTarget({ pattern, length, rowNnz, maxRatio }, rng) {
    return supports(pattern, length, rowNnz, rng).map((columns) => {
      const draws = columns.map(() => rng.uniform());
      const [low, high] = [min(...draws), max(...draws)];
      const spread = high > low ? high - low : 1;
      const weights = draws.map((draw) => maxRatio ** ((draw - low) / spread));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      return { columns, weights: weights.map((weight) => weight / sum) };
    });
  }

  /** B on the support: tau + log(A_ij / min A_i.), an array a row. */
  function targetLogits(target, tau) {
    return target.map(({ weights }) => {
      const smallest = min(...weights);
      return weights.map((weight) => tau + log(weight / smallest));
    });
  }

  // --- Constructions -------------------------------------------------------------------------

  /**
   * L independent standard normal codes of R^m.
   *
   * For m >= L they come in an orthonormal basis of their own span, L coordinates each: by
   * Bartlett's decomposition a lower triangle of normals under a diagonal of chi variables. Inner
   * products, which are all that attention sees, have the same law, whatever m.
   */
  function drawCodes(length, dim, rng) {
    if (dim < length) {
      return zeros(length, dim).map((code) => code.map(() => rng.normal()));
    }
    return zeros(length, length).map((code, j) =>
      code.map((_, i) => (i < j ? rng.normal() : i === j ? rng.chi(dim - j) : 0)),
    );
  }

  /** A tight frame: the columns of normal codes made orthogonal, of length sqrt(L). */
  function tightCodes(length, dim, rng) {
    const columns = zeros(min(dim, length), length).map((column) => column.map(() => rng.normal()));
    return transpose(orthogonalise(columns));
  }

  /** The halves U Sigma^(1/2) and V Sigma^(1/2) of B's SVD, by one-sided Jacobi rotations. */
  function balancedFactors(target, logits) {
    const length = target.length;
    const W = zeros(length, length); // rows: the columns of B V, in the end sigma_j u_j
    const V = zeros(length, length); // rows: the columns of V
    target.forEach(({ columns }, i) => columns.forEach((j, s) => (W[j][i] = logits[i][s])));
    V.forEach((row, j) => (row[j] = 1));
    function rotate(x, y, cosine, sine) {
      for (let i = 0; i < length; i++) {
        const [a, b] = [x[i], y[i]];
        x[i] = cosine * a - sine * b;
        y[i] = sine * a + cosine * b;
      }
    }
    for (let sweep = 0, rotated = true; rotated && sweep < 60; sweep++) {
      rotated = false;
      for (let p = 0; p < length; p++) {
        for (let q = p + 1; q < length; q++) {
          const [pp, qq, pq] = [dot(W[p], W[p]), dot(W[q], W[q]), dot(W[p], W[q])];
          if (abs(pq) <= 1e-15 * sqrt(pp * qq) || pq === 0) continue;
          rotated = true;
          const zeta = (qq - pp) / (2 * pq);
          const tangent = (zeta < 0 ? -1 : 1) / (abs(zeta) + sqrt(1 + zeta * zeta));
          const cosine = 1 / sqrt(1 + tangent * tangent);
          rotate(W[p], W[q], cosine, cosine * tangent);
          rotate(V[p], V[q], cosine, cosine * tangent);
        }
      }
    }
    const [left, right] = [zeros(length, length), zeros(length, length)];
    const sigma = W.map((column) => sqrt(dot(column, column)));
    const cut = 1e-13 * max(...sigma);
    for (let j = 0; j < length; j++) {
      if (sigma[j] <= cut) continue;
      const root = sqrt(sigma[j]);
      for (let i = 0; i < length; i++) {
        left[i][j] = W[j][i] / root;
        right[i][j] = V[j][i] * root;
      }
    }
    return { left, right };
  }

  function multiply(A, B) {
    return A.map((row) => {
      const out = new Float64Array(B[0].length);
      row.forEach((a, l) => {
        if (a !== 0) for (let j = 0; j < out.length; j++) out[j] += a * B[l][j];
      });
      return out;
    });
  }

  /**
   * Prepare a method for one target; the function returned builds {queries, keys} for one m and
   * one draw, or null where the method cannot work at that m.
   */
  function builder(target, method, tau, kind = "gaussian") {
    const logits = targetLogits(target, tau);
    const length = target.length;
    const factors = method === "svd_projection" ? balancedFactors(target, logits) : null;
    return (dim, rng) => {
      const codes = (kind === "tight" ? tightCodes : drawCodes)(length, dim, rng);
      if (method === "interpolate") {
        const queries = target.map(({ columns }, i) =>
          columns.length > dim ? null : leastNormQuery(columns.map((j) => codes[j]), logits[i]),
        );
        return queries.includes(null) ? null : { queries, keys: codes };
      }
      const projection = codes.map((code) => code.map((x) => x / sqrt(dim)));
      if (factors) {
        const [queries, keys] = [factors.left, factors.right].map((F) => multiply(F, projection));
        return { queries, keys };
      }
      const queries = target.map(({ columns }, i) => {
        const query = new Float64Array(projection[0].length);
        columns.forEach((j, s) => projection[j].forEach((c, t) => (query[t] += logits[i][s] * c)));
        return query;
      });
      return { queries, keys: projection };
    };
  }

  /** The attention matrix and how well it meets the target: jl_attention.measure, row by row. */
  function measure({ queries, keys }, target) {
    const rows = target.map(({ columns, weights }, i) => {
      const logits = Float64Array.from(keys, (key) => dot(queries[i], key));
      const top = max(...logits);
      const attention = logits.map((value) => exp(value - top));
      const sum = attention.reduce((total, weight) => total + weight, 0);
      const row = attention.map((weight) => weight / sum);
      const deviations = columns.map((j, s) => logits[j] - log(weights[s]));
      const lowest = min(...columns.map((j) => logits[j]));
      const onSupport = columns.reduce((total, j, s) => total + abs(row[j] - weights[s]), 0);
      columns.forEach((j) => (logits[j] = -Infinity));
      const offMass = row.reduce((total, w, j) => (logits[j] > -Infinity ? total + w : total), 0);
      return {
        row,
        ratioError: expm1(max(...deviations) - min(...deviations)),
        leak: exp(max(...logits) - lowest),
        totalVariation: 0.5 * (onSupport + offMass),
      };
    });
    const worst = (name) => max(...rows.map((row) => row[name]));
    return {
      rows,
      ratioError: worst("ratioError"),
      leak: worst("leak"),
      totalVariation: worst("totalVariation"),
    };
  }

  return {
    requiredDim, universalDim, necessaryDim, failureProbability, studentLogTail, tightLogTail,
    logInfeasible, defaultLogitScale, generator, drawCodes, drawTarget, builder, measure,
  };
})();
