// The confusion matrix with a choice of class orders; a cell lists its images.
import { type ConfusionData, inCell } from "./data";
import { choice, h, inkOn, onTheme, variable } from "./dom";
import { type Thumbnails, showList } from "./thumbnails";

const ORDERS: Record<string, string> = { similar: "By similarity", name: "By name", worst: "Worst first" };
const NAME_ROOM = 130; // CSS pixels; the largest width of class names
const SMALLEST = 9;
const FONT = (size: number) => `${size}px system-ui, sans-serif`;

export class ConfusionMatrix {
  private order: number[];
  private selected: [number, number] = [0, 0];
  private cell = 20;
  private labels = 40;
  private canvas = h("canvas", { class: "matrix", tabindex: 0, role: "application" });
  private status = h("p", { class: "numbers", role: "status" });
  private listed = h("div", { class: "listing" });
  private totals: number[];
  private worst: number;

  constructor(
    parent: HTMLElement,
    private data: ConfusionData,
    private thumbnails: Thumbnails,
  ) {
    const orders = Object.keys(data.orders);
    this.order = data.orders[orders[0]];
    this.totals = data.counts.map((row) => row.reduce((sum, count) => sum + count, 0));
    const shares = data.counts.flatMap((row, i) => row.map((n, j) => (i === j ? 0 : n / Math.max(1, this.totals[i]))));
    this.worst = Math.max(0.01, ...shares);
    const names = orders.map((name): [string, string] => [name, ORDERS[name] ?? name]);
    const choose = (name: string) => {
      this.order = data.orders[name];
      this.paint();
    };
    const scroll = h("div", { class: "scroll" }, this.canvas);
    parent.append(h("div", { class: "tools" }, choice("Order", names, orders[0], choose)), this.status, scroll, this.listed);
    this.canvas.setAttribute("aria-label", "Confusion matrix. Arrow keys move between cells, Enter lists the images of a cell.");
    this.listen();
    onTheme(() => this.paint());
    new ResizeObserver(() => this.paint()).observe(parent);
    this.showText();
    this.paint();
  }

  private listen(): void {
    const { canvas } = this;
    const cellAt = (event: MouseEvent): [number, number] | null => {
      const column = Math.floor((event.offsetX - this.labels) / this.cell);
      const row = Math.floor((event.offsetY - this.labels) / this.cell);
      const inside = Math.min(row, column) >= 0 && Math.max(row, column) < this.order.length;
      return inside ? [row, column] : null;
    };
    const select = (to: [number, number] | null) => {
      if (!to || (to[0] === this.selected[0] && to[1] === this.selected[1])) return;
      this.selected = to;
      this.showText();
      this.paint();
    };
    canvas.addEventListener("pointermove", (event) => select(cellAt(event)));
    canvas.addEventListener("click", (event) => {
      const to = cellAt(event);
      select(to);
      if (to) this.open();
    });
    canvas.addEventListener("keydown", (event) => {
      const steps: Record<string, [number, number]> = {
        ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      };
      const step = steps[event.key];
      const last = this.order.length - 1;
      if (step) select([clamp(this.selected[0] + step[0], last), clamp(this.selected[1] + step[1], last)]);
      else if (event.key === "Enter") this.open();
      else return;
      event.preventDefault();
    });
  }

  private text(): string {
    const [i, j] = [this.order[this.selected[0]], this.order[this.selected[1]]];
    const { classes } = this.thumbnails.items;
    const count = this.data.counts[i][j];
    const share = `${((100 * count) / Math.max(1, this.totals[i])).toFixed(1)}%`;
    const what = i === j ? `${classes[i]} predicted correctly` : `${classes[i]} predicted as ${classes[j]}`;
    return `${what}: ${count} of ${this.totals[i]} (${share})`;
  }

  private showText(): void {
    this.status.textContent = this.text();
  }

