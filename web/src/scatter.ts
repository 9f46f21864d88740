// A scatter plot on a canvas, with transitions, zoom, picking and a lasso; independent of classes.
import { quadtree, type Quadtree } from "d3-quadtree";
import { select } from "d3-selection";
import "d3-transition";
import { zoom, zoomIdentity, type D3ZoomEvent, type ZoomTransform } from "d3-zoom";
import { calm, variable } from "./dom";

const MARGIN = 14;
const TRAVEL = 700; // milliseconds of a transition between epochs
const REACH = 14; // CSS pixels; the largest distance at which a point is picked
const ROUND_DOTS = 6000; // with more points, squares are drawn, which is three times as fast

/** Points of one color. */
export interface PointGroup {
  color: string;
  points: number[];
  faint: boolean;
}

type Point = [number, number];

export class Scatter {
  private context: CanvasRenderingContext2D;
  private side = 0;
  private transform: ZoomTransform = zoomIdentity;
  private start: Float32Array;
  private current: Float32Array;
  private target: Float32Array;
  private tree: Quadtree<number> | null = null;
  private groups: PointGroup[] = [];
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
    this.start = new Float32Array(2 * count);
    this.current = new Float32Array(2 * count);
    this.target = new Float32Array(2 * count);
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
      else if (event.pointerType === "mouse" && !event.buttons) this.pick(this.nearest(event), false);
    });
    canvas.addEventListener("pointerleave", () => this.pick(-1, false));
    canvas.addEventListener("click", (event) => !this.lassoing && this.pick(this.nearest(event), true));
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

  private pick(index: number, pinned: boolean): void {
    this.marked = index;
    this.picked(index, pinned);
    this.paint();
  }

  /** Set the colors of the points; later groups are drawn on top. */
  style(groups: PointGroup[]): void {
    this.groups = groups;
    this.tree = null;
    this.paint();
  }

  /** Move the points to new positions, x and y of each in turn, 0 to 65535; animated unless `jump`. */
  move(points: Uint16Array, jump = false): void {
    this.start.set(this.current);
    for (let index = 0; index < this.target.length; index++) this.target[index] = points[index] / 65535;
    this.tree = null;
    cancelAnimationFrame(this.frame);
    if (jump || calm()) {
      this.current.set(this.target);
      this.paint();
      return;
    }
    const start = performance.now();
    const step = (time: number) => {
      const share = Math.min(1, Math.max(0, (time - start) / TRAVEL));
      const eased = share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2;
      for (let index = 0; index < this.current.length; index++) {
        this.current[index] = this.start[index] + (this.target[index] - this.start[index]) * eased;
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

  /** The position of a point in CSS pixels of the canvas. */
  position(index: number): Point {
    const span = this.side - 2 * MARGIN;
    const [x, y] = [this.current[2 * index], this.current[2 * index + 1]];
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

  /** Indices of the points that are not faint: only these can be picked. */
  private pickable(): number[] {
    return this.groups.filter((group) => !group.faint).flatMap((group) => group.points);
  }

  private nearest(event: MouseEvent): number {
    const span = this.side - 2 * MARGIN;
    this.tree ??= quadtree<number>()
      .x((index) => MARGIN + this.target[2 * index] * span)
      .y((index) => MARGIN + (1 - this.target[2 * index + 1]) * span)
      .addAll(this.pickable());
    const [x, y] = this.transform.invert([event.offsetX, event.offsetY]);
    return this.tree.find(x, y, REACH / this.transform.k) ?? -1;
  }

  private inside(path: Point[]): number[] {
    if (path.length < 3) return [];
    const found = this.pickable().filter((index) => contains(path, this.position(index)));
    return found.sort((a, b) => a - b);
  }

  paint(): void {
    const { context, side } = this;
    if (!side) return;
    context.clearRect(0, 0, side, side);
    const dense = Math.min(1, Math.sqrt(2500 / Math.max(this.count, 1)));
    const radius = Math.max(1, Math.min(4.5, (side / 190) * dense)) * Math.min(2.4, this.transform.k ** 0.35);
    const round = this.count <= ROUND_DOTS;
    for (const group of this.groups) {
      context.fillStyle = group.color;
      context.globalAlpha = group.faint ? 0.13 : 0.8;
      for (const index of group.points) this.dot(index, group.faint ? radius * 0.8 : radius, round);
    }
    context.globalAlpha = 1;
    if (this.marked >= 0) this.ring(radius + 3.5);
    if (this.path) this.outline(this.path);
  }

  private dot(index: number, radius: number, round: boolean): void {
    const [x, y] = this.position(index);
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
    const [x, y] = this.position(this.marked);
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
    path.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.stroke();
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
  }
}

/** Whether a point is inside a polygon (even-odd rule). */
export function contains(polygon: Point[], [x, y]: Point): boolean {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [polygon[i], polygon[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}
