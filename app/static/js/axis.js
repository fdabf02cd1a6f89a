// The change on an axis: these scans with their interval, the noise of repeated scans, and other people's changes.

import { svg } from "./dom.js";
import { number, signed, t } from "./text.js";

const WIDTH = 320;
const ROW = 34;
const LEFT = 8;
const RIGHT = 8;
const TOP = 22;

/** @returns an SVG whose content the words beside it say too, so it is hidden from screen readers. */
export function changeAxis({ change, cohort }) {
  const noise = change.noise_floor_95;
  const values = [change.low, change.high, noise ?? 0, -(noise ?? 0), cohort?.percentile_5 ?? 0, cohort?.percentile_95 ?? 0];
  const reach = nice(Math.max(...values.map(Math.abs), 0.1) * 1.08);
  const x = (points) => LEFT + ((points + reach) / (2 * reach)) * (WIDTH - LEFT - RIGHT);
  const lanes = [
    ["axis_label_change", (y) => interval(x, y, change)],
    ...(noise === null ? [] : [["axis_label_noise", (y) => band(x, y, noise)]]),
    ...(cohort ? [["axis_label_cohort", (y) => box(x, y, cohort)]] : []),
  ];
  const bottom = TOP + lanes.length * ROW;
  const ticks = [-reach, -reach / 2, 0, reach / 2, reach];
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${bottom + 20}`, class: "axis", "aria-hidden": "true" },
    svg("text", { x: LEFT, y: 12, class: "end" }, `\u2190 ${t("axis_worse")}`),
    svg("text", { x: WIDTH - RIGHT, y: 12, class: "end", "text-anchor": "end" }, `${t("axis_better")} \u2192`),
    svg("line", { class: "zero", x1: x(0), x2: x(0), y1: TOP - 4, y2: bottom }),
    lanes.map(([label, draw], index) => {
      const y = TOP + index * ROW;
      return svg("g", {}, svg("text", { x: LEFT, y: y + 9, class: "lane" }, t(label)), draw(y + 21));
    }),
    svg("line", { class: "base", x1: LEFT, x2: WIDTH - RIGHT, y1: bottom, y2: bottom }),
    ticks.map((points, index) => {
      const anchor = index === 0 ? "start" : index === ticks.length - 1 ? "end" : "middle";
      const text = points === 0 ? number(0, 0) : signed(points, reach < 4 ? 1 : 0);
      return svg("text", { x: x(points), y: bottom + 14, "text-anchor": anchor }, text);
    }),
  );
}

function interval(x, y, { points, low, high }) {
  return svg("g", { class: "now" },
    svg("line", { x1: x(low), x2: x(high), y1: y, y2: y }),
    [low, high].map((end) => svg("line", { x1: x(end), x2: x(end), y1: y - 4, y2: y + 4 })),
    svg("circle", { cx: x(points), cy: y, r: 5 }),
  );
}

function band(x, y, noise) {
  return svg("rect", { class: "noise", x: x(-noise), width: Math.max(1, x(noise) - x(-noise)), y: y - 5, height: 10 });
}

function box(x, y, { percentile_5: low, lower_quartile: lower, median, upper_quartile: upper, percentile_95: high }) {
  return svg("g", { class: "cohort" },
    svg("line", { x1: x(low), x2: x(high), y1: y, y2: y }),
    svg("rect", { x: x(lower), width: Math.max(1, x(upper) - x(lower)), y: y - 5, height: 10 }),
    svg("line", { class: "median", x1: x(median), x2: x(median), y1: y - 5, y2: y + 5 }),
  );
}

/** The next of 1, 2, 5 times a power of ten. */
export function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
