// Probabilities as bars, each with a mark where the base rate lies; a table says the same in numbers.

import { el, svg } from "./dom.js";
import { chance, t } from "./text.js";

const ANSWERS = ["improved", "stable", "declined"];
const WIDTH = 200;
const HEIGHT = 14;

/** From `probabilities`, `base_rates` (may be absent) and `prediction_set` of an answer. */
export function chances({ probabilities, base_rates: base, prediction_set: set }) {
  const rows = ANSWERS.map((answer) => row(answer, probabilities[answer], base?.[answer]));
  const head = ["chances_answer", "chances_now", ...(base ? ["chances_base"] : [])];
  return [
    el("p", { class: "help" }, t(base ? "chances_help" : "chances_help_alone")),
    el("table", { class: "chances" },
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, t(name))))),
      el("tbody", {}, rows),
    ),
    el("p", {}, setInWords(set)),
  ];
}

function row(answer, now, base) {
  const bar = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "bar" },
    svg("rect", { class: "track", width: WIDTH, height: HEIGHT }),
    svg("rect", { class: `fill ${answer}`, width: Math.max(1, now * WIDTH), height: HEIGHT }),
    base === undefined ? null : svg("rect", { class: "mark", x: base * WIDTH - 1.5, width: 3, height: HEIGHT }),
  );
  return el("tr", {},
    el("th", { scope: "row" }, t(answer)),
    el("td", {}, el("span", { class: "barcell" }, bar, el("span", { class: "value" }, chance(now)))),
    base === undefined ? null : el("td", { class: "value" }, chance(base)),
  );
}

function setInWords(set) {
  if (!set) return t("set_none");
  const answers = set.map((answer) => t(answer)).join(", ");
  return t(set.length === 1 ? "set_one" : "set_more", { answers });
}
