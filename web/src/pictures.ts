// Thumbnails out of sheets, and lists of them with what the model says of each.
import { type Items, percent, type Said } from "./data";
import { h } from "./dom";

const PAGE = 60;

/** Draws single pictures out of the sheets. */
export class Pictures {
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

  /** A canvas of the picture's own size that fills itself once its sheet is decoded. */
  canvas(index: number): HTMLCanvasElement {
    const [height, width] = this.items.tile;
    const canvas = h("canvas", { width, height, role: "img", "aria-label": this.says(index) });
    if (Math.max(width, height) <= 40) canvas.classList.add("pixels");
    this.draw(canvas, index);
    return canvas;
  }

  draw(canvas: HTMLCanvasElement, index: number): void {
    const { tile, columns, perSheet } = this.items;
    const sheet = this.sheets[Math.floor(index / perSheet)];
    if (!sheet) return;
    const place = index % perSheet;
    const [height, width] = tile;
    const paint = () => {
      const [x, y] = [(place % columns) * width, Math.floor(place / columns) * height];
      canvas.getContext("2d")?.drawImage(sheet, x, y, width, height, 0, 0, canvas.width, canvas.height);
    };
    if (sheet.complete) paint();
    else sheet.addEventListener("load", paint, { once: true });
  }

  truth(index: number): string {
    const { truth, classes } = this.items;
    return truth ? classes[truth[index]] : "";
  }

  right(index: number, said: Said = this.items): boolean {
    const { truth } = this.items;
    return !truth || !said.predicted || truth[index] === said.predicted[index];
  }

  /** One line for who does not see the picture. */
  says(index: number, said: Said = this.items): string {
    const { classes, names } = this.items;
    const guess = said.predicted ? `, predicted ${classes[said.predicted[index]]}${sure(index, said, ", ")}` : "";
    return `${names[index]}: ${this.truth(index)}${guess}`;
  }

  /** Lines for one picture alone: what it is, what it was taken for, how sure, each with its name. */
  facts(index: number, said: Said = this.items): HTMLElement[] {
    if (!said.predicted) return [h("span", {}, this.truth(index))];
    const right = this.right(index, said);
    const guess = this.items.classes[said.predicted[index]];
    const lines = [
      h("span", {}, "Truth: ", h("b", {}, this.truth(index))),
      h("span", { class: right ? "right" : "wrong" }, "Prediction: ", h("b", {}, guess)),
    ];
    if (said.confidence) lines.push(h("span", { class: "sure" }, sure(index, said)));
    return lines;
  }

  /** Lines below a picture: truth, what it was taken for, how sure. */
  caption(index: number, said: Said = this.items): HTMLElement[] {
    const lines = [h("span", {}, this.truth(index))];
    if (!said.predicted) return lines;
    const right = this.right(index, said);
    const taken = right ? "found" : `as ${this.items.classes[said.predicted[index]]}`;
    lines.push(h("span", { class: right ? "right" : "wrong" }, taken));
    if (said.confidence) lines.push(h("span", { class: "sure" }, sure(index, said)));
    return lines;
  }
}

function sure(index: number, said: Said, before = ""): string {
  return said.confidence ? `${before}${percent(said.confidence[index])} sure` : "";
}

/** Fills `place` with a titled list of pictures, a page at a time; closed: hears that it was closed. */
export function showList(
  place: HTMLElement,
  pictures: Pictures,
  title: string,
  found: number[],
  said: Said = pictures.items,
  closed: () => void = () => {},
): void {
  const list = h("ul", { class: "gallery" });
  let shown = 0;
  const more = h("button", { type: "button", class: "more", onclick: () => add() });
  function add(): void {
    for (const index of found.slice(shown, shown + PAGE)) {
      const name = h("span", { class: "name" }, pictures.items.names[index]);
      const figure = h("figure", { title: pictures.items.names[index] }, pictures.canvas(index));
      figure.append(h("figcaption", {}, ...pictures.caption(index, said), name));
      list.append(h("li", {}, figure));
    }
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown >= found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more of ${found.length}`;
  }
  add();
  const shut = () => {
    place.replaceChildren();
    closed();
  };
  const close = h("button", { type: "button", class: "close", onclick: shut }, "Close");
  const head = h("p", { class: "listed", role: "status" }, title, close);
  place.replaceChildren(head, list, more);
}
