// Masks over the epochs: an image, a slider over the epochs, and a divider between any two of the views.
import { type FilmData } from "./data";
import { choice, h } from "./dom";
import { Timeline } from "./timeline";

const PACE = 1000; // milliseconds per epoch while playing
const IGNORED = 255;
const GRAY = [198, 202, 207];
const WRONG = [224, 102, 16];
const VIEWS: [string, string][] = [
  ["image", "Image"],
  ["truth", "Truth"],
  ["predicted", "Prediction"],
  ["overlay", "Overlay"],
  ["errors", "Errors"],
];

interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

async function decoded(source: string): Promise<Pixels> {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = h("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

export class Film {
  private image = 0;
  private epoch: number;
  private sides: [string, string] = ["truth", "predicted"];
  private divider = 50;
  private cache = new Map<string, Promise<Pixels>>();
  private colors: string[];
  private legend = h("ul", { class: "legend flat" });
  private canvas = h("canvas", { class: "film", role: "img" });
  private dividerLine = h("div", { class: "divider" });
  private status = h("p", { class: "numbers", role: "status" });
  private pixelClasses = h("p", { class: "numbers" });
  private dividerSlider: HTMLInputElement;
  private shown: { truth: Pixels; predicted: Pixels } | null = null;

  constructor(
    parent: HTMLElement,
    private data: FilmData,
  ) {
    this.epoch = data.epochs.length - 1;
    this.image = Math.floor(data.images.length / 2); // sorted by mean IoU, unless named in the recipe: start with the middle one
    this.colors = data.colors;
    const timeline = new Timeline(data.epochs, PACE, (epoch) => {
      this.epoch = epoch;
      this.paint();
    });
    this.dividerSlider = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Divider" });
    this.dividerSlider.addEventListener("input", () => this.setDivider(this.dividerSlider.valueAsNumber));
    const side = (index: 0 | 1, label: string) =>
      choice(label, VIEWS, this.sides[index], (view) => {
        this.sides[index] = view;
        this.paint();
      });
    parent.append(
      h(
        "div",
        { class: "tools" },
        h("div", { class: "named" }, "Left", side(0, "Left of the divider")),
        h("div", { class: "named" }, "Right", side(1, "Right of the divider")),
        ...(this.data.distinct.length ? [h("div", { class: "named" }, "Colors", this.colorChoice())] : []),
        timeline.element,
      ),
      this.status,
      h("div", { class: "screen" }, this.canvas, this.dividerLine),
      h("label", { class: "divider-slider" }, "Divider", this.dividerSlider),
      this.pixelClasses,
      this.legend,
      this.thumbnails(),
    );
    this.fillLegend();
    this.listen();
    this.paint();
  }

  /** The colors of the data may look alike to color-blind readers; those of the page differ for them too. */
  private colorChoice(): HTMLElement {
    const options: [string, string][] = [
      ["data", "Of the data"],
      ["distinct", "Color-blind safe"],
    ];
    return choice("Colors of the classes", options, "data", (chosen) => {
      this.colors = chosen === "data" ? this.data.colors : this.data.distinct;
      this.fillLegend();
      this.paint();
    });
  }

  private fillLegend(): void {
    const entries = this.data.classes.map((name, index) => {
      const dot = h("span", { class: "dot square" });
      dot.style.background = this.colors[index];
      return h("li", {}, dot, name);
    });
    this.legend.replaceChildren(...entries);
  }

  private thumbnails(): HTMLElement {
    const buttons = this.data.images.map((one, index) =>
      h(
        "button",
        { type: "button", title: one.name, "aria-pressed": String(index === this.image), onclick: () => pick(index) },
        h("img", { src: one.image, alt: one.name }),
      ),
    );
    const pick = (index: number) => {
      this.image = index;
      buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(number === index)));
      this.paint();
    };
    return h("div", { class: "reel", role: "group", "aria-label": "Images" }, ...buttons);
  }

  private listen(): void {
    const onPointer = (event: PointerEvent) => {
      const box = this.canvas.getBoundingClientRect();
      if (event.buttons || event.pointerType !== "mouse") {
        this.setDivider(Math.round((100 * (event.clientX - box.left)) / box.width));
      }
      this.showClasses((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      onPointer(event);
    });
    this.canvas.addEventListener("pointermove", onPointer);
  }

  private setDivider(percent: number): void {
    this.divider = Math.min(100, Math.max(0, percent));
    this.dividerSlider.value = String(this.divider);
    this.paint();
  }

  private pixels(source: string): Promise<Pixels> {
    let found = this.cache.get(source);
    if (!found) this.cache.set(source, (found = decoded(source)));
    return found;
  }

  private async paint(): Promise<void> {
    const [index, epoch] = [this.image, this.epoch];
    const one = this.data.images[index];
    const [image, truth, predicted] = await Promise.all([one.image, one.truth, one.masks[epoch]].map((s) => this.pixels(s)));
    if (index !== this.image || epoch !== this.epoch) return; // another one was selected while this one was decoded
    this.shown = { truth, predicted };
    const { canvas } = this;
    [canvas.width, canvas.height] = [truth.width, truth.height];
    const palette = this.colors.map((color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16)));
    const output = canvas.getContext("2d")!.createImageData(canvas.width, canvas.height);
    const border = Math.round((this.divider / 100) * canvas.width);
    for (let y = 0, at = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++, at += 4) {
        const view = x < border ? this.sides[0] : this.sides[1];
        this.color(view, palette, image.data, truth.data, predicted.data, at, output.data);
      }
    }
    canvas.getContext("2d")!.putImageData(output, 0, 0);
    this.dividerLine.style.left = `${this.divider}%`;
    this.status.replaceChildren(h("strong", {}, `Epoch ${this.data.epochs[epoch]}`), ` ${one.scores[epoch]}, ${one.name}`);
    const names = this.sides.map((side) => VIEWS.find(([view]) => view === side)?.[1]);
    canvas.setAttribute("aria-label", `${one.name}: ${names.join(" and ")}, left and right of the divider, after epoch ${this.data.epochs[epoch]}`);
  }

  /** Write the color of one view at a pixel, with index `at` in RGBA arrays, to `into`. */
  private color(
    view: string,
    palette: number[][],
    image: Uint8ClampedArray,
    truth: Uint8ClampedArray,
    predicted: Uint8ClampedArray,
    at: number,
    into: Uint8ClampedArray,
  ): void {
    const [real, found] = [truth[at], predicted[at]];
    const mask = view === "truth" ? real : found;
    const flat = palette[mask] ?? GRAY;
    const light = 130 + 0.45 * (0.3 * image[at] + 0.59 * image[at + 1] + 0.11 * image[at + 2]);
    for (let channel = 0; channel < 3; channel++) {
      let value = image[at + channel];
      if (view === "truth" || view === "predicted") value = flat[channel];
      else if (view === "overlay") value = 0.5 * value + 0.5 * flat[channel];
      else if (view === "errors" && real === IGNORED) value = GRAY[channel];
      else if (view === "errors") value = real === found ? light : WRONG[channel];
      into[at + channel] = value;
    }
    into[at + 3] = 255;
  }

  /** The classes of the pixel under the pointer. */
  private showClasses(x: number, y: number): void {
    if (!this.shown || x < 0 || y < 0 || x >= 1 || y >= 1) return;
    const { truth, predicted } = this.shown;
    const at = 4 * (Math.floor(y * truth.height) * truth.width + Math.floor(x * truth.width));
    const className = (mask: Pixels) => this.data.classes[mask.data[at]] ?? "ignored";
    this.pixelClasses.textContent = `At the pointer: truth ${className(truth)}, prediction ${className(predicted)}`;
  }
}
