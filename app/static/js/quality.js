// Whether the scans can be compared: checks of both pictures and of the pair, and remarks on the files.

import { el } from "./dom.js";
import { has, number, percent, t } from "./text.js";

/**
 * @param scans [[name, facts], ...] as the service answers them; name is a text without `visit_`, or a whole label.
 * @param pair checks of the pair: {identity, scanner}, each may be null.
 */
export function quality(scans, pair) {
  const names = [...new Set(scans.flatMap(([, scan]) => scan.checks.map((check) => check.name)))];
  const head = [t("quality_check"), ...scans.map(([name]) => label(name))];
  const rows = [
    ...names.map((name) => line(`check_${name}`, scans.map(([, scan]) => result(scan.checks.find((one) => one.name === name))))),
    line("quality_distance", scans.map(([, scan]) => distance(scan.out_of_distribution))),
    line("quality_remarks", scans.map(([, scan]) => remarks(scan.findings))),
  ];
  const pairRows = Object.entries(pair).map(([name, check]) => pairLine(name, check, scans.length));
  const table = el("table", { class: "checks" },
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, pairRows, rows),
  );
  const scroller = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("quality_scroll") }, table);
  return names.length ? [scroller] : [el("p", {}, t("quality_none")), scroller];
}

export function label(name) {
  return has(`visit_${name}`) ? t(`visit_${name}`) : name;
}

function line(name, cells) {
  return el("tr", {}, el("th", { scope: "row" }, t(name)), cells.map((cell) => el("td", {}, cell)));
}

function pairLine(name, check, span) {
  return el("tr", {}, el("th", { scope: "row" }, t(`check_${name}`)), el("td", { colspan: span }, result(check)));
}

/** The words come first, so that the mark is no colour alone. */
function result(check) {
  if (!check) return t("quality_unknown");
  const word = t(check.is_beyond ? "quality_beyond" : "quality_fine");
  const value = t("quality_value", { value: number(check.value), limit: number(check.limit) });
  return [el("strong", { class: check.is_beyond ? "beyond" : "fine" }, `${check.is_beyond ? "\u26a0" : "\u2713"} ${word}`), " ",
    el("span", { class: "help" }, value)];
}

function distance({ percentile, is_outside: isOutside }) {
  if (percentile === null) return t("quality_unknown");
  const word = t(isOutside ? "quality_beyond" : "quality_fine");
  return [el("strong", { class: isOutside ? "beyond" : "fine" }, `${isOutside ? "\u26a0" : "\u2713"} ${word}`), " ",
    el("span", { class: "help" }, t("quality_percentile", { percent: percent(percentile / 100) }))];
}

function remarks(findings) {
  if (!findings.length) return t("quality_no_remarks");
  return el("ul", { lang: "en" }, findings.map(({ message }) => el("li", {}, message)));
}
