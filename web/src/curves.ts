// Curves over the epochs with synchronized cursors; dragging zooms, a double click resets the zoom.
import uPlot from "uplot";
import { type Curve } from "./data";
import { h, onTheme, variable } from "./dom";

const COLORS = { train: "--warm", validation: "--accent", other: "--soft" };

/** Draw all curves in `parent`; draw them again when the theme or the width changes. */
export function drawCurves(parent: HTMLElement, curves: Curve[]): void {
  const cursors = uPlot.sync("epochs");
  let plots: uPlot[] = [];
  const last = Math.max(...curves.flatMap((curve) => curve.lines.flatMap((line) => line.x)));
  const boxes = curves.map((curve) => h("figure", { role: "img", "aria-label": describe(curve) }));
  parent.append(...boxes);
  const draw = () => {
    for (const plot of plots) plot.destroy();
    plots = curves.map((curve, index) => plotOf(curve, boxes[index], last, cursors.key));
  };
  onTheme(draw);
  let width = 0;
  new ResizeObserver(() => {
    if (parent.clientWidth === width) return;
    width = parent.clientWidth;
    draw();
  }).observe(parent);
}

function describe(curve: Curve): string {
  const parts = curve.lines.map((line) => {
    const values = line.y.filter((value): value is number => value !== null);
    return `${line.label} from ${values[0]?.toFixed(curve.digits)} to ${values.at(-1)?.toFixed(curve.digits)}`;
  });
  return `${curve.title}: ${parts.join(", ")}`;
}

function plotOf(curve: Curve, box: HTMLElement, last: number, key: string): uPlot {
  const [ink, soft, line] = [variable("--ink"), variable("--soft"), variable("--line")];
  const text = (raw: number) => (curve.digits > 4 ? String(Number(raw.toPrecision(3))) : raw.toFixed(curve.digits));
  const value = (_: uPlot, raw: number | null) => (raw === null ? "" : text(raw));
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const options: uPlot.Options = {
    width: Math.max(220, box.clientWidth),
    height: 250,
    title: curve.title,
    cursor: { sync: { key }, focus: { prox: 24 }, points: { size: 7 } },
    legend: { live: true },
    scales: {
      x: { time: false, range: (_, low, high) => (low === high ? [0, last * 1.02] : [low, high]) },
      y: { range: (_, low, high) => axisRange(low, high, curve.top) },
    },
    axes: [{ ...axis, size: 32 }, { ...axis, size: 54, values: (_, splits) => ticks(splits) }],
    series: [
      { label: "epoch", value: (_, raw) => (raw === null ? "" : raw.toFixed(1).replace(/\.0$/, "")) },
      ...curve.lines.map((one) => ({
        label: one.label,
        stroke: variable(COLORS[one.kind]),
        width: 1.8,
        value,
        spanGaps: true,
        points: { show: one.x.length <= 40, size: 5 },
      })),
    ],
    hooks: { draw: [(plot) => marks(plot, curve, ink, soft)], setLegend: [showLastValues] },
  };
  box.replaceChildren();
  const plot = new uPlot(options, joined(curve), box);
  showLastValues(plot);
  return plot;
}

/** The ends of a y axis: a tenth beyond the values, and at most the largest possible value. */
function axisRange(low: number | null, high: number | null, top: number | null): [number, number] {
  const [start, end] = uPlot.rangeNum(low ?? 0, high ?? 1, 0.1, true);
  return [start ?? 0, top === null ? (end ?? 1) : Math.min(end ?? 1, top)];
}

/** The labels of an axis: small values, such as learning rates, would all be rounded to 0. */
function ticks(values: number[]): string[] {
  const small = Math.max(...values.map(Math.abs)) < 0.01;
  return values.map((value) => {
    const rounded = Number(value.toPrecision(6));
    return small && rounded ? rounded.toExponential() : String(rounded);
  });
}

/** Without a cursor, show the last value of each line in the legend. */
function showLastValues(plot: uPlot): void {
  if (plot.legend.idxs?.some((index) => index !== null)) return;
  const last = plot.data.map((values) => {
    let index = values.length - 1;
    while (index > 0 && values[index] == null) index--;
    return index;
  });
  plot.setLegend({ idxs: last }, false);
}

/** All lines of a panel on one common x axis, as uPlot requires. */
function joined(curve: Curve): uPlot.AlignedData {
  const columns = curve.lines.map((line): uPlot.AlignedData => [line.x, line.y]);
  return uPlot.join(columns);
}

/** Draw vertical lines at the best epoch, at resumes and at an early stop. */
function marks(plot: uPlot, curve: Curve, ink: string, soft: string): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  for (const mark of curve.marks) {
    const x = plot.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = mark.kind === "best" ? ink : soft;
    ctx.setLineDash(mark.kind === "best" ? [] : [4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const before = x > bbox.left + 0.6 * bbox.width;
    ctx.textAlign = before ? "right" : "left";
    ctx.setLineDash([]);
    ctx.strokeStyle = variable("--card");
    ctx.lineWidth = 4 * devicePixelRatio;
    ctx.strokeText(mark.label, x + (before ? -5 : 5) * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    ctx.fillText(mark.label, x + (before ? -5 : 5) * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
  }
  ctx.restore();
}
