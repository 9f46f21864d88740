// The drawing of a map: points on a canvas, moved, zoomed, picked and lassoed. It knows nothing of classes.
import { quadtree, type Quadtree } from "d3-quadtree";
import { select } from "d3-selection";
import "d3-transition";
import { zoom, zoomIdentity, type D3ZoomEvent, type ZoomTransform } from "d3-zoom";
import { calm, variable } from "./dom";

const MARGIN = 14;
const TRAVEL = 700; // ms from one epoch to the next
const REACH = 14; // CSS pixels within which a point is picked
const ROUND_DOTS = 6000; // more than this are drawn as squares, three times as fast

export interface Look {
  color: string;
  points: number[];
  faint: boolean;
}

type Point = [number, number];

export class Scatter {
  private context: CanvasRenderingContext2D;
  private side = 0;
  private transform: ZoomTransform = zoomIdentity;
  private from: Float32Array;
  private now: Float32Array;
  private goal: Float32Array;
  private tree: Quadtree<number> | null = null;
  private looks: Look[] = [];
  private frame = 0;
  private path: Point[] | null = null;
  private behavior = zoom<HTMLCanvasElement, unknown>();
  lassoing = false;
  marked = -1;
  picked: (index: number, pinned: boolean) => void = () => {};
  lassoed: (points: number[]) => void = () => {};

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly count: number,
  ) {
    this.context = canvas.getContext("2d")!;
    this.from = new Float32Array(2 * count);
    this.now = new Float32Array(2 * count);
    this.goal = new Float32Array(2 * count);
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  private listen(): void {
    const { canvas } = this;
    this.behavior
      .scaleExtent([1, 60])
      .filter((event: MouseEvent) => !this.lassoing && !event.button)
      .on("zoom", (event: D3ZoomEvent<HTMLCanvasElement, unknown>) => {
        this.transform = event.transform;
        this.paint();
      });
    select(canvas).call(this.behavior).on("dblclick.zoom", null);
    canvas.addEventListener("pointermove", (event) => {
      if (this.path) this.path.push([event.offsetX, event.offsetY]);
      if (this.path) this.paint();
      else if (event.pointerType === "mouse" && !event.buttons) this.point(this.nearest(event), false);
    });
    canvas.addEventListener("pointerleave", () => this.point(-1, false));
    canvas.addEventListener("click", (event) => !this.lassoing && this.point(this.nearest(event), true));
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.lassoing) return;
      canvas.setPointerCapture(event.pointerId);
      this.path = [[event.offsetX, event.offsetY]];
    });
    canvas.addEventListener("pointerup", () => {
      if (this.path) this.lassoed(this.inside(this.path));
      this.path = null;
      this.paint();
    });
    canvas.addEventListener("pointercancel", () => (this.path = null));
  }

  private point(index: number, pinned: boolean): void {
    this.marked = index;
    this.picked(index, pinned);
    this.paint();
  }

  /** Which points have which color, those that are drawn last on top. */
  style(looks: Look[]): void {
    this.looks = looks;
    this.tree = null;
    this.paint();
  }

  /** New places, x and y of each point in turn, 0 to 65535; the points travel there unless `jump`. */
  place(points: Uint16Array, jump = false): void {
    this.from.set(this.now);
    for (let index = 0; index < this.goal.length; index++) this.goal[index] = points[index] / 65535;
    this.tree = null;
    cancelAnimationFrame(this.frame);
    if (jump || calm()) {
      this.now.set(this.goal);
      this.paint();
      return;
    }
    const start = performance.now();
    const step = (time: number) => {
      const share = Math.min(1, Math.max(0, (time - start) / TRAVEL));
      const eased = share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2;
      for (let index = 0; index < this.now.length; index++) {
        this.now[index] = this.from[index] + (this.goal[index] - this.from[index]) * eased;
      }
      this.paint();
      if (share < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  zoomBy(factor: number): void {
    if (factor) select(this.canvas).call(this.behavior.scaleBy, factor);
    else select(this.canvas).call(this.behavior.transform, zoomIdentity);
  }

  /** Where a point lies, in CSS pixels of the canvas. */
  where(index: number): Point {
    const span = this.side - 2 * MARGIN;
    const [x, y] = [this.now[2 * index], this.now[2 * index + 1]];
    return [this.transform.applyX(MARGIN + x * span), this.transform.applyY(MARGIN + (1 - y) * span)];
  }

  private resize(): void {
    const side = this.canvas.clientWidth;
    if (!side) return;
    const dots = Math.min(devicePixelRatio || 1, 3);
    this.side = side;
    this.canvas.width = this.canvas.height = Math.round(side * dots);
    this.context.setTransform(dots, 0, 0, dots, 0, 0);
    this.behavior.extent([[0, 0], [side, side]]).translateExtent([[0, 0], [side, side]]);
    this.paint();
  }

  private clear(): number[] {
    return this.looks.filter((look) => !look.faint).flatMap((look) => look.points);
  }

  private nearest(event: MouseEvent): number {
    const span = this.side - 2 * MARGIN;
    this.tree ??= quadtree<number>()
      .x((index) => MARGIN + this.goal[2 * index] * span)
      .y((index) => MARGIN + (1 - this.goal[2 * index + 1]) * span)
      .addAll(this.clear());
    const [x, y] = this.transform.invert([event.offsetX, event.offsetY]);
    return this.tree.find(x, y, REACH / this.transform.k) ?? -1;
  }

  private inside(path: Point[]): number[] {
    if (path.length < 3) return [];
    const found = this.clear().filter((index) => contains(path, this.where(index)));
    return found.sort((a, b) => a - b);
  }

  paint(): void {
    const { context, side } = this;
    if (!side) return;
    context.clearRect(0, 0, side, side);
    const dense = Math.min(1, Math.sqrt(2500 / Math.max(this.count, 1)));
    const radius = Math.max(1, Math.min(4.5, (side / 190) * dense)) * Math.min(2.4, this.transform.k ** 0.35);
    const round = this.count <= ROUND_DOTS;
    for (const look of this.looks) {
      context.fillStyle = look.color;
      context.globalAlpha = look.faint ? 0.13 : 0.8;
      for (const index of look.points) this.dot(index, look.faint ? radius * 0.8 : radius, round);
    }
    context.globalAlpha = 1;
    if (this.marked >= 0) this.ring(radius + 3.5);
    if (this.path) this.outline(this.path);
  }

  private dot(index: number, radius: number, round: boolean): void {
    const [x, y] = this.where(index);
    if (x < -radius || y < -radius || x > this.side + radius || y > this.side + radius) return;
    if (!round) {
      this.context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      return;
    }
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 7);
    this.context.fill();
  }

  private ring(radius: number): void {
    const [x, y] = this.where(this.marked);
    this.context.strokeStyle = variable("--ink");
    this.context.lineWidth = 2;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 7);
    this.context.stroke();
  }

  private outline(path: Point[]): void {
    const { context } = this;
    context.strokeStyle = variable("--accent");
    context.fillStyle = variable("--accent");
    context.lineWidth = 1.5;
    context.beginPath();
    path.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.stroke();
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
  }
}

/** Whether a point lies in a polygon (even-odd rule). */
export function contains(polygon: Point[], [x, y]: Point): boolean {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [polygon[i], polygon[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}