  private open(): void {
    const { truth, predicted } = this.thumbnails.items;
    const [i, j] = [this.order[this.selected[0]], this.order[this.selected[1]]];
    const found: number[] = [];
    for (let index = 0; index < this.thumbnails.count; index++) {
      if (truth?.[index] === i && predicted?.[index] === j) found.push(index);
    }
    if (!this.data.counts[i][j]) return this.listed.replaceChildren();
    const stored = found.length < this.data.counts[i][j] ? `; thumbnails of ${found.length} are stored` : "";
    showList(this.listed, this.thumbnails, this.text() + stored, found);
  }

  private paint(): void {
    const { canvas, order } = this;
    const context = canvas.getContext("2d")!;
    context.font = FONT(12);
    const widest = Math.max(...this.thumbnails.items.classes.map((name) => context.measureText(name).width));
    this.labels = Math.round(Math.min(NAME_ROOM, widest + 14)) + 16;
    const room = (canvas.parentElement?.clientWidth ?? 600) - this.labels - 2;
    this.cell = Math.max(SMALLEST, Math.min(34, Math.floor(Math.min(room, 860) / order.length)));
    const side = this.labels + this.cell * order.length + 1;
    const dots = Math.min(devicePixelRatio || 1, 3);
    canvas.width = canvas.height = Math.round(side * dots);
    canvas.style.width = canvas.style.height = `${side}px`;
    context.setTransform(dots, 0, 0, dots, 0, 0);
    this.names(context);
    const [right, wrong, ink, track, page] = ["--accent", "--warm", "--ink", "--track", "--page"].map(variable);
    order.forEach((i, row) =>
      order.forEach((j, column) => {
        const count = this.data.counts[i][j];
        const [x, y] = [this.labels + column * this.cell, this.labels + row * this.cell];
        context.fillStyle = track;
        context.globalAlpha = 0.45;
        if (!count) context.fillRect(x, y, this.cell - 1, this.cell - 1);
        if (!count) return;
        const share = count / Math.max(1, this.totals[i]);
        context.fillStyle = i === j ? right : wrong;
        const opacity = i === j ? 0.1 + 0.75 * share : 0.12 + 0.8 * Math.sqrt(share / this.worst);
        context.globalAlpha = opacity;
        context.fillRect(x, y, this.cell - 1, this.cell - 1);
        context.globalAlpha = 1;
        if (this.cell < 22) return;
        context.fillStyle = inkOn(i === j ? right : wrong, opacity, page);
        context.fillText(inCell(count), x + this.cell / 2, y + this.cell / 2);
      }),
    );
    context.strokeStyle = ink;
    context.lineWidth = 1.5;
    context.strokeRect(this.labels + this.selected[1] * this.cell - 1, this.labels + this.selected[0] * this.cell - 1, this.cell + 1, this.cell + 1);
  }

  private names(context: CanvasRenderingContext2D): void {
    const size = Math.max(8, Math.min(12, this.cell - 1));
    context.font = FONT(size);
    context.textBaseline = "middle";
    const [soft, ink] = [variable("--soft"), variable("--ink")];
    const { classes } = this.thumbnails.items;
    this.order.forEach((index, position) => {
      const middle = this.labels + (position + 0.5) * this.cell;
      const name = fitted(context, classes[index], this.labels - 22);
      context.textAlign = "right";
      context.fillStyle = position === this.selected[0] ? ink : soft;
      context.fillText(name, this.labels - 6, middle);
      context.save();
      context.translate(middle, this.labels - 6);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillStyle = position === this.selected[1] ? ink : soft;
      context.fillText(name, 0, 0);
      context.restore();
    });
    context.fillStyle = soft;
    context.textAlign = "right";
    context.fillText("truth ↓  prediction →", this.labels + this.order.length * this.cell, 10);
    context.textAlign = "center";
  }
}

const clamp = (value: number, last: number) => Math.min(Math.max(value, 0), last);

/** The text, shortened to a width in CSS pixels. */
function fitted(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}
