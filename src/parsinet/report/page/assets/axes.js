/* Scales and their ticks. */

/** Round steps of 1, 2 or 5 from low to high, about `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place++) found.push(place * step);
  return found;
}

/** 1, 2 and 5 times powers of ten; only powers where they are many. */
function logTicks(low, high) {
  const digits = Math.log10(high / low) > 2.2 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const digit of digits) {
      const value = digit * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found;
}

/** From [low, high] to [from, to]. On a logarithmic scale what is not above zero lies on its lower edge. */
function scale(low, high, from, to, logarithmic = false) {
  const shape = logarithmic ? (value) => Math.log(Math.max(value, low)) : (value) => value;
  const [a, b] = [shape(low), shape(high)];
  const span = b - a || 1;
  return (value) => from + ((shape(value) - a) / span) * (to - from);
}

/** In which of so many equal parts of a whole a point lies; 0 ≤ part ≤ 1. */
const within = (part, many) => Math.min(many - 1, Math.max(0, Math.floor(part * many)));

/** Whole epochs get whole ticks. */
const wholeTicks = (high, wanted) => ticks(0, high, Math.min(wanted, Math.max(1, Math.floor(high))));

/** Limits of a value axis over all values: from zero; a logarithmic one begins below the smallest and spans a factor of four at least. */
function limits(values, logarithmic) {
  const high = Math.max(...values, 0);
  const above = values.filter((value) => value > 0);
  if (logarithmic && above.length) {
    return [Math.min(Math.min(...above) / 1.25, high / 4), high * 1.15];
  }
  return [0, high * 1.06 || 1];
}
