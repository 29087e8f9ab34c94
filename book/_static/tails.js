/* Tails: exact ones of Student's t and of chi-square, the exponent of an inner product's, and the
 * least m at which one is small enough.
 * Everything hangs on the one global name JLTails. */
"use strict";

globalThis.JLTails = (() => {
  const { abs, exp, expm1, floor, log, log1p, max, sqrt } = Math;

  /** x - log(1+x) without cancellation near 0. */
  function excess(x) {
    if (abs(x) >= 0.3) return x - log1p(x);
    const y = x / (2 + x);
    let series = 0;
    for (let power = 23; power > 1; power -= 2) series = series * y * y + 1 / power;
    return x * y - 2 * y ** 3 * series;
  }

  /** The exponent of P(<Gx,Gy> - rho > e) for unit vectors of correlation rho. */
  function correlatedExponent(e, rho) {
    const [q, t] = [(1 - rho) * (1 + rho), rho + e];
    const [linear, root] = [q + 2 * rho * t, Math.hypot(q, 2 * t)];
    const s = linear >= 0 ? (2 * e) / (linear + root) : (root - linear) / (2 * t * q);
    return s * e - (excess(-(1 + rho) * s) + excess((1 - rho) * s)) / 2;
  }

  /** What Stirling's formula leaves of log Gamma(x), exact to rounding from x = 20 on. */
  const stirling = (x) =>
    (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * x * x)) / (x * x)) / (x * x)) / x;

  /** log B(a, b): both raised to where Stirling's series is exact. */
  function logBeta(a, b) {
    let raised = 0; // B(a, b) = B(a + 1, b) (a + b)/a
    for (; a < 20; a++) raised += log1p(b / a);
    for (; b < 20; b++) raised += log1p(a / b);
    const main = (0.5 - a) * log1p(b / a) - b * log1p(a / b) + log((2 * Math.PI) / b) / 2;
    return raised + main + stirling(a) + stirling(b) - stirling(a + b);
  }

  /** The continued fraction of the incomplete beta function, by Lentz's method. */
  function betaFraction(a, b, x) {
    const tiny = 1e-300;
    let c = 1;
    let d = 1 / (1 - ((a + b) * x) / (a + 1) || tiny);
    let value = d;
    for (let n = 1; n < 100000; n++) {
      const even = (n * (b - n) * x) / ((a + 2 * n - 1) * (a + 2 * n));
      const odd = (-(a + n) * (a + b + n) * x) / ((a + 2 * n) * (a + 2 * n + 1));
      let change = 1;
      for (const term of [even, odd]) {
        d = 1 / (1 + term * d || tiny);
        c = 1 + term / c || tiny;
        change = c * d;
        value *= change;
      }
      if (abs(change - 1) < 1e-16) break;
    }
    return value;
  }

  /** log P(t_nu >= sqrt(nu) theta), theta >= 0, nu a positive integer: log of I_x(nu/2, 1/2)/2. */
  function studentLogTail(nu, theta) {
    const a = nu / 2;
    const rate = log1p(theta * theta);
    const x = exp(-rate);
    const y = -expm1(-rate);
    const front = -a * rate + log(y) / 2 - logBeta(a, 0.5);
    if (x < (a + 1) / (a + 2.5)) return front - log(a) + log(betaFraction(a, 0.5, x)) - log(2);
    return log1p(-exp(front) * 2 * betaFraction(0.5, a, y)) - log(2);
  }

  /** log C(n, k) for small k. */
  function logBinomial(n, k) {
    let total = 0;
    for (let i = 0; i < k; i++) total += log((n - i) / (i + 1));
    return total;
  }

  function logSum(logs) {
    const top = max(...logs);
    return top === -Infinity ? top : top + log(logs.reduce((sum, x) => sum + exp(x - top), 0));
  }

  /** The least m in [low, high] with logFailure(m) <= logEta; `high` is taken to do. */
  function leastDim(logFailure, logEta, low, high) {
    while (low < high) {
      const middle = low + floor((high - low) / 2);
      if (logFailure(middle) <= logEta) high = middle;
      else low = middle + 1;
    }
    return high;
  }

  /** log Gamma(a) for a > 0. */
  function logGamma(a) {
    let raised = 0;
    for (; a < 20; a++) raised += log(a);
    return (a - 0.5) * log(a) - a + log(2 * Math.PI) / 2 + stirling(a) - raised;
  }

  /** [P(chi2_m/m > ratio), P(chi2_m/m < ratio)], each to its own relative accuracy. */
  function chiSquareTails(dim, ratio) {
    const [a, x] = [dim / 2, (dim * ratio) / 2];
    if (x <= 0) return [1, 0];
    const front = exp(a * log(x) - x - logGamma(a));
    if (x < a + 1) { // the series of the lower tail
      let [term, sum] = [1 / a, 1 / a];
      for (let n = 1; term > 1e-17 * sum; n++) sum += term *= x / (a + n);
      return [1 - front * sum, front * sum];
    }
    let [b, c] = [x + 1 - a, 1e300]; // the continued fraction of the upper tail, by Lentz's method
    let d = 1 / b;
    let value = d;
    for (let [n, change] = [1, 0]; n < 10000 && abs(change - 1) > 1e-16; n++) {
      const numerator = -n * (n - a);
      b += 2;
      d = 1 / (numerator * d + b || 1e-300);
      c = b + numerator / c || 1e-300;
      change = c * d;
      value *= change;
    }
    return [front * value, 1 - front * value];
  }

  /** The density of a normal variable at a, and the probability that it is above. */
  function normalTails(a) {
    const density = exp((-a * a) / 2) / sqrt(2 * Math.PI);
    const upper = chiSquareTails(1, a * a)[0] / 2;
    return { density, above: a < 0 ? 1 - upper : upper };
  }

  return {
    excess, correlatedExponent, logBeta, studentLogTail, chiSquareTails, logGamma, logBinomial,
    logSum, leastDim, normalTails,
  };
})();
