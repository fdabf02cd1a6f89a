// One picture: a canvas that NiiVue draws a scan into, and a map over it.

/* global niivue */
import { el } from "./dom.js";
import { t } from "./text.js";

const OPTIONS = {
  // Single keys and dropped files belong to the page, not to the picture.
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  dragAndDropEnabled: false,
  // The wheel scrolls the page until the picture is clicked.
  scrollRequiresFocus: true,
  dragMode: 0,
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.35, 0.85, 1, 1],
  crosshairWidth: 1,
  crosshairWidthUnit: "mm",
  fontColor: [1, 1, 1, 1],
  fontMinPx: 14,
  multiplanarShowRender: 0,
  multiplanarForceRender: false,
  isColorbar: false,
  isRuler: false,
  loadingText: "",
  logLevel: "error",
  textHeight: 0.06,
};

/** Whether this browser can draw at all; NiiVue needs WebGL 2. */
export function canDraw() {
  return typeof niivue !== "undefined" && document.createElement("canvas").getContext("webgl2") !== null;
}

export class Pane {
  constructor() {
    this.canvas = el("canvas", { role: "img", width: 640, height: 480 });
    this.caption = el("figcaption");
    this.print = el("img", { class: "printonly", alt: "" });
    this.figure = el("figure", { class: "pane" }, this.caption, el("div", { class: "canvas" }, this.canvas, this.print));
    this.moved = () => {};
  }

  /** Once the canvas is in the page. */
  async start() {
    this.nv = new niivue.Niivue(OPTIONS);
    await this.nv.attachToCanvas(this.canvas);
    this.nv.onLocationChange = (place) => this.moved(place);
  }

  /** Say whose picture this is going to be. */
  expect(visit) {
    this.caption.textContent = t("pictures_loading", { visit });
    this.canvas.setAttribute("aria-label", t("canvas", { visit }));
  }

  /** Draw a scan in place of what was there: `data` is a .nii.gz file. */
  async put(data, visit) {
    this.caption.textContent = visit;
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    this.nv.addVolume(await imageOf(data, { colormap: "gray", cal_min: 0 }));
  }

  /** Lay the map over the scan; its header says the window. */
  async putMap(data, opacity) {
    this.nv.addVolume(await imageOf(data, { colormap: "winter", colormapNegative: "warm", opacity }));
  }

  setMapOpacity(opacity) {
    if (this.nv.volumes.length > 1) this.nv.setOpacity(1, opacity);
  }

  setView(view) {
    this.nv.setSliceType(view);
  }

  setRadiological(isRadiological) {
    this.nv.setRadiologicalConvention(isRadiological);
  }

  /** Put the crosshair at fractions of the box, 0 to 1: right, front, top. */
  goTo(fractions) {
    this.nv.scene.crosshairPos = fractions;
    this.nv.updateGLVolume();
  }

  get place() {
    return [...this.nv.scene.crosshairPos];
  }

  /** Browsers print a WebGL canvas empty: keep what it shows as an image, in the turn that draws it. */
  keepForPrint() {
    this.nv.drawScene();
    this.print.src = this.canvas.toDataURL("image/png");
  }

  /** The map's value at the crosshair, points per cm3; null without a map. */
  get mapValue() {
    const map = this.nv.volumes[1];
    if (!map) return null;
    const [x, y, z] = this.place.map((part, axis) => Math.min(Math.floor(part * map.hdr.dims[axis + 1]), map.hdr.dims[axis + 1] - 1));
    return map.getValue(x, y, z);
  }
}

function imageOf(data, options) {
  return niivue.NVImage.loadFromFile({ file: new File([data], "scan.nii.gz"), name: "scan.nii.gz", ...options });
}
