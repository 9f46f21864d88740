// The prediction of a classifier: the most probable classes as bars, and the nearest training images.
import { h } from "../dom";
import { type LabelPrediction, type Neighbor, percent } from "./api";

const FIRST = 5;

/** The prediction of the model with this index. */
export function classesCard(prediction: LabelPrediction, index: number): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (prediction.probabilities.length) {
    parts.push(
      h("p", { class: "predicted" }, h("strong", {}, prediction.label), " ", h("span", { class: "sure" }, percent(prediction.confidence))),
      bars(prediction.probabilities),
    );
  }
  if (prediction.near.length) {
    parts.push(h("h3", {}, "Nearest training images"), h("p", { class: "small" }, votes(prediction.near, prediction.label)));
    parts.push(gallery(prediction.near, index, prediction.label));
  }
  if (prediction.note) parts.push(h("p", { class: "small note" }, prediction.note));
  return parts;
}

function bars(probabilities: LabelPrediction["probabilities"]): HTMLElement {
  const rows = probabilities.map(({ name, probability }, index) => {
    const fill = h("span", { class: "bar" });
    fill.style.width = `${100 * probability}%`;
    const row = h("li", {}, h("span", { class: "class" }, name), h("span", { class: "rail" }, fill), h("span", { class: "share" }, percent(probability)));
    row.hidden = index >= FIRST;
    return row;
  });
  const list = h("ol", { class: "bars", "aria-label": "Probabilities" }, ...rows);
  const rest = rows.slice(FIRST);
  if (!rest.length) return list;
  const more = h("button", { type: "button", class: "more", "aria-expanded": "false", onclick: () => toggle() });
  const setLabel = () => (more.textContent = rest[0].hidden ? `All ${rows.length} classes` : `The first ${FIRST} classes`);
  const toggle = () => {
    rest.forEach((row) => (row.hidden = !row.hidden));
    more.setAttribute("aria-expanded", String(!rest[0].hidden));
    setLabel();
  };
  setLabel();
  return h("div", {}, list, more);
}

/** A sentence on the classes of the nearest images. */
function votes(near: Neighbor[], predicted: string): string {
  const counts = new Map<string, number>();
  for (const { label } of near) counts.set(label, (counts.get(label) ?? 0) + 1);
  if (counts.has("")) return "By cosine similarity of the penultimate features.";
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([label, count]) => `${count} ${label}`);
  const same = counts.get(predicted) ?? 0;
  const classes = same === near.length ? `All ${same} are ${predicted}.` : `Of ${near.length}: ${parts.join(", ")}.`;
  return `${classes} By cosine similarity of the penultimate features.`;
}

function gallery(near: Neighbor[], index: number, predicted: string): HTMLElement {
  const items = near.map((one) => {
    const image = h("img", { src: `/api/models/${index}/training/${one.picture}.png`, alt: one.name, title: one.name, loading: "lazy" });
    image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 64));
    const other = one.label !== "" && predicted !== "" && one.label !== predicted;
    const label = one.label ? [h("span", { class: other ? "wrong" : "right" }, one.label)] : [];
    return h("li", {}, h("figure", {}, image, h("figcaption", {}, ...label, h("span", { class: "sure" }, one.similarity.toFixed(3)))));
  });
  return h("ul", { class: "gallery near" }, ...items);
}
