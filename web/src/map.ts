// The feature map: t-SNE or PCA at every stored epoch, colored by class, prediction or correctness, with a lasso. For
// images with several labels it is colored by one class, which the user chooses.
import { type LabelSets, type MapData, type Predictions } from "./data";
import { calm, choice, dropDown, h, onTheme, variable } from "./dom";
import { type Thumbnails, showList } from "./thumbnails";
import { type PointGroup, Scatter } from "./scatter";
import { Timeline } from "./timeline";

const PACE = 1100; // milliseconds per epoch while playing
const NAMES: Record<string, string> = { tsne: "t-SNE", pca: "PCA" };

/** Groups of points, each with a name and a color; members: the indices of the points of each group. */
interface Groups {
  names: string[];
  colors: string[];
  members: number[][];
}

export class FeatureMap {
  private scatter: Scatter;
  private kind: string;
  private epoch: number;
  private coloring = "truth";
  private isolated = new Set<number>();
  private lassoed: Set<number> | null = null; // points inside the lasso; the others are faint
  private canvas = h("canvas", { class: "map", tabindex: 0, role: "application" });
  private status = h("p", { class: "numbers", role: "status" });
  private card = h("div", { class: "card" });
  private listed = h("div", { class: "listing" });
  private legend = h("ul", { class: "legend" });
  private lassoButton: HTMLButtonElement;

