// The list of scans: a file and a day for each visit, two at least.

import { el } from "./dom.js";
import { t } from "./text.js";

const LEAST = 2;
const MOST = 16;
const MOST_DAYS = 40000;
const TAKEN = ".nii,.gz,.zip";

export class Visits {
  #list;
  #rows = [];
  #changed;
  #made = 0;

  /** @param {HTMLElement} list an empty list. @param {() => void} changed called when rows come or go. */
  constructor(list, changed) {
    this.#list = list;
    this.#changed = changed;
    while (this.count < LEAST) this.#append();
    // The caller's own variable holds this object only after the constructor.
    queueMicrotask(() => this.#arrange());
  }

  get count() {
    return this.#rows.length;
  }

  get hasRoom() {
    return this.count < MOST;
  }

  add({ focus = false } = {}) {
    if (!this.hasRoom) return;
    const row = this.#append();
    this.#arrange();
    if (focus) row.input.focus();
  }

  /** Put other scans in place of all: [{file, day}]. */
  put(scans) {
    this.#rows.splice(0).forEach((row) => row.item.remove());
    for (const scan of scans) {
      const row = this.#append();
      const files = new DataTransfer();
      files.items.add(scan.file);
      row.input.files = files.files;
      row.day.value = scan.day;
    }
    this.#arrange();
  }

  /** What was chosen: [{name, file, day}], day null where none was written. */
  chosen() {
    return this.#rows.map((row, index) => ({
      name: this.#name(index),
      file: row.input.files[0] ?? null,
      day: index === 0 ? 0 : row.day.value === "" ? null : Number(row.day.value),
    }));
  }

  /** What is wrong: [{message, field}]. */
  faults(age) {
    const faults = [];
    this.chosen().forEach(({ name: visit, file, day }, index) => {
      const row = this.#rows[index];
      if (!file) faults.push({ message: t("missing_file", { visit }), field: row.input });
      if (index === 0) return;
      const isOdd = row.day.validity.badInput || (day !== null && !(Math.abs(day) <= MOST_DAYS));
      if (isOdd) faults.push({ message: t("bad_days", { visit }), field: row.day });
      else if (day === null && this.count > LEAST) faults.push({ message: t("missing_days", { visit }), field: row.day });
      else if (day < 0) faults.push({ message: this.count > LEAST ? t("bad_days", { visit }) : t("bad_order"), field: row.day });
    });
    const isAgeOdd = age.validity.badInput || Number(age.value) < 0 || Number(age.value) > 120;
    if (this.count > LEAST && isAgeOdd) faults.push({ message: t("bad_age"), field: age });
    return faults;
  }

  #name(index) {
    if (this.count > LEAST) return t("visit_number", { number: index + 1 });
    return t(index === 0 ? "visit_earlier" : "visit_later");
  }

  #append() {
    this.#made += 1;
    const id = `visit-${this.#made}`;
    const input = el("input", { type: "file", id, accept: TAKEN });
    const day = el("input", { type: "number", id: `${id}-day`, min: 0, max: MOST_DAYS, step: "any", inputmode: "decimal" });
    const dayLabel = el("label", { for: `${id}-day` });
    const dayPart = el("div", { class: "field day" }, dayLabel, day);
    const legend = el("legend");
    const remove = el("button", { type: "button", class: "quiet remove", onclick: () => this.#remove(row) }, "×");
    const filePart = el("div", { class: "field file" }, el("label", { for: id }, t("visit_file")), input);
    const item = el("li", { class: "visit" }, el("fieldset", {}, legend, filePart, dayPart, remove));
    const row = { item, input, day, dayPart, dayLabel, legend, remove };
    this.#rows.push(row);
    this.#list.append(item);
    return row;
  }

  #remove(row) {
    this.#rows.splice(this.#rows.indexOf(row), 1);
    row.item.remove();
    this.#arrange();
    this.#rows.at(-1).input.focus();
  }

  #arrange() {
    const isPair = this.count === LEAST;
    this.#rows.forEach((row, index) => {
      const visit = this.#name(index);
      row.legend.textContent = visit;
      row.dayPart.hidden = index === 0;
      row.dayLabel.textContent = t(isPair ? "visit_days_optional" : "visit_days");
      row.remove.hidden = isPair;
      row.remove.setAttribute("aria-label", t("visit_remove", { visit }));
    });
    this.#changed();
  }
}
