// Segment Anything: points and boxes on the picture give masks of what lies there.
import { choice, h } from "../dom";
import { embed, masksAt, percent, type PointMask, Refused } from "./api";
import { download, drawn, loaded } from "./masks";

const COLOR = [31, 106, 165];
const DRAG = 6; // pixels of the screen from which on a press is a box

/** The card for one picture; it asks the server when it is opened and at each point. */
export class Points {
  readonly element: HTMLElement;
  private canvas: HTMLCanvasElement;
  private says = h("p", { class: "numbers", role: "status" });
  private which = h("div", { class: "tools" });
  private points: number[][] = [];
  private labels: number[] = [];
  private box: number[] | null = null;
  private masks: PointMask[] = [];
  private chosen = 0;
  private inside = 1;
  private id = "";
  private asked = 0;
  private layer: HTMLCanvasElement | null = null;
  private image: HTMLCanvasElement;

  constructor(
    private picture: Blob,
    shown: HTMLImageElement,
    width: number,
    height: number,
  ) {
    this.image = drawn(shown, width, height);
    this.canvas = h("canvas", { class: "film", role: "img", width, height, "aria-label": "Picture for points and boxes" });
    const kind = choice("What a click means", [["1", "Belongs to it"], ["0", "Does not"]], "1", (value) => (this.inside = Number(value)));
    const clear = h("button", { type: "button", onclick: () => this.clear() }, "Clear");
    const save = h("button", { type: "button", onclick: () => this.save() }, "Save the mask");
    this.element = h(
      "div",
      {},
      h("p", { class: "small" }, "Click what you mean, or draw a box around it. More points mend a mask."),
      h("div", { class: "tools" }, h("div", { class: "named" }, "A click:", kind), clear, save),
      h("div", { class: "screen" }, this.canvas),
      this.says,
      this.which,
    );
    this.listen();
    this.paint();
  }

  private place(event: PointerEvent): number[] {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.canvas.width;
    const y = ((event.clientY - box.top) / box.height) * this.canvas.height;
    return [Math.min(Math.max(x, 0), this.canvas.width - 1), Math.min(Math.max(y, 0), this.canvas.height - 1)];
  }

  private listen(): void {
    let from: { place: number[]; x: number; y: number } | null = null;
    const far = (event: PointerEvent) => from && Math.hypot(event.clientX - from.x, event.clientY - from.y) > DRAG;
    this.canvas.addEventListener("pointerdown", (event) => {
      from = { place: this.place(event), x: event.clientX, y: event.clientY };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (from && far(event)) this.paint(corners(from.place, this.place(event)));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!from) return;
      if (far(event)) {
        this.box = corners(from.place, this.place(event));
      } else {
        this.points.push(this.place(event));
        this.labels.push(this.inside);
      }
      from = null;
      void this.ask();
    });
  }

  private clear(): void {
    [this.points, this.labels, this.box, this.masks, this.layer] = [[], [], null, [], null];
    this.says.textContent = "";
    this.which.replaceChildren();
    this.asked++;
    this.paint();
  }

  private async ask(): Promise<void> {
    const turn = ++this.asked;
    this.paint();
    try {
      if (!this.id) {
        this.says.textContent = "Looking at the picture; once for each, seconds to minutes.";
        this.id = (await embed(this.picture)).picture;
      }
      const prompt = { points: this.points, labels: this.labels, box: this.box };
      const found = await masksAt(this.id, prompt);
      if (turn !== this.asked) return;
      this.masks = found.masks;
      await this.choose(0);
    } catch (error) {
      if (error instanceof Refused && error.status === 404 && this.id) {
        this.id = ""; // the server keeps few pictures
        return this.ask();
      }
      this.says.textContent = error instanceof Refused ? error.message : String(error);
    }
  }

  private async choose(index: number): Promise<void> {
    this.chosen = index;
    const { mask, score, share } = this.masks[index];
    this.layer = tinted(await loaded(`data:image/png;base64,${mask}`), this.canvas.width, this.canvas.height);
    this.says.textContent = `${percent(share)} of the picture; the model expects an IoU of ${score.toFixed(2)}`;
    const options = this.masks.map((one, place): [string, string] => [String(place), `Mask ${place + 1}, ${one.score.toFixed(2)}`]);
    const several = () => choice("Which mask", options, String(this.chosen), (value) => void this.choose(Number(value)));
    this.which.replaceChildren(...(options.length > 1 ? [several()] : []));
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
    this.points.forEach(([x, y], place) => {
      context.beginPath();
      context.arc(x, y, 6 * unit, 0, 2 * Math.PI);
      context.fillStyle = this.labels[place] ? "#16825d" : "#b4530f";
      context.fill();
      context.strokeStyle = "#ffffff";
      context.stroke();
    });
  }
}

const corners = (a: number[], b: number[]) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];

/** A black and white mask as a layer of color. */
function tinted(mask: HTMLImageElement, width: number, height: number): HTMLCanvasElement {
  const canvas = drawn(mask, width, height);
  const context = canvas.getContext("2d")!;
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const on = pixels.data[at] > 127;
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2], pixels.data[at + 3]] = [COLOR[0], COLOR[1], COLOR[2], on ? 150 : 0];
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
