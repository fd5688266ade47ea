// Renders every case of the *.ndjson files beside this script with the official Handlebars and writes the result into the
// case's `expected`, which is the last field of its line; nothing else of a line changes. Run it after editing cases:
//
//   npm install --prefix ~/.cache/retrigger-npm handlebars@4.7.10
//   node tests/golden/templates/make.mjs            # rewrites
//   node tests/golden/templates/make.mjs --check    # only says which lines would change; exit 1 if any
//
// A case is one JSON object a line:
//   name      subject/number, unique
//   kind      email | push | sms | webhook: what a marketer would write; construct: one construct of the language
//   escape    html | none | json, as the field that the template stands in
//   template, data, partials (optional, by name)
//   differs   why we print something else than `expected`; absent where we print the same
//   expected  what the official implementation prints
//
// The helpers are written here as docs/templates.md describes them, so that `expected` speaks of the language only.
// `date` and `abort_message` are ours alone and have no cases. Placeholders (`${name}`) are not JavaScript's: they are
// rewritten to `@root` paths first.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

const packages = path.join(os.homedir(), ".cache/retrigger-npm/package.json");
const require = createRequire(packages);
const Handlebars = require("handlebars");
const utils = require("handlebars/dist/cjs/handlebars/utils");

const html = utils.escapeExpression;
const json = (value) => {
  if (value === undefined || value === null) return "";
  const short = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" };
  const code = (c) => "\\u" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return String(value).replace(/["\\\u0000-\u001f]/g, (c) => short[c] ?? code(c));
};

const missing = (value) => value === undefined || value === null;
const truthy = (value) => !utils.isEmpty(value) && value !== 0;
const equal = (a, b) => (missing(a) ? missing(b) : isDeepStrictEqual(a, b));
const sameType = (a, b) => typeof a === typeof b && ["number", "string"].includes(typeof a);
const text = (value) => (missing(value) ? "" : String(value));

/** In front of a block a condition chooses a branch; elsewhere it is a truth value. */
const condition = (holds) =>
  function (...args) {
    const options = args.pop();
    const truth = holds(...args);
    if (!options.fn) return truth;
    return truth ? options.fn(this) : options.inverse(this);
  };

const helpers = {
  default: (value, fallback) => (missing(value) || value === "" ? fallback : value),
  eq: condition((a, b) => equal(a, b)),
  ne: condition((a, b) => !equal(a, b)),
  gt: condition((a, b) => sameType(a, b) && a > b),
  gte: condition((a, b) => sameType(a, b) && a >= b),
  lt: condition((a, b) => sameType(a, b) && a < b),
  lte: condition((a, b) => sameType(a, b) && a <= b),
  and: condition((...values) => values.every(truthy)),
  or: condition((...values) => values.some(truthy)),
  not: condition((value) => !truthy(value)),
  upper: (value) => text(value).toUpperCase(),
  lower: (value) => text(value).toLowerCase(),
  number(value, { hash }) {
    const number = text(value).trim();
    if (number === "") return "";
    const { decimals, thousands = "", decimal = "." } = hash;
    const rounded = decimals === undefined ? number : halfAwayFromZero(number, decimals);
    const [, sign, whole, fraction] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(rounded);
    const zero = /^0*$/.test(whole + (fraction ?? ""));
    const grouped = whole.replace(/\B(?=(\d{3})+$)/g, () => thousands);
    return (zero ? "" : sign) + grouped + (fraction ? decimal + fraction : "");
  },
  raw: (options) => options.fn(),
};

function halfAwayFromZero(number, decimals) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(number);
  const scaled = BigInt(whole + fraction.slice(0, decimals).padEnd(decimals, "0")) + (fraction[decimals] >= "5" ? 1n : 0n);
  const digits = String(scaled).padStart(decimals + 1, "0");
  return sign + digits.slice(0, digits.length - decimals) + (decimals ? "." + digits.slice(-decimals) : "");
}

/** `api_trigger_properties.${a b}` becomes `@root.api_trigger_properties.[a b]`, and `${a}` becomes `@root.[a]`. */
const withoutPlaceholders = (template) =>
  template.replace(/(\b(?:api_trigger_properties|custom_attribute)\.)?\$\{\s*([^{}]*?)\s*\}(?=[^{]*\}\})/g, (_, from = "", name) => `@root.${from}[${name}]`);

function render({ template, data, partials = {}, escape }) {
  const handlebars = Handlebars.create();
  handlebars.registerHelper(helpers);
  for (const [name, body] of Object.entries(partials)) handlebars.registerPartial(name, withoutPlaceholders(body));
  utils.escapeExpression = escape === "json" ? json : html;
  return String(handlebars.compile(withoutPlaceholders(template), { noEscape: escape === "none" })(data));
}

export { render };

if (process.argv[1] === fileURLToPath(import.meta.url)) main();

function main() {
  const folder = path.dirname(fileURLToPath(import.meta.url));
  const checkOnly = process.argv.includes("--check");
  let changed = 0;
  for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".ndjson")).sort()) {
    const lines = fs.readFileSync(path.join(folder, file), "utf8").split("\n").filter(Boolean);
    const made = lines.map((line, index) => {
      const { expected, ...given } = JSON.parse(line);
      // Only the end of the line is replaced: numbers keep the spelling that JavaScript would change.
      const end = `,"expected":${JSON.stringify(expected)}}`;
      if (expected !== undefined && !line.endsWith(end)) throw new Error(`${file}:${index + 1}: \`expected\` must come last`);
      const start = expected === undefined ? line.slice(0, -1) : line.slice(0, -end.length);
      try {
        return `${start},"expected":${JSON.stringify(render(given))}}`;
      } catch (error) {
        throw new Error(`${file}:${index + 1}: ${given.name}: ${error.message}`);
      }
    });
    const differing = lines.filter((line, index) => line !== made[index]).length;
    if (differing > 0 && checkOnly) console.log(`${file}: ${differing} of ${lines.length} would change`);
    if (differing > 0 && !checkOnly) fs.writeFileSync(path.join(folder, file), made.join("\n") + "\n");
    console.log(`${file}: ${lines.length} cases`);
    changed += differing;
  }
  process.exitCode = checkOnly && changed > 0 ? 1 : 0;
}
