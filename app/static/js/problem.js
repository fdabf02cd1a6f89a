// Errors in plain words: what the person can do first, then what the service said, then the request's id.

import { byId, el } from "./dom.js";
import { has, t } from "./text.js";

const BUSY = new Set(["busy", "deadline", "stopping", "storage_slow", "no_room"]);

export function clearProblem() {
  byId("problem").replaceChildren();
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
  }
}

/** What the service refused. */
export function showRefusal(refusal) {
  const { problem } = refusal;
  show([
    el("p", {}, plainly(refusal)),
    problem?.detail ? el("p", { lang: "en" }, t("problem_service", { detail: problem.detail })) : null,
    problem?.request_id ? el("p", { class: "help" }, t("problem_id", { id: problem.request_id })) : null,
  ]);
}

/** What is missing before anything can be asked: [{message, field}]. */
export function showFaults(faults) {
  for (const { field } of faults) field.setAttribute("aria-invalid", "true");
  show([el("ul", {}, faults.map(({ message }) => el("li", {}, message)))]);
  faults[0].field.focus();
}

function plainly({ code, status, retryAfter }) {
  const values = { seconds: retryAfter ?? "30" };
  if (has(`problem_${code}`)) return t(`problem_${code}`, values);
  if (BUSY.has(code) || status === 503) return t("problem_busy", values);
  return t("problem_other");
}

function show(parts) {
  const title = el("h2", {}, t("problem_title"));
  byId("problem").replaceChildren(el("div", { class: "problem" }, title, ...parts.filter(Boolean)));
  byId("problem").scrollIntoView({ block: "nearest" });
}
