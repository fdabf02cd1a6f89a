// Ties the page together: which model, which scans, what was answered.

import * as api from "./api.js";
import { showPairAnswer } from "./answer.js";
import { Visits } from "./choose.js";
import { byId } from "./dom.js";
import { clearProblem, showFaults, showRefusal } from "./problem.js";
import { t, translate } from "./text.js";
import { showTrajectory } from "./trajectory.js";
import { Viewer } from "./viewer.js";

const RETRY_MS = 3000;
let model = null;
let running = null;

translate();
const visits = new Visits(byId("visits"), () => {
  byId("age-part").hidden = visits.count < 3;
  byId("add").disabled = !visits.hasRoom;
});
const viewer = new Viewer(byId("viewer"));

byId("add").addEventListener("click", () => visits.add({ focus: true }));
byId("example").addEventListener("click", () => loadExample(["earlier", "later"]));
byId("example-three").addEventListener("click", () => loadExample(["earlier", "middle", "later"]));
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  api.useKey(byId("key").value);
  if (await loadModel()) {
    clearProblem();
    byId("key").value = "";
    byId("key-part").hidden = true;
    say("key_set");
    byId("choose").focus();
  }
});
// A printed report says all: nobody can open what is folded on paper.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("#answer details")) folded.open = true;
});
loadModel();

function say(name) {
  byId("status").textContent = name ? t(name) : "";
}

/** Ask for the model; shows the field for a key where the service wants one. */
async function loadModel() {
  try {
    model = (await api.models()).models.find((one) => one.kind === "progression") ?? null;
  } catch (refusal) {
    if (!(refusal instanceof api.Refusal)) throw refusal;
    if (refusal.code === "unauthorised") byId("key-part").hidden = false;
    // Without a first try the missing key is no mistake yet.
    if (refusal.code !== "unauthorised" || byId("key").value) showRefusal(refusal);
    return false;
  }
  if (model === null) {
    byId("model").textContent = t("model_loading");
    setTimeout(loadModel, RETRY_MS);
    return true;
  }
  byId("model").textContent = t("model", model);
  return true;
}

async function loadExample(names) {
  clearProblem();
  try {
    const found = await api.example();
    const known = found.visits.filter((visit) => names.includes(visit.name));
    const files = await Promise.all(known.map((visit) => api.exampleFile(visit.name)));
    visits.put(files.map((file, index) => ({ file, day: known[index].day })));
    byId("age").value = found.age;
    say("example_loaded");
    byId("compare").focus();
  } catch (refusal) {
    if (!(refusal instanceof api.Refusal)) throw refusal;
    refused(refusal);
  }
}

function refused(refusal) {
  say("");
  if (refusal.code === "unauthorised") byId("key-part").hidden = false;
  showRefusal(refusal);
}

async function compare() {
  clearProblem();
  const faults = visits.faults(byId("age"));
  if (faults.length) {
    showFaults(faults);
    return;
  }
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const chosen = visits.chosen();
  const isPair = chosen.length === 2;
  for (const id of ["answer", "details", "pictures"]) byId(id).hidden = true;
  byId("compare").disabled = true;
  byId("ask").setAttribute("aria-busy", "true");
  say("working");
  try {
    const files = chosen.map((visit) => visit.file);
    const fields = { accept_unproven: byId("accept").checked };
    const answer = isPair
      ? await api.progression(...files, { ...fields, gap_days: chosen[1].day })
      : await api.trajectory(files, chosen.map((visit) => visit.day), { ...fields, age: byId("age").value });
    const show = isPair ? showPairAnswer : showTrajectory;
    show({ verdict: byId("answer"), details: byId("details") }, { answer, model, visits: chosen });
    say("done");
    for (const id of ["answer", "details", "pictures"]) byId(id).hidden = false;
    byId("answer").focus({ preventScroll: true });
    byId("answer").scrollIntoView({ block: "start" });
    // The answer stands already; a picture that fails says so in its own place.
    viewer.show(chosen, { model, signal });
  } catch (refusal) {
    if (!(refusal instanceof api.Refusal)) throw refusal;
    refused(refusal);
  } finally {
    byId("compare").disabled = false;
    byId("ask").removeAttribute("aria-busy");
  }
}
