// What a person can keep: the whole answer as JSON, and the page as a printed report.

import { el } from "./dom.js";
import { language, t } from "./text.js";
import { part } from "./verdict.js";

export function keep({ answer, visits, scans }) {
  const when = new Date();
  const shown = new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short" }).format(when);
  const name = `interscan_${answer.decision}_${when.toISOString().slice(0, 10)}.json`;
  return part("keep_title", [
    el("div", { class: "row noprint" },
      el("button", { type: "button", class: "quiet", id: "save", onclick: () => save(answer, name) }, t("keep_json")),
      el("button", { type: "button", class: "quiet", id: "print", onclick: () => window.print() }, t("keep_print")),
    ),
    el("p", { class: "help" }, t("keep_when", { when: shown })),
    // By their content, not by their names: a file's name may be a person's.
    el("ul", { class: "digests" }, scans.map(({ sha256 }, index) => el("li", {}, t("keep_sha", { visit: visits[index].name, sha: sha256 })))),
  ]);
}

function save(answer, name) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The browser reads it after this turn.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
