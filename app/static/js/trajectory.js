// The answer for several visits: the course as a chart and as a table, then what a pair has too.

import { changeAxis } from "./axis.js";
import { axisWords } from "./answer.js";
import { chances } from "./bars.js";
import { courseChart } from "./chart.js";
import { el } from "./dom.js";
import { keep } from "./keep.js";
import { aboutModel } from "./model.js";
import { quality } from "./quality.js";
import { number, percent, signed, t } from "./text.js";
import { detailsTitle, headline, part, reasons } from "./verdict.js";

/** Fill the two sections with the answer of /v1/trajectories. */
export function showTrajectory({ verdict, details }, { answer, model, visits }) {
  const { outcome, annual_change: annual, fitted_change: change, cohort_change: cohort } = answer;
  const isSame = answer.reasons.includes("same_scan");
  const values = { outcome: outcome.name, threshold: number(outcome.threshold, 0), unit: t("axis_points") };
  const plain = isSame ? t("plain_same") : t(`plain_${answer.decision}_course`, values);
  // In the order that the scans were given, as the pictures have them.
  const given = [...answer.visits].sort((one, other) => one.position - other.position);
  verdict.replaceChildren(headline(answer, plain), reasons(answer));
  details.replaceChildren(...[
    detailsTitle(),
    part("course_title", course(answer, annual)),
    change ? part("axis_title", [
      changeAxis({ change, cohort }),
      el("ul", { class: "plainlist" }, axisWords({ change, cohort, outcome, hasGap: true }).map((line) => el("li", {}, line))),
    ]) : null,
    answer.probabilities ? part("chances_title", chances(answer)) : null,
    part("course_steps", [steps(answer.steps)]),
    part("quality_title", quality(given.map((visit) => [name(visit.position), visit]), {}), { isWide: true }),
    aboutModel({ provenance: answer.provenance, outcome, model }),
    keep({ answer, visits, scans: given }),
  ].filter(Boolean));
}

function name(position) {
  return t("visit_number", { number: position });
}

function course(answer, annual) {
  const { outcome, percentile_for_age: age, no_percentile: noAge } = answer;
  const lines = [];
  if (annual) {
    lines.push(t("course_rate", {
      points: signed(annual.points_per_year), outcome: outcome.name, low: signed(annual.low), high: signed(annual.high),
    }));
    if (annual.noise_floor_95 !== null) lines.push(t("course_noise", { noise: number(annual.noise_floor_95) }));
  }
  const placed = age
    ? el("p", {}, t("course_age", { count: age.num_people, percent: percent(age.percentile / 100) }))
    : el("p", { class: "help", lang: "en" }, noAge);
  return [courseChart(answer.visits), ...lines.map((line) => el("p", {}, line)), placed, table(answer.visits)];
}

function table(visits) {
  const head = ["course_visit", "course_day", "course_told", "course_line"];
  return el("table", { class: "course" },
    el("caption", {}, t("course_chart")),
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, t(text))))),
    el("tbody", {}, visits.map((visit) => el("tr", {},
      el("th", { scope: "row" }, name(visit.position)),
      el("td", {}, number(visit.day, 0)),
      el("td", {}, signed(visit.told_change), visit.is_counted ? null : ` (${t("course_left_out")})`),
      el("td", {}, visit.on_line === null ? "" : signed(visit.on_line)),
    ))),
  );
}

function steps(found) {
  return el("table", { class: "course" },
    el("thead", {}, el("tr", {}, ["course_visit", "chances_answer", "course_change"].map((text) => el("th", { scope: "col" }, t(text))))),
    el("tbody", {}, found.map((step) => el("tr", {},
      el("th", { scope: "row" }, t("course_step", { earlier: step.earlier, later: step.later })),
      el("td", {}, t(step.decision)),
      el("td", {}, step.predicted_change ? signed(step.predicted_change.points) : ""),
    ))),
  );
}
