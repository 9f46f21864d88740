// Masks of one picture by one or several segmenters: a divider and an opacity that all of them share.
import { choice, h } from "../dom";
import { type MaskAnswer, percent } from "./api";

type View = "image" | "overlay" | "mask";
const VIEWS: [View, string][] = [
  ["image", "Image"],
  ["overlay", "Overlay"],
  ["mask", "Mask"],
];

/** How all masks are shown, and who wants to know when that changes. */
export class Look {
  left: View = "image";
  right: View = "overlay";
  divider = 50;
  opacity = 0.6;
  private listeners: (() => void)[] = [];
  private swipe = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Divider" });
  private strength = h("input", { type: "range", min: 0, max: 100, value: 60, "aria-label": "Opacity" });
  readonly element: HTMLElement;

  constructor() {
    this.swipe.addEventListener("input", () => this.divide(this.swipe.valueAsNumber));
    this.strength.addEventListener("input", () => {
      this.opacity = this.strength.valueAsNumber / 100;
      this.tell();
    });
    const side = (name: "left" | "right", label: string) =>
      choice(label, VIEWS, this[name], (view) => {
        this[name] = view as View;
        this.tell();
      });
    this.element = h(
      "div",
      { class: "tools" },
      h("div", { class: "named" }, "Left", side("left", "Left of the divider")),
      h("div", { class: "named" }, "Right", side("right", "Right of the divider")),
      h("label", { class: "named slide" }, "Divider", this.swipe),
      h("label", { class: "named slide" }, "Opacity", this.strength),
    );
  }

  divide(percent: number): void {
    this.divider = Math.min(100, Math.max(0, percent));
    this.swipe.value = String(this.divider);
    this.tell();
  }

  /** Calls `change` at each change from now on, those of earlier pictures no more once `forget` was called. */
  listen(change: () => void): void {
    this.listeners.push(change);
  }

  forget(): void {
    this.listeners = [];
  }

  private tell(): void {
    this.listeners.forEach((change) => change());
  }
}

/** A picture's pixels drawn once on a canvas of their size. */
export function drawn(image: HTMLImageElement, width: number, height: number): HTMLCanvasElement {
  const canvas = h("canvas", { width, height });
  canvas.getContext("2d", { willReadFrequently: true })!.drawImage(image, 0, 0, width, height);
  return canvas;
}

export async function loaded(source: string): Promise<HTMLImageElement> {
  const image = h("img", { src: source });
  await image.decode();
  return image;
}

/** One segmenter's answer. */
export async function maskCard(answer: MaskAnswer, picture: HTMLImageElement, look: Look, name: string): Promise<HTMLElement[]> {
  const { width, height } = answer;
  const gray = drawn(await loaded(`data:image/png;base64,${answer.mask}`), width, height);
  const indices = gray.getContext("2d")!.getImageData(0, 0, width, height).data;
  const [image, mask] = [drawn(picture, width, height), colored(indices, width, height, answer)];
  const canvas = h("canvas", { class: "film", role: "img", width, height });
  const line = h("div", { class: "divider" });
  const under = h("p", { class: "numbers", role: "status" });
  const context = canvas.getContext("2d")!;

  function side(view: View, from: number, to: number): void {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    if (view !== "mask") context.drawImage(image, 0, 0);
    context.globalAlpha = view === "mask" ? 1 : look.opacity;
    if (view !== "image") context.drawImage(mask, 0, 0);
    context.restore();
  }
  function paint(): void {
    const border = Math.round((look.divider / 100) * width);
    context.clearRect(0, 0, width, height);
    side(look.left, 0, border);
    side(look.right, border, width);
    line.style.left = `${look.divider}%`;
    canvas.setAttribute("aria-label", `${look.left} beside ${look.right} by ${name}`);
  }
  function follow(event: PointerEvent): void {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (event.buttons || event.pointerType !== "mouse") look.divide(Math.round(100 * x));
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
    const at = 4 * (Math.floor(y * height) * width + Math.floor(x * width));
    under.textContent = `Here: ${answer.classes[indices[at]]?.name ?? "nothing"}`;
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    follow(event);
  });
  canvas.addEventListener("pointermove", follow);
  look.listen(paint);
  paint();
  const save = h("button", { type: "button", class: "more", onclick: () => download(mask, `${name}-mask.png`) }, "Save the mask");
  return [h("div", { class: "screen" }, canvas, line), under, shares(answer), save];
}

function colored(indices: Uint8ClampedArray, width: number, height: number, answer: MaskAnswer): HTMLCanvasElement {
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d")!;
  const pixels = context.createImageData(width, height);
  const colors = answer.classes.map(({ color }) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16)));
  for (let at = 0; at < indices.length; at += 4) {
    const color = colors[indices[at]];
    if (!color) continue;
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2], pixels.data[at + 3]] = [color[0], color[1], color[2], 255];
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The classes that were found, the largest first. */
function shares(answer: MaskAnswer): HTMLElement {
  const found = answer.classes.filter(({ share }) => share > 0).sort((a, b) => b.share - a.share);
  const entries = found.map(({ name, color, share }) => {
    const dot = h("span", { class: "dot square" });
    dot.style.background = color;
    return h("li", {}, dot, name, h("span", { class: "sure" }, percent(share)));
  });
  return h("ul", { class: "legend flat", "aria-label": "Shares of the picture" }, ...entries);
}

/** Lets the browser save what a canvas shows. */
export function download(canvas: HTMLCanvasElement, name: string): void {
  canvas.toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}