  constructor(
    parent: HTMLElement,
    private data: MapData,
    private thumbnails: Thumbnails,
  ) {
    this.kind = Object.keys(data.kinds)[0];
    this.epoch = data.epochs.length - 1;
    const { sets } = thumbnails.items;
    if (sets) this.coloring = String(mostFrequent(sets));
    this.lassoButton = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleLasso() }, "Lasso");
    this.card.hidden = true;
    parent.append(this.tools(), this.stage(), this.listed);
    this.scatter = new Scatter(this.canvas, data.count);
    this.scatter.picked = (index) => this.showCard(index);
    this.scatter.lassoed = (points) => this.showListOf(points);
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    onTheme(() => this.color());
    this.color();
    this.show(this.epoch, true);
  }

  /** The predictions at the displayed epoch. */
  private get predictions(): Predictions {
    const { predicted, confidence } = this.data;
    if (!predicted) return this.thumbnails.items;
    return { predicted: predicted[this.epoch], confidence: confidence && confidence[this.epoch] };
  }

  private tools(): HTMLElement {
    const kinds = Object.keys(this.data.kinds).map((kind): [string, string] => [kind, NAMES[kind] ?? kind]);
    const colorings: [string, string][] = [["truth", "Truth"]];
    if (this.predictions.predicted) colorings.push(["predicted", "Prediction"], ["correct", "Correctness"]);
    const epochs = this.data.epochs.map(({ epoch }) => epoch);
    const recolor = (value: string) => this.recolor(value);
    const { sets } = this.thumbnails.items;
    const classes = sets?.names.map((name, index): [string, string] => [String(index), name]);
    return h(
      "div",
      { class: "tools" },
      kinds.length > 1 ? choice("Projection", kinds, this.kind, (kind) => this.project(kind)) : null,
      classes ? dropDown("Color by", [...classes, ["correct", "all labels right"]], this.coloring, recolor) : null,
      !classes && colorings.length > 1 ? choice("Color by", colorings, "truth", recolor) : null,
      new Timeline(epochs, PACE, (epoch) => this.show(epoch)).element,
      h(
        "div",
        { class: "choice", role: "group", "aria-label": "View" },
        this.lassoButton,
        h("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.scatter.zoomBy(1.6) }, "+"),
        h("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.scatter.zoomBy(1 / 1.6) }, "−"),
        h("button", { type: "button", onclick: () => this.scatter.zoomBy(0) }, "Reset zoom"),
      ),
    );
  }

  private stage(): HTMLElement {
    const label = `Map of ${this.data.count} images. Arrow keys move between points; plus and minus zoom.`;
    this.canvas.setAttribute("aria-label", label);
    const side = h("div", { class: "side" }, this.status, this.legend);
    return h("div", { class: "stage" }, h("div", { class: "plane" }, this.canvas, this.card), side);
  }

  private project(kind: string): void {
    this.kind = kind;
    this.show(this.epoch);
  }

  private recolor(value: string): void {
    this.coloring = value;
    this.isolated.clear();
    this.clearLasso();
  }

  private show(epoch: number, jump = false): void {
    this.epoch = epoch;
    const numbers = this.data.epochs[epoch];
    const shown = this.kind === "pca" ? `, ${numbers.explained} of the variance shown` : "";
    const apart = numbers.silhouette ? `, silhouette ${numbers.silhouette}` : "";
    this.status.replaceChildren(
      h("strong", {}, `Epoch ${numbers.epoch}`),
      [numbers.knn && ` k-NN accuracy ${numbers.knn}`, apart, shown].join(""),
    );
    this.card.hidden = true;
    this.scatter.marked = -1;
    if (this.coloring !== "truth") this.color();
    this.scatter.move(this.data.kinds[this.kind][epoch], jump);
  }

  private toggleLasso(): void {
    this.scatter.lassoing = !this.scatter.lassoing;
    this.lassoButton.setAttribute("aria-pressed", String(this.scatter.lassoing));
    this.canvas.classList.toggle("lassoing", this.scatter.lassoing);
  }

  /** Update the colors of the points and the legend; points of classes that are not isolated are faint. */
  private color(): void {
    const { names, colors, members } = this.groups();
    const looks: PointGroup[] = names.flatMap((_, group) => {
      const faint = this.isolated.size > 0 && !this.isolated.has(group);
      const [color, points, lassoed] = [colors[group], members[group], this.lassoed];
      if (!lassoed || faint) return { color, points, faint };
      const inside = { color, points: points.filter((index) => lassoed.has(index)), faint };
      return [inside, { color, points: points.filter((index) => !lassoed.has(index)), faint: true }];
    });
    looks.sort((a, b) => Number(b.faint) - Number(a.faint));
    this.scatter.style(looks);
    this.legend.replaceChildren(
      ...names.map((name, group) => this.entry(name, group, colors[group], members[group].length)),
    );
  }

  /** The groups of points by the chosen coloring. */
  private groups(): Groups {
    const { items } = this.thumbnails;
    const { predictions, coloring } = this;
    if (items.sets && coloring !== "correct") return groupsOfClass(items.sets, Number(coloring), this.data.count);
    const correctness = coloring === "correct";
    const names = correctness ? ["correct", "wrong"] : items.classes;
    const colors = correctness ? [variable("--accent"), variable("--warm")] : items.colors;
    const members: number[][] = names.map(() => []);
    const labels = coloring === "predicted" ? predictions.predicted : items.truth;
    for (let index = 0; index < this.data.count; index++) {
      const group = correctness ? Number(!this.thumbnails.isCorrect(index, predictions)) : labels?.[index];
      if (group !== undefined) members[group].push(index);
    }
    return { names, colors, members };
  }

  private entry(name: string, group: number, color: string, count: number): HTMLElement {
    const dot = h("span", { class: "dot" });
    dot.style.background = color;
    const pressed = String(this.isolated.has(group));
    const toggle = () => {
      if (!this.isolated.delete(group)) this.isolated.add(group);
      this.clearLasso();
      this.legend.querySelectorAll("button")[group]?.focus();
    };
    const button = h("button", { type: "button", "aria-pressed": pressed, onclick: toggle }, dot, name);
    button.append(h("span", { class: "count" }, String(count)));
    return h("li", {}, button);
  }

  /** Show the card of a point beside it; -1 hides it. */
  private showCard(index: number): void {
    this.card.hidden = index < 0;
    if (index < 0) return;
    const name = h("span", { class: "name" }, this.thumbnails.items.names[index]);
    this.card.replaceChildren(this.thumbnails.canvas(index), ...this.thumbnails.facts(index, this.predictions), name);
    const [x, y] = this.scatter.position(index);
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const left = x + 18 + this.card.offsetWidth > width ? x - 18 - this.card.offsetWidth : x + 18;
    this.card.style.left = `${Math.max(4, left)}px`;
    this.card.style.top = `${Math.max(4, Math.min(y - 40, height - this.card.offsetHeight - 4))}px`;
  }

  private showListOf(points: number[]): void {
    this.clearLasso();
    if (!points.length) return;
    this.lassoed = new Set(points);
    this.color();
    const wrong = points.filter((index) => !this.thumbnails.isCorrect(index, this.predictions));
    const right = points.filter((index) => this.thumbnails.isCorrect(index, this.predictions));
    const share = this.predictions.predicted ? `, ${right.length} correct` : "";
    const title = `${points.length} images inside the lasso${share}`;
    showList(this.listed, this.thumbnails, title, [...wrong, ...right], this.predictions, () => this.clearLasso());
    this.listed.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  /** Clear the selection of the lasso. */
  private clearLasso(): void {
    this.lassoed = null;
    this.listed.replaceChildren();
    this.color();
  }

  private key(event: KeyboardEvent): void {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in steps) {
      const next = (this.scatter.marked + steps[event.key] + this.data.count) % this.data.count;
      this.scatter.marked = next;
      this.showCard(next);
      this.scatter.paint();
      this.canvas.setAttribute("aria-label", this.thumbnails.description(next, this.predictions));
    } else if (event.key === "+" || event.key === "=") this.scatter.zoomBy(1.6);
    else if (event.key === "-") this.scatter.zoomBy(1 / 1.6);
    else if (event.key === "0") this.scatter.zoomBy(0);
    else if (event.key === "Escape") this.showCard(-1);
    else return;
    event.preventDefault();
  }
}

/** The first `count` images by whether they have a class and whether it is predicted. */
function groupsOfClass(sets: LabelSets, index: number, count: number): Groups {
  const [truth, predicted] = [new Set(sets.truth[index]), new Set(sets.predicted[index])];
  const members: number[][] = [[], [], [], []];
  for (let image = 0; image < count; image++) {
    members[truth.has(image) ? (predicted.has(image) ? 1 : 2) : predicted.has(image) ? 3 : 0].push(image);
  }
  const name = sets.names[index];
  return {
    names: [`without ${name}`, `${name}, predicted`, `${name}, missed`, `${name} predicted, but not there`],
    colors: [variable("--faint"), variable("--accent"), variable("--warm"), variable("--extra")],
    members,
  };
}

/** The index of the class that most images have. */
function mostFrequent(sets: LabelSets): number {
  const counts = sets.truth.map((images) => images.length);
  return counts.indexOf(Math.max(...counts));
}
