// Segment Anything: masks for points and a box on the image.
import { choice, h } from "../dom";
import { embed, masksAt, percent, type PointMask, RequestError } from "./api";
import { canvasOf, download, loadImage } from "./masks";

const COLOR = [31, 106, 165];
const DRAG = 6; // CSS pixels; a longer drag draws a box, a shorter one is a click

/** The card for one image. The server embeds the image at the first point or box. */
export class PointPrompts {
  readonly element: HTMLElement;
  private canvas: HTMLCanvasElement;
  private status = h("p", { class: "numbers", role: "status" });
  private maskChoice = h("div", { class: "tools" });
  private points: number[][] = [];
  private labels: number[] = [];
  private box: number[] | null = null;
  private masks: PointMask[] = [];
  private selected = 0;
  private label = 1;
  private key = ""; // of the embedded image
  private requests = 0; // responses to earlier requests are ignored
  private layer: HTMLCanvasElement | null = null;
  private image: HTMLCanvasElement;

  constructor(
    private file: Blob,
    image: HTMLImageElement,
    width: number,
    height: number,
  ) {
    this.image = canvasOf(image, width, height);
    this.canvas = h("canvas", { class: "film", role: "img", width, height, "aria-label": "Image for points and boxes" });
    const kind = choice("Label of a click", [["1", "Inside the object"], ["0", "Outside"]], "1", (value) => (this.label = Number(value)));
    const clear = h("button", { type: "button", onclick: () => this.clear() }, "Clear");
    const save = h("button", { type: "button", onclick: () => this.save() }, "Save the mask");
    this.element = h(
      "div",
      {},
      h("p", { class: "small" }, "Click an object, or draw a box around it. More points refine the mask."),
      h("div", { class: "tools" }, h("div", { class: "named" }, "A click is", kind), clear, save),
      h("div", { class: "screen" }, this.canvas),
      this.status,
      this.maskChoice,
    );
    this.listen();
    this.paint();
  }

  /** The pixel of the image under the pointer, [x, y]. */
  private position(event: PointerEvent): number[] {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.canvas.width;
    const y = ((event.clientY - box.top) / box.height) * this.canvas.height;
    return [Math.min(Math.max(x, 0), this.canvas.width - 1), Math.min(Math.max(y, 0), this.canvas.height - 1)];
  }

  private listen(): void {
    let from: { point: number[]; x: number; y: number } | null = null;
    const far = (event: PointerEvent) => from && Math.hypot(event.clientX - from.x, event.clientY - from.y) > DRAG;
    this.canvas.addEventListener("pointerdown", (event) => {
      from = { point: this.position(event), x: event.clientX, y: event.clientY };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (from && far(event)) this.paint(corners(from.point, this.position(event)));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!from) return;
      if (far(event)) {
        this.box = corners(from.point, this.position(event));
      } else {
        this.points.push(this.position(event));
        this.labels.push(this.label);
      }
      from = null;
      void this.requestMasks();
    });
  }

  private clear(): void {
    [this.points, this.labels, this.box, this.masks, this.layer] = [[], [], null, [], null];
    this.status.textContent = "";
    this.maskChoice.replaceChildren();
    this.requests++;
    this.paint();
  }

  private async requestMasks(): Promise<void> {
    const request = ++this.requests;
    this.paint();
    try {
      if (!this.key) {
        this.status.textContent = "Computing the image embedding, once per image; this takes seconds to minutes.";
        this.key = (await embed(this.file)).picture;
      }
      const prompt = { points: this.points, labels: this.labels, box: this.box };
      const found = await masksAt(this.key, prompt);
      if (request !== this.requests) return;
      this.masks = found.masks;
      await this.selectMask(0);
    } catch (error) {
      if (error instanceof RequestError && error.status === 404 && this.key) {
        this.key = ""; // evicted from the server's cache: embed it again
        return this.requestMasks();
      }
      this.status.textContent = error instanceof RequestError ? error.message : String(error);
    }
  }

  private async selectMask(index: number): Promise<void> {
    this.selected = index;
    const { mask, score, share } = this.masks[index];
    this.layer = tinted(await loadImage(`data:image/png;base64,${mask}`), this.canvas.width, this.canvas.height);
    this.status.textContent = `${percent(share)} of the image; predicted IoU ${score.toFixed(2)}`;
    const options = this.masks.map((one, index): [string, string] => [String(index), `Mask ${index + 1}, ${one.score.toFixed(2)}`]);
    const several = () => choice("Mask", options, String(this.selected), (value) => void this.selectMask(Number(value)));
    this.maskChoice.replaceChildren(...(options.length > 1 ? [several()] : []));
    this.paint();
  }

  private save(): void {
    if (this.layer) download(this.layer, "segment-anything-mask.png");
  }

  private paint(drawing: number[] | null = this.box): void {
    const context = this.canvas.getContext("2d")!;
    const unit = this.canvas.width / Math.max(this.canvas.clientWidth || this.canvas.width, 1);
    context.drawImage(this.image, 0, 0);
    if (this.layer) context.drawImage(this.layer, 0, 0);
    context.lineWidth = 2 * unit;
    if (drawing) {
      context.strokeStyle = "#ffffff";
      context.strokeRect(drawing[0], drawing[1], drawing[2] - drawing[0], drawing[3] - drawing[1]);
    }
    this.points.forEach(([x, y], index) => {
      context.beginPath();
      context.arc(x, y, 6 * unit, 0, 2 * Math.PI);
      context.fillStyle = this.labels[index] ? "#16825d" : "#b4530f";
      context.fill();
      context.strokeStyle = "#ffffff";
      context.stroke();
    });
  }
}

const corners = (a: number[], b: number[]) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];

/** A black and white mask as a translucent layer of one color. */
function tinted(mask: HTMLImageElement, width: number, height: number): HTMLCanvasElement {
  const canvas = canvasOf(mask, width, height);
  const context = canvas.getContext("2d")!;
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const on = pixels.data[at] > 127;
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2], pixels.data[at + 3]] = [COLOR[0], COLOR[1], COLOR[2], on ? 150 : 0];
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
