/* Queries for given codes: least-norm, as interpolation takes them, and shortest with a gap, as
 * max-margin takes them. Everything hangs on the one global name JLQueries. */
"use strict";

globalThis.JLQueries = (() => {
  const { exp, max, min, sqrt } = Math;

  const zeros = (rows, columns) => Array.from({ length: rows }, () => new Float64Array(columns));

  function dot(x, y) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
    return sum;
  }

  const transpose = (rows) =>
    zeros(rows[0].length, rows.length).map((row, i) => row.map((_, j) => rows[j][i]));

  /** Vectors made orthogonal, one after another, and sqrt(n) long: the columns of a tight frame. */
  function orthogonalise(vectors) {
    vectors.forEach((vector, t) => {
      for (let round = 0; round < 2; round++) { // the second removes the rounding of the first
        for (const earlier of vectors.slice(0, t)) {
          const share = dot(earlier, vector) / vector.length;
          earlier.forEach((x, i) => (vector[i] -= share * x));
        }
      }
      const scale = sqrt(vector.length / dot(vector, vector));
      vector.forEach((x, i) => (vector[i] = x * scale));
    });
    return vectors;
  }

  /** A function that solves (N N^T) w = values for rows N, or null where they are dependent. */
  function gramSolver(rows) {
    const size = rows.length;
    const factor = zeros(size, size); // Cholesky factor of the Gram matrix
    for (let i = 0; i < size; i++) {
      for (let j = 0; j <= i; j++) {
        let rest = dot(rows[i], rows[j]);
        for (let l = 0; l < j; l++) rest -= factor[i][l] * factor[j][l];
        if (i === j && !(rest > 1e-12 * dot(rows[i], rows[i]))) return null;
        factor[i][j] = i === j ? sqrt(rest) : rest / factor[j][j];
      }
    }
    return (values) => {
      const w = Array.from(values);
      for (let i = 0; i < size; i++) {
        for (let l = 0; l < i; l++) w[i] -= factor[i][l] * w[l];
        w[i] /= factor[i][i];
      }
      for (let i = size - 1; i >= 0; i--) {
        for (let l = i + 1; l < size; l++) w[i] -= factor[l][i] * w[l];
        w[i] /= factor[i][i];
      }
      return w;
    };
  }

  /** The least-norm q with <q, c_j> = b_j, or null where the codes are dependent. */
  function leastNormQuery(codes, values) {
    const solve = gramSolver(codes);
    if (solve === null) return null;
    const query = new Float64Array(codes[0].length);
    for (let round = 0; round < 2; round++) { // the second refines: the Gram matrix squares rounding
      const rest = values.map((value, i) => value - dot(codes[i], query));
      solve(rest).forEach((weight, i) => codes[i].forEach((c, t) => (query[t] += weight * c)));
    }
    return query;
  }

  /**
   * The shortest q whose logits differ as `values` on the support `columns` and are lower by `gap`
   * elsewhere, or null where there is none: Goldfarb and Idnani's method, as in the package.
   */
  function shortestQuery(codes, columns, values, gap) {
    const weakest = values.indexOf(min(...values));
    const below = (j) => codes[j].map((c, t) => codes[columns[weakest]][t] - c);
    const others = columns.map((_, i) => i).filter((i) => i !== weakest);
    const normals = others.map((i) => below(columns[i]));
    const steps = others.map((i) => values[weakest] - values[i]);
    const query = others.length
      ? leastNormQuery(normals, steps)
      : new Float64Array(codes[0].length);
    if (query === null) return null;
    const outside = codes.map((_, j) => j).filter((j) => !columns.includes(j));
    const sides = outside.map(below);
    const multipliers = others.map(() => Infinity); // equalities never leave
    for (let round = 0; round < 50 * query.length; round++) {
      const gaps = sides.map((side) => dot(side, query));
      const worst = gaps.indexOf(min(...gaps));
      if (worst < 0 || gaps[worst] >= gap * (1 - 1e-9)) return query;
      const side = sides[worst];
      for (let own = 0; ; ) {
        const r = normals.length ? gramSolver(normals)?.(normals.map((n) => dot(n, side))) : [];
        if (!r) return null;
        const rest = Float64Array.from(side);
        normals.forEach((normal, i) => normal.forEach((x, t) => (rest[t] -= r[i] * x)));
        const size = dot(rest, rest);
        const dependent = size <= 1e-18 * dot(side, side) || normals.length === query.length;
        const whole = dependent ? Infinity : (gap - dot(side, query)) / size;
        const limits = r.map((x, i) => (x > 1e-12 ? multipliers[i] / x : Infinity));
        const step = min(whole, ...limits);
        if (step === Infinity) return null; // a combination of the normals proves it
        if (!dependent) rest.forEach((x, t) => (query[t] += step * x));
        r.forEach((x, i) => (multipliers[i] -= step * x));
        own += step;
        if (step === whole) {
          normals.push(side);
          multipliers.push(own);
          break;
        }
        const leaving = limits.indexOf(step);
        normals.splice(leaving, 1);
        multipliers.splice(leaving, 1);
      }
    }
    return null;
  }

  /** Softmax of a row of logits. */
  function softmax(logits) {
    const top = max(...logits);
    const weights = logits.map((value) => exp(value - top));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  }

  return { zeros, dot, transpose, orthogonalise, leastNormQuery, shortestQuery, softmax };
})();
