// Masks of one image by one or several segmenters, with a shared divider and opacity.
import { choice, h } from "../dom";
import { type MaskPrediction, percent } from "./api";

type View = "image" | "overlay" | "mask";
const VIEWS: [View, string][] = [
  ["image", "Image"],
  ["overlay", "Overlay"],
  ["mask", "Mask"],
];

/** The display settings of all masks, with their controls; listeners are called when a setting changes. */
export class MaskView {
  left: View = "image";
  right: View = "overlay";
  divider = 50;
  opacity = 0.6;
  private listeners: (() => void)[] = [];
  private dividerSlider = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Divider" });
  private opacitySlider = h("input", { type: "range", min: 0, max: 100, value: 60, "aria-label": "Opacity" });
  readonly element: HTMLElement;

  constructor() {
    this.dividerSlider.addEventListener("input", () => this.setDivider(this.dividerSlider.valueAsNumber));
    this.opacitySlider.addEventListener("input", () => {
      this.opacity = this.opacitySlider.valueAsNumber / 100;
      this.notify();
    });
    const side = (name: "left" | "right", label: string) =>
      choice(label, VIEWS, this[name], (view) => {
        this[name] = view as View;
        this.notify();
      });
    this.element = h(
      "div",
      { class: "tools" },
      h("div", { class: "named" }, "Left", side("left", "Left of the divider")),
      h("div", { class: "named" }, "Right", side("right", "Right of the divider")),
      h("label", { class: "named slide" }, "Divider", this.dividerSlider),
      h("label", { class: "named slide" }, "Opacity", this.opacitySlider),
    );
  }

  setDivider(percent: number): void {
    this.divider = Math.min(100, Math.max(0, percent));
    this.dividerSlider.value = String(this.divider);
    this.notify();
  }

  /** Call `listener` after each change, until `removeListeners`. */
  addListener(listener: () => void): void {
    this.listeners.push(listener);
  }

  removeListeners(): void {
    this.listeners = [];
  }

  private notify(): void {
    this.listeners.forEach((listener) => listener());
  }
}

/** A canvas of this size with the image drawn on it. */
export function canvasOf(image: HTMLImageElement, width: number, height: number): HTMLCanvasElement {
  const canvas = h("canvas", { width, height });
  canvas.getContext("2d", { willReadFrequently: true })!.drawImage(image, 0, 0, width, height);
  return canvas;
}

export async function loadImage(source: string): Promise<HTMLImageElement> {
  const image = h("img", { src: source });
  await image.decode();
  return image;
}

/** The prediction of one segmenter; name: its model. */
export async function maskCard(prediction: MaskPrediction, photo: HTMLImageElement, display: MaskView, name: string): Promise<HTMLElement[]> {
  const { width, height } = prediction;
  const gray = canvasOf(await loadImage(`data:image/png;base64,${prediction.mask}`), width, height);
  const indices = gray.getContext("2d")!.getImageData(0, 0, width, height).data;
  const [image, mask] = [canvasOf(photo, width, height), colored(indices, width, height, prediction)];
  const canvas = h("canvas", { class: "film", role: "img", width, height });
  const line = h("div", { class: "divider" });
  const pixelClass = h("p", { class: "numbers", role: "status" });
  const context = canvas.getContext("2d")!;

  function side(view: View, from: number, to: number): void {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    if (view !== "mask") context.drawImage(image, 0, 0);
    context.globalAlpha = view === "mask" ? 1 : display.opacity;
    if (view !== "image") context.drawImage(mask, 0, 0);
    context.restore();
  }
  function paint(): void {
    const border = Math.round((display.divider / 100) * width);
    context.clearRect(0, 0, width, height);
    side(display.left, 0, border);
    side(display.right, border, width);
    line.style.left = `${display.divider}%`;
    canvas.setAttribute("aria-label", `${name}: ${display.left} and ${display.right}, left and right of the divider`);
  }
  function onPointer(event: PointerEvent): void {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (event.buttons || event.pointerType !== "mouse") display.setDivider(Math.round(100 * x));
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
    const at = 4 * (Math.floor(y * height) * width + Math.floor(x * width));
    pixelClass.textContent = `Class at the pointer: ${prediction.classes[indices[at]]?.name ?? "none"}`;
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    onPointer(event);
  });
  canvas.addEventListener("pointermove", onPointer);
  display.addListener(paint);
  paint();
  const save = h("button", { type: "button", class: "more", onclick: () => download(mask, `${name}-mask.png`) }, "Save the mask");
  return [h("div", { class: "screen" }, canvas, line), pixelClass, shares(prediction), save];
}

function colored(indices: Uint8ClampedArray, width: number, height: number, prediction: MaskPrediction): HTMLCanvasElement {
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d")!;
  const pixels = context.createImageData(width, height);
  const colors = prediction.classes.map(({ color }) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16)));
  for (let at = 0; at < indices.length; at += 4) {
    const color = colors[indices[at]];
    if (!color) continue;
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2], pixels.data[at + 3]] = [color[0], color[1], color[2], 255];
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** A list of the classes in the mask with their shares of the pixels, the largest first. */
function shares(prediction: MaskPrediction): HTMLElement {
  const found = prediction.classes.filter(({ share }) => share > 0).sort((a, b) => b.share - a.share);
  const entries = found.map(({ name, color, share }) => {
    const dot = h("span", { class: "dot square" });
    dot.style.background = color;
    return h("li", {}, dot, name, h("span", { class: "sure" }, percent(share)));
  });
  return h("ul", { class: "legend flat", "aria-label": "Share of each class" }, ...entries);
}

/** Download the content of a canvas as a PNG file. */
export function download(canvas: HTMLCanvasElement, name: string): void {
  canvas.toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}
