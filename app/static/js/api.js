// The service's routes. The key is kept here, in memory, and goes nowhere else.

let key = "";

export function useKey(text) {
  key = text.trim();
}

/** What the service, or the way to it, refused. `problem` is its RFC 9457 answer, or null. */
export class Refusal extends Error {
  constructor(status, problem, retryAfter = null) {
    super(problem?.detail ?? `status ${status}`);
    this.status = status;
    this.code = problem?.code ?? (status === 0 ? "unreachable" : "unknown");
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, null);
  }
  if (response.ok) return response;
  const isProblem = (response.headers.get("content-type") ?? "").includes("json");
  const problem = isProblem ? await response.json().catch(() => null) : null;
  throw new Refusal(response.status, problem, response.headers.get("retry-after"));
}

function form(files, fields) {
  const body = new FormData();
  for (const [part, file] of files) body.append(part, file);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== "") body.append(name, String(value));
  }
  return body;
}

export async function models() {
  return (await ask("v1/models")).json();
}

export async function example() {
  return (await ask("v1/example")).json();
}

/** One scan of the example, as a file as if it had been chosen. */
export async function exampleFile(name) {
  const data = await (await ask(`v1/example/${name}`)).blob();
  return new File([data], `example_${name}.nii.gz`, { type: "application/gzip" });
}

/** The scan as the model sees it: an ArrayBuffer of a .nii.gz file. */
export async function volume(file, signal) {
  return (await ask("v1/volumes", { method: "POST", body: form([["scan", file]], {}), signal })).arrayBuffer();
}

export async function progression(earlier, later, fields) {
  const body = form([["earlier", earlier], ["later", later]], fields);
  return (await ask("v1/progression", { method: "POST", body })).json();
}

export async function changeMap(earlier, later, signal) {
  const body = form([["earlier", earlier], ["later", later]], {});
  return (await ask("v1/progression/map", { method: "POST", body, signal })).arrayBuffer();
}

export async function trajectory(files, days, fields) {
  const body = form(files.map((file) => ["scans", file]), { days: days.join(","), ...fields });
  return (await ask("v1/trajectories", { method: "POST", body })).json();
}
