/* How numbers are written: the same as in the tables, which parsinet/report/numbers.py writes. */

const NONE = "–";

/** Fixed digits, thousands separated. Halves that are exact in binary go to the even digit, as in Python. */
function fixed(value, digits) {
  const scaled = Math.abs(value) * 10 ** digits;
  const half = scaled % 1 === 0.5 && (Math.abs(value) * 2 ** (digits + 1)) % 1 === 0;
  const text = (half ? (2 * Math.round(scaled / 2)) / 10 ** digits : Math.abs(value)).toFixed(digits);
  const [whole, part] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return (value < 0 ? "-" : "") + grouped + (part ? "." + part : "");
}

const known = (form) => (value) => (value === null || value === undefined ? NONE : form(value));
const count = known((value) => (value < 1e7 ? fixed(value, 0) : fixed(value / 1e6, 1) + " M"));
const errorRate = known((value) => fixed(100 * value, 2) + " %");
const share = known((value) => fixed(100 * value, value >= 0.0995 ? 1 : 2) + " %");
const loss = known((value) => fixed(value, 4));
const level = known((value) => fixed(value, 3));
const duration = known((value) => fixed(value, value < 100 ? 1 : 0) + " s");

/** As few digits as tell the ticks of an axis apart. */
function short(value) {
  if (value >= 1e6) return String(+(value / 1e6).toPrecision(3)) + "M";
  if (value >= 1e4) return String(+(value / 1e3).toPrecision(3)) + "k";
  return value >= 1000 ? fixed(value, 0) : String(+value.toPrecision(3));
}

const shortShare = (value) => String(+(100 * value).toPrecision(3)) + " %";
