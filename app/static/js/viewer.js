// Two pictures side by side with one crosshair, three sliders that move it, and the map of the change.

import * as api from "./api.js";
import { el } from "./dom.js";
import { canDraw, Pane } from "./pane.js";
import { number, signed, t } from "./text.js";

const VIEWS = [["view_all", 3], ["view_axial", 0], ["view_coronal", 1], ["view_sagittal", 2]];
const AXES = ["slide_x", "slide_y", "slide_z"];
const STEPS = 100;

export class Viewer {
  #root;
  #panes = null;
  #volumes = new WeakMap();
  #shown = [];
  #signal = null;
  #extent = [0, 0, 0];
  #turn = 0;

  constructor(root) {
    this.#root = root;
  }

  /**
   * Show the first and the last scan, and the map of the change from the left to the right one.
   * @param visits [{name, file}].
   * @param model of /v1/models, or null.
   * @param signal ends the loading when other scans are asked for.
   */
  async show(visits, { model, signal }) {
    this.#shown = visits;
    this.#signal = signal;
    if (!canDraw()) {
      this.#root.replaceChildren(el("p", {}, t("pictures_none")));
      return;
    }
    if (model) this.#extent = model.grid.map((count) => (count - 1) * model.spacing_mm);
    if (this.#panes === null) await this.#build(model);
    const isPair = visits.length === 2;
    this.choices.hidden = isPair;
    [this.left, this.right].forEach((select, side) => {
      select.replaceChildren(...visits.map((visit, index) => el("option", { value: index }, visit.name)));
      select.value = side === 0 ? 0 : visits.length - 1;
    });
    await this.#loadBoth();
    this.#center();
  }

  async #loadBoth() {
    // What an earlier choice still fetches is not drawn over a later one.
    const turn = ++this.#turn;
    this.mapPart.hidden = true;
    this.mapNote.textContent = "";
    const [left, right] = [Number(this.left.value), Number(this.right.value)];
    await this.#load(0, left, turn);
    await this.#load(1, right, turn);
    if (left !== right) await this.#loadMap(this.#shown[left], this.#shown[right], turn);
  }

  async #build(model) {
    this.#panes = [new Pane(), new Pane()];
    const view = el("select", { id: "view" }, VIEWS.map(([name, value]) => el("option", { value }, t(name))));
    const radiological = el("input", { type: "checkbox", id: "radiological", checked: true });
    this.left = el("select", { id: "left" });
    this.right = el("select", { id: "right" });
    this.choices = el("div", { class: "row" }, labelled("pictures_left", this.left), labelled("pictures_right", this.right));
    this.sliders = AXES.map((name) => el("input", { type: "range", id: name, min: 0, max: STEPS, value: STEPS / 2 }));
    this.showMap = el("input", { type: "checkbox", id: "map", checked: true });
    this.strength = el("input", { type: "range", id: "strength", min: 0, max: 100, value: 60 });
    this.mapNote = el("p", { class: "help", "aria-live": "polite" });
    this.here = el("p", { class: "help", id: "here" });
    this.mapPart = el("div", { class: "mappart", hidden: true },
      el("div", { class: "row noprint" },
        el("label", { class: "check" }, this.showMap, " ", t("map_show")), labelled("map_strength", this.strength)),
      el("ul", { class: "legend" },
        el("li", { class: "decline" }, t("map_decline")), el("li", { class: "improve" }, t("map_improve"))),
      el("p", { class: "help" }, t("pictures_map_help")),
      this.here,
    );
    const help = el("p", { class: "help" }, t("pictures_help", { spacing: number(model?.spacing_mm ?? 0, 0) }));
    this.#root.replaceChildren(
      help,
      el("div", { class: "row noprint" }, labelled("view", view),
        el("label", { class: "check" }, radiological, " ", t("radiological"))),
      this.choices,
      el("div", { class: "panes" }, this.#panes.map((pane) => pane.figure)),
      el("div", { class: "sliders noprint" }, this.sliders.map((slider, axis) => labelled(AXES[axis], slider))),
      this.mapPart,
      this.mapNote,
    );
    for (const pane of this.#panes) await pane.start();
    const [one, other] = this.#panes;
    one.nv.broadcastTo([other.nv], { "2d": true, "3d": true });
    other.nv.broadcastTo([one.nv], { "2d": true, "3d": true });
    this.#panes.forEach((pane) => {
      pane.setRadiological(true);
      pane.moved = () => this.#follow(pane);
    });
    view.addEventListener("change", () => this.#panes.forEach((pane) => pane.setView(Number(view.value))));
    radiological.addEventListener("change", () => this.#panes.forEach((pane) => pane.setRadiological(radiological.checked)));
    for (const select of [this.left, this.right]) select.addEventListener("change", () => this.#loadBoth());
    this.sliders.forEach((slider) => slider.addEventListener("input", () => this.#goToSliders()));
    window.addEventListener("beforeprint", () => this.#panes.forEach((pane) => pane.keepForPrint()));
    const strength = () => this.#panes.forEach((pane) => pane.setMapOpacity(this.showMap.checked ? this.strength.value / 100 : 0));
    this.showMap.addEventListener("change", strength);
    this.strength.addEventListener("input", strength);
  }

  /** Load a visit into one side; what fails is said below the pictures. */
  async #load(side, index, turn) {
    if (turn !== this.#turn) return;
    const { file, name: visit } = this.#shown[index];
    const pane = this.#panes[side];
    pane.expect(visit);
    await this.#tried(async () => {
      const data = this.#volumes.get(file) ?? (await api.volume(file, this.#signal));
      this.#volumes.set(file, data);
      if (turn === this.#turn) await pane.put(data, visit);
    });
  }

  async #loadMap(earlier, later, turn) {
    await this.#tried(async () => {
      if (turn !== this.#turn) return;
      const data = await api.changeMap(earlier.file, later.file, this.#signal);
      if (turn !== this.#turn) return;
      await this.#panes[1].putMap(data, this.strength.value / 100);
      this.mapPart.hidden = false;
      this.#tell();
    });
  }

  async #tried(work) {
    try {
      await work();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof api.Refusal)) throw error;
      const isWithout = error.code === "no_map";
      this.mapNote.textContent = isWithout ? t("pictures_no_map") : t("pictures_map_failed", { detail: error.message });
    }
  }

  #center() {
    this.sliders.forEach((slider) => (slider.value = STEPS / 2));
    this.#goToSliders();
  }

  #goToSliders() {
    const place = this.sliders.map((slider) => slider.value / STEPS);
    this.#panes.forEach((pane) => pane.goTo(place));
    this.#tell();
  }

  /** A click in one picture moves the other (NiiVue) and the sliders. */
  #follow(pane) {
    pane.place.forEach((part, axis) => (this.sliders[axis].value = part * STEPS));
    this.#tell();
  }

  #tell() {
    this.sliders.forEach((slider, axis) => {
      const mm = signed((slider.value / STEPS - 0.5) * this.#extent[axis], 0);
      slider.setAttribute("aria-valuetext", t("slide_value", { mm }));
    });
    const value = this.#panes[1].mapValue;
    if (value === null || value === undefined) return;
    const meaning = value === 0 ? "" : ` (${t(value > 0 ? "map_improve" : "map_decline")})`;
    this.here.textContent = t("map_here", { value: signed(value, 3) }) + meaning;
  }
}

function labelled(name, control) {
  return el("div", { class: "field" }, el("label", { for: control.id }, t(name)), control);
}
