// Visits and the line through them, drawn; the table below it says the same.

import { nice } from "./axis.js";
import { svg } from "./dom.js";
import { number, signed, t } from "./text.js";

const WIDTH = 320;
const HEIGHT = 170;
const LEFT = 34;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 30;

/** @param visits of a trajectory's answer. */
export function courseChart(visits) {
  const days = visits.map((visit) => visit.day);
  const [first, last] = [Math.min(...days), Math.max(...days)];
  const points = visits.flatMap((visit) => [visit.told_change, visit.on_line ?? 0]);
  const reach = nice(Math.max(...points.map(Math.abs), 0.5) * 1.05);
  const x = (day) => LEFT + ((day - first) / Math.max(last - first, 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((reach - value) / (2 * reach)) * (HEIGHT - TOP - BOTTOM);
  const line = visits.filter((visit) => visit.on_line !== null);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "axis chart", "aria-hidden": "true" },
    [-reach, 0, reach].map((value) => [
      svg("line", { class: value === 0 ? "zero" : "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, value === 0 ? number(0, 0) : signed(value, reach < 4 ? 1 : 0)),
    ]).flat(),
    line.length > 1 ? svg("line", {
      class: "fit", x1: x(line[0].day), y1: y(line[0].on_line), x2: x(line.at(-1).day), y2: y(line.at(-1).on_line),
    }) : null,
    visits.map((visit) => svg("circle", {
      class: visit.is_counted ? "dot" : "dot out", cx: x(visit.day), cy: y(visit.told_change), r: 5,
    })),
    svg("text", { x: LEFT, y: HEIGHT - 12 }, `${number(first, 0)}`),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 12, "text-anchor": "end" }, `${number(last, 0)} ${t("course_axis_days")}`),
  );
}
