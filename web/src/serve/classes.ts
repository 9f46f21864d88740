// A classifier's answer: the likeliest classes as bars, and the training pictures that look most like it.
import { h } from "../dom";
import { type ClassAnswer, type Near, percent } from "./api";

const FIRST = 5;

/** The answer of the model at place `index`. */
export function classesCard(answer: ClassAnswer, index: number): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (answer.probabilities.length) {
    parts.push(
      h("p", { class: "verdict" }, h("strong", {}, answer.label), " ", h("span", { class: "sure" }, percent(answer.confidence))),
      bars(answer.probabilities),
    );
  }
  if (answer.near.length) {
    parts.push(h("h3", {}, "Nearest training pictures"), h("p", { class: "small" }, votes(answer.near, answer.label)));
    parts.push(gallery(answer.near, index, answer.label));
  }
  if (answer.note) parts.push(h("p", { class: "small note" }, answer.note));
  return parts;
}

function bars(probabilities: ClassAnswer["probabilities"]): HTMLElement {
  const rows = probabilities.map(({ name, probability }, place) => {
    const fill = h("span", { class: "bar" });
    fill.style.width = `${100 * probability}%`;
    const row = h("li", {}, h("span", { class: "class" }, name), h("span", { class: "rail" }, fill), h("span", { class: "share" }, percent(probability)));
    row.hidden = place >= FIRST;
    return row;
  });
  const list = h("ol", { class: "bars", "aria-label": "Probabilities" }, ...rows);
  const rest = rows.slice(FIRST);
  if (!rest.length) return list;
  const more = h("button", { type: "button", class: "more", "aria-expanded": "false", onclick: () => turn() });
  const name = () => (more.textContent = rest[0].hidden ? `All ${rows.length} classes` : `The first ${FIRST} classes`);
  const turn = () => {
    rest.forEach((row) => (row.hidden = !row.hidden));
    more.setAttribute("aria-expanded", String(!rest[0].hidden));
    name();
  };
  name();
  return h("div", {}, list, more);
}

/** Of which classes the neighbors are, in words. */
function votes(near: Near[], predicted: string): string {
  const counts = new Map<string, number>();
  for (const { label } of near) counts.set(label, (counts.get(label) ?? 0) + 1);
  if (counts.has("")) return "By cosine similarity of the features before the last layer.";
  const told = [...counts].sort((a, b) => b[1] - a[1]).map(([label, count]) => `${count} ${label}`);
  const same = counts.get(predicted) ?? 0;
  const verdict = same === near.length ? `All ${same} are ${predicted}.` : `Of ${near.length}: ${told.join(", ")}.`;
  return `${verdict} Similarity is the cosine between features before the last layer.`;
}

function gallery(near: Near[], index: number, predicted: string): HTMLElement {
  const items = near.map((one) => {
    const picture = h("img", { src: `/api/models/${index}/training/${one.picture}.png`, alt: one.name, title: one.name, loading: "lazy" });
    picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth <= 64));
    const other = one.label !== "" && predicted !== "" && one.label !== predicted;
    const says = one.label ? [h("span", { class: other ? "wrong" : "right" }, one.label)] : [];
    return h("li", {}, h("figure", {}, picture, h("figcaption", {}, ...says, h("span", { class: "sure" }, one.similarity.toFixed(3)))));
  });
  return h("ul", { class: "gallery near" }, ...items);
}
