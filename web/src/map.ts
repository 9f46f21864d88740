// The map of what was learned: two projections, the kept epochs, three colorings, classes, pictures under the points.
import { type MapData, type Said } from "./data";
import { calm, choice, h, onTheme, variable } from "./dom";
import { type Pictures, showList } from "./pictures";
import { type Look, Scatter } from "./scatter";
import { Timeline } from "./timeline";

const PACE = 1100; // ms an epoch while it plays
const NAMES: Record<string, string> = { tsne: "t-SNE", pca: "PCA" };

export class LearnedMap {
  private scatter: Scatter;
  private kind: string;
  private epoch: number;
  private coloring = "truth";
  private isolated = new Set<number>();
  private roped: Set<number> | null = null; // what the lasso holds; the rest is faint
  private canvas = h("canvas", { class: "map", tabindex: 0, role: "application" });
  private says = h("p", { class: "numbers", role: "status" });
  private card = h("div", { class: "card" });
  private listed = h("div", { class: "listing" });
  private legend = h("ul", { class: "legend" });
  private lasso: HTMLButtonElement;

  constructor(
    place: HTMLElement,
    private data: MapData,
    private pictures: Pictures,
  ) {
    this.kind = Object.keys(data.kinds)[0];
    this.epoch = data.epochs.length - 1;
    this.lasso = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.rope() }, "Lasso");
    this.card.hidden = true;
    place.append(this.tools(), this.stage(), this.listed);
    this.scatter = new Scatter(this.canvas, data.count);
    this.scatter.picked = (index) => this.tell(index);
    this.scatter.lassoed = (points) => this.list(points);
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    onTheme(() => this.color());
    this.color();
    this.show(this.epoch, true);
  }

  /** What the model said at the epoch that is shown. */
  private get said(): Said {
    const { predicted, confidence } = this.data;
    if (!predicted) return this.pictures.items;
    return { predicted: predicted[this.epoch], confidence: confidence && confidence[this.epoch] };
  }

  private tools(): HTMLElement {
    const kinds = Object.keys(this.data.kinds).map((kind): [string, string] => [kind, NAMES[kind] ?? kind]);
    const colorings: [string, string][] = [["truth", "Truth"]];
    if (this.said.predicted) colorings.push(["predicted", "Prediction"], ["correct", "Right or wrong"]);
    const epochs = this.data.epochs.map(({ epoch }) => epoch);
    return h(
      "div",
      { class: "tools" },
      kinds.length > 1 ? choice("Projection", kinds, this.kind, (kind) => this.project(kind)) : null,
      colorings.length > 1 ? choice("Color by", colorings, "truth", (value) => this.recolor(value)) : null,
      new Timeline(epochs, PACE, (epoch) => this.show(epoch)).element,
      h(
        "div",
        { class: "choice", role: "group", "aria-label": "View" },
        this.lasso,
        h("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.scatter.zoomBy(1.6) }, "+"),
        h("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.scatter.zoomBy(1 / 1.6) }, "−"),
        h("button", { type: "button", onclick: () => this.scatter.zoomBy(0) }, "Whole"),
      ),
    );
  }

  private stage(): HTMLElement {
    const label = `Map of ${this.data.count} images. Arrow keys go from point to point, plus and minus zoom.`;
    this.canvas.setAttribute("aria-label", label);
    const side = h("div", { class: "side" }, this.says, this.legend);
    return h("div", { class: "stage" }, h("div", { class: "plane" }, this.canvas, this.card), side);
  }

  private project(kind: string): void {
    this.kind = kind;
    this.show(this.epoch);
  }

  private recolor(value: string): void {
    this.coloring = value;
    this.isolated.clear();
    this.release();
  }

  private show(epoch: number, jump = false): void {
    this.epoch = epoch;
    const numbers = this.data.epochs[epoch];
    const shown = this.kind === "pca" ? `, ${numbers.explained} of the variance shown` : "";
    const apart = numbers.silhouette ? `, silhouette ${numbers.silhouette}` : "";
    this.says.replaceChildren(
      h("strong", {}, `Epoch ${numbers.epoch}`),
      [numbers.knn && ` k-NN accuracy ${numbers.knn}`, apart, shown].join(""),
    );
    this.card.hidden = true;
    this.scatter.marked = -1;
    if (this.coloring !== "truth") this.color();
    this.scatter.place(this.data.kinds[this.kind][epoch], jump);
  }

  private rope(): void {
    this.scatter.lassoing = !this.scatter.lassoing;
    this.lasso.setAttribute("aria-pressed", String(this.scatter.lassoing));
    this.canvas.classList.toggle("roping", this.scatter.lassoing);
  }

  /** Colors, and which points are faint since another class is looked at; the legend. */
  private color(): void {
    const { items } = this.pictures;
    const groups = this.coloring === "correct" ? ["right", "wrong"] : items.classes;
    const colors = this.coloring === "correct" ? [variable("--accent"), variable("--warm")] : items.colors;
    const members: number[][] = groups.map(() => []);
    const said = this.said;
    const labels = this.coloring === "predicted" ? said.predicted : items.truth;
    for (let index = 0; index < this.data.count; index++) {
      const group = this.coloring === "correct" ? Number(!this.pictures.right(index, said)) : labels?.[index];
      if (group !== undefined) members[group].push(index);
    }
    const looks: Look[] = groups.flatMap((_, group) => {
      const faint = this.isolated.size > 0 && !this.isolated.has(group);
      const [color, points, roped] = [colors[group], members[group], this.roped];
      if (!roped || faint) return { color, points, faint };
      const held = { color, points: points.filter((index) => roped.has(index)), faint };
      return [held, { color, points: points.filter((index) => !roped.has(index)), faint: true }];
    });
    looks.sort((a, b) => Number(b.faint) - Number(a.faint));
    this.scatter.style(looks);
    this.legend.replaceChildren(
      ...groups.map((name, group) => this.entry(name, group, colors[group], members[group].length)),
    );
  }

  private entry(name: string, group: number, color: string, count: number): HTMLElement {
    const dot = h("span", { class: "dot" });
    dot.style.background = color;
    const pressed = String(this.isolated.has(group));
    const toggle = () => {
      if (!this.isolated.delete(group)) this.isolated.add(group);
      this.release();
      this.legend.querySelectorAll("button")[group]?.focus();
    };
    const button = h("button", { type: "button", "aria-pressed": pressed, onclick: toggle }, dot, name);
    button.append(h("span", { class: "count" }, String(count)));
    return h("li", {}, button);
  }

  /** The picture of a point beside it. */
  private tell(index: number): void {
    this.card.hidden = index < 0;
    if (index < 0) return;
    const name = h("span", { class: "name" }, this.pictures.items.names[index]);
    this.card.replaceChildren(this.pictures.canvas(index), ...this.pictures.facts(index, this.said), name);
    const [x, y] = this.scatter.where(index);
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const left = x + 18 + this.card.offsetWidth > wide ? x - 18 - this.card.offsetWidth : x + 18;
    this.card.style.left = `${Math.max(4, left)}px`;
    this.card.style.top = `${Math.max(4, Math.min(y - 40, high - this.card.offsetHeight - 4))}px`;
  }

  private list(points: number[]): void {
    this.release();
    if (!points.length) return;
    this.roped = new Set(points);
    this.color();
    const wrong = points.filter((index) => !this.pictures.right(index, this.said));
    const right = points.filter((index) => this.pictures.right(index, this.said));
    const share = this.said.predicted ? `, ${right.length} right` : "";
    const title = `${points.length} images inside the lasso${share}`;
    showList(this.listed, this.pictures, title, [...wrong, ...right], this.said, () => this.release());
    this.listed.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  /** Lets go of what the lasso holds. */
  private release(): void {
    this.roped = null;
    this.listed.replaceChildren();
    this.color();
  }

  private key(event: KeyboardEvent): void {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in steps) {
      const next = (this.scatter.marked + steps[event.key] + this.data.count) % this.data.count;
      this.scatter.marked = next;
      this.tell(next);
      this.scatter.paint();
      this.canvas.setAttribute("aria-label", this.pictures.says(next, this.said));
    } else if (event.key === "+" || event.key === "=") this.scatter.zoomBy(1.6);
    else if (event.key === "-") this.scatter.zoomBy(1 / 1.6);
    else if (event.key === "0") this.scatter.zoomBy(0);
    else if (event.key === "Escape") this.tell(-1);
    else return;
    event.preventDefault();
  }
}
