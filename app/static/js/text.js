// The page's words in the browser's language; numbers as that language writes them.

import en from "./texts/en.js";
import de from "./texts/de.js";

const LANGUAGES = { en, de };

/** The first language of the browser that there are texts for; English otherwise. */
export const language =
  navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES) ?? "en";
const words = LANGUAGES[language];

/** A text by its name, with {values} put in. */
export function t(name, values = {}) {
  const text = words[name] ?? en[name];
  if (text === undefined) throw new Error(`no text named ${name}`);
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

/** Whether there is a text of that name. */
export function has(name) {
  return name in words || name in en;
}

/** With so many decimals; a value that they would make 0 shows its first digit. */
export function number(value, digits = 1) {
  const isLost = digits > 0 && value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits;
  const form = isLost ? { maximumSignificantDigits: 1 } : { maximumFractionDigits: digits, minimumFractionDigits: digits };
  return new Intl.NumberFormat(language, form).format(value);
}

/** With its sign, as changes are written; a true minus. */
export function signed(value, digits = 1) {
  const text = number(Math.abs(value), digits);
  return value === 0 ? text : `${value < 0 ? "\u2212" : "+"}${text}`;
}

export function percent(value) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(value);
}

/** A probability as the service means it: never exactly 0 or 1. */
export function chance(value) {
  if (value > 0 && value < 0.01) return `< ${percent(0.01)}`;
  if (value < 1 && value > 0.99) return `> ${percent(0.99)}`;
  return percent(value);
}

/** Put the words into everything in the HTML that names a text. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
}
