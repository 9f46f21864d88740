// Thumbnails, drawn from sprite sheets, and lists of them with the predictions.
import { type Items, percent, type Predictions } from "./data";
import { h } from "./dom";

const PAGE = 60;

/** Draws thumbnails from the sprite sheets. */
export class Thumbnails {
  private sheets: HTMLImageElement[];

  constructor(readonly items: Items) {
    this.sheets = items.sheets.map((source) => {
      const image = new Image();
      image.src = source;
      return image;
    });
  }

  get count(): number {
    return this.items.names.length;
  }

  /** A canvas of the thumbnail's size, drawn when its sheet is decoded. */
  canvas(index: number): HTMLCanvasElement {
    const [height, width] = this.items.tile;
    const canvas = h("canvas", { width, height, role: "img", "aria-label": this.description(index) });
    if (Math.max(width, height) <= 40) canvas.classList.add("pixels");
    this.draw(canvas, index);
    return canvas;
  }

  draw(canvas: HTMLCanvasElement, index: number): void {
    const { tile, columns, perSheet } = this.items;
    const sheet = this.sheets[Math.floor(index / perSheet)];
    if (!sheet) return;
    const position = index % perSheet;
    const [height, width] = tile;
    const paint = () => {
      const [x, y] = [(position % columns) * width, Math.floor(position / columns) * height];
      canvas.getContext("2d")?.drawImage(sheet, x, y, width, height, 0, 0, canvas.width, canvas.height);
    };
    if (sheet.complete) paint();
    else sheet.addEventListener("load", paint, { once: true });
  }

  truth(index: number): string {
    const { truth, classes } = this.items;
    return truth ? classes[truth[index]] : "";
  }

  isCorrect(index: number, predictions: Predictions = this.items): boolean {
    const { truth } = this.items;
    return !truth || !predictions.predicted || truth[index] === predictions.predicted[index];
  }

  /** Alternative text of an image: its name, true class and prediction. */
  description(index: number, predictions: Predictions = this.items): string {
    const { classes, names } = this.items;
    const prediction = predictions.predicted ? `, predicted ${classes[predictions.predicted[index]]}${confidenceText(index, predictions, ", ")}` : "";
    return `${names[index]}: ${this.truth(index)}${prediction}`;
  }

  /** Labeled lines for the card of one image: true class, predicted class, confidence. */
  facts(index: number, predictions: Predictions = this.items): HTMLElement[] {
    if (!predictions.predicted) return [h("span", {}, this.truth(index))];
    const right = this.isCorrect(index, predictions);
    const predicted = this.items.classes[predictions.predicted[index]];
    const lines = [
      h("span", {}, "Truth: ", h("b", {}, this.truth(index))),
      h("span", { class: right ? "right" : "wrong" }, "Prediction: ", h("b", {}, predicted)),
    ];
    if (predictions.confidence) lines.push(h("span", { class: "sure" }, confidenceText(index, predictions)));
    return lines;
  }

  /** Lines below a thumbnail: true class, predicted class, confidence. */
  caption(index: number, predictions: Predictions = this.items): HTMLElement[] {
    const lines = [h("span", {}, this.truth(index))];
    if (!predictions.predicted) return lines;
    const right = this.isCorrect(index, predictions);
    const predicted = right ? "correct" : `as ${this.items.classes[predictions.predicted[index]]}`;
    lines.push(h("span", { class: right ? "right" : "wrong" }, predicted));
    if (predictions.confidence) lines.push(h("span", { class: "sure" }, confidenceText(index, predictions)));
    return lines;
  }
}

function confidenceText(index: number, predictions: Predictions, before = ""): string {
  return predictions.confidence ? `${before}${percent(predictions.confidence[index])} confidence` : "";
}

/** Show a titled list of thumbnails in `parent`, a page at a time. indices: of the images. closed: called on close. */
export function showList(
  parent: HTMLElement,
  thumbnails: Thumbnails,
  title: string,
  indices: number[],
  predictions: Predictions = thumbnails.items,
  closed: () => void = () => {},
): void {
  const list = h("ul", { class: "gallery" });
  let shown = 0;
  const more = h("button", { type: "button", class: "more", onclick: () => add() });
  function add(): void {
    for (const index of indices.slice(shown, shown + PAGE)) {
      const name = h("span", { class: "name" }, thumbnails.items.names[index]);
      const figure = h("figure", { title: thumbnails.items.names[index] }, thumbnails.canvas(index));
      figure.append(h("figcaption", {}, ...thumbnails.caption(index, predictions), name));
      list.append(h("li", {}, figure));
    }
    shown = Math.min(shown + PAGE, indices.length);
    more.hidden = shown >= indices.length;
    more.textContent = `Show ${Math.min(PAGE, indices.length - shown)} more of ${indices.length}`;
  }
  add();
  const close = () => {
    parent.replaceChildren();
    closed();
  };
  const closeButton = h("button", { type: "button", class: "close", onclick: close }, "Close");
  const head = h("p", { class: "listed", role: "status" }, title, closeButton);
  parent.replaceChildren(head, list, more);
}
