// The answer for a pair: in plain words first, then its reasons, numbers, checks, and the model behind it.

import { changeAxis } from "./axis.js";
import { chances } from "./bars.js";
import { el } from "./dom.js";
import { keep } from "./keep.js";
import { aboutModel } from "./model.js";
import { quality } from "./quality.js";
import { number, signed, t } from "./text.js";
import { detailsTitle, headline, part, reasons } from "./verdict.js";

/** Fill the two sections with the answer of /v1/progression. */
export function showPairAnswer({ verdict, details }, { answer, model, visits }) {
  const { outcome, predicted_change: change } = answer;
  verdict.replaceChildren(headline(answer, plain(answer)), reasons(answer));
  details.replaceChildren(
    detailsTitle(),
    part("axis_title", change ? axisPart(answer) : [el("p", {}, t("axis_none"))]),
    part("chances_title", chances(answer)),
    part("quality_title", quality(
      [["earlier", answer.earlier], ["later", answer.later]],
      { identity: answer.same_person, scanner: answer.same_scanner },
    ), { isWide: true }),
    aboutModel({ provenance: answer.provenance, outcome, model }),
    keep({ answer, visits, scans: [answer.earlier, answer.later] }),
  );
}

function plain(answer) {
  if (answer.is_same_scan) return t("plain_same");
  const { name: outcome, threshold } = answer.outcome;
  return t(`plain_${answer.decision}`, { outcome, threshold: number(threshold, 0), unit: t("axis_points") });
}

function axisPart(answer) {
  const { predicted_change: change, cohort_change: cohort, gap_days: gap, outcome } = answer;
  return [
    changeAxis({ change, cohort, threshold: outcome.threshold }),
    el("ul", { class: "plainlist" }, axisWords({ change, cohort, outcome, hasGap: Boolean(gap) }).map((line) => el("li", {}, line))),
  ];
}

/** The axis in words, which say all that it shows. */
export function axisWords({ change, cohort, outcome, hasGap }) {
  return [
    t("axis_line", {
      points: signed(change.points), outcome: outcome.name, low: signed(change.low), high: signed(change.high),
    }),
    change.noise_floor_95 === null ? t("axis_noise_none") : t("axis_noise", { noise: number(change.noise_floor_95) }),
    cohort
      ? t("axis_cohort", {
          count: cohort.num_people,
          lower: signed(cohort.lower_quartile),
          upper: signed(cohort.upper_quartile),
          low: signed(cohort.percentile_5),
          high: signed(cohort.percentile_95),
        })
      : t(hasGap ? "axis_cohort_absent" : "axis_cohort_none"),
  ];
}
