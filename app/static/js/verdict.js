// The decision in one word with its own shape, a plain sentence, and the reasons.

import { el, svg } from "./dom.js";
import { t } from "./text.js";

// Shapes differ, so that no answer is told by colour alone.
const SHAPES = {
  improved: "M12 3 21 20H3Z",
  declined: "M3 4H21L12 21Z",
  stable: "M3 8H21V11H3Z M3 14H21V17H3Z",
  undecided: "M12 2 22 12 12 22 2 12Z",
};

/** A part of the answer with its heading. */
export function part(title, children, { isWide = false } = {}) {
  return el("section", { class: isWide ? "part wide" : "part" }, el("h3", {}, t(title)), ...children);
}

/** The heading of everything below the pictures. */
export function detailsTitle() {
  return el("h2", { id: "details-title" }, t("details_title"));
}

export function headline(answer, sentence) {
  const { decision } = answer;
  const shape = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: SHAPES[decision] }));
  return el("div", { class: `verdict ${decision}` },
    el("h2", { id: "answer-title" }, shape, el("span", {}, t(`headline_${decision}`))),
    el("p", { class: "plain" }, sentence),
    decision === "undecided" ? null : el("p", { class: "help" }, t("plain_about")),
  );
}

export function reasons(answer) {
  const list = answer.reasons.map((code) => el("li", { "data-code": code }, t(`reason_${code}`)));
  return part("reasons_title", [
    list.length ? el("ul", { class: "reasons" }, list) : el("p", {}, t("reasons_none")),
    el("details", {},
      el("summary", {}, t("reasons_words")),
      el("ul", { lang: "en" }, answer.caution.map((sentence) => el("li", {}, sentence))),
    ),
  ]);
}
