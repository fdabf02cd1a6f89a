// Which model answered, how good it was measured to be, and what its answer cannot tell.

import { el } from "./dom.js";
import { language, number, t } from "./text.js";
import { part } from "./verdict.js";

export function aboutModel({ provenance, outcome, model }) {
  const { model: name, version, metrics, created, method } = provenance;
  const modality = model?.modality ?? "";
  const f1 = metrics.macro_f1;
  const date = new Intl.DateTimeFormat(language, { dateStyle: "long", timeZone: "UTC" }).format(new Date(created));
  const rows = [
    ["model_can", t("model_can_text", { outcome: outcome.name, threshold: number(outcome.threshold, 0) })],
    ["model_cannot", t("model_cannot_text")],
    ["model_use", model?.intended_use ? el("span", { lang: "en" }, model.intended_use) : null],
    ["model_limits", model?.limitations.length ? el("ul", { lang: "en" }, model.limitations.map((text) => el("li", {}, text))) : null],
  ];
  return part("model_title", [
    el("p", {}, t("model", { name, version, modality }), ". ", t("model_made", { date, method }), "."),
    f1 ? el("p", {}, f1Text(f1)) : null,
    el("dl", {}, rows.filter(([, what]) => what).map(([term, what]) => [el("dt", {}, t(term)), el("dd", {}, what)])),
  ].filter(Boolean));
}

function f1Text({ value, low, high, chance }) {
  const of = (one) => (one === null ? "?" : number(one, 2));
  return t("model_macro_f1", { value: of(value), low: of(low), high: of(high), chance: of(chance) });
}
