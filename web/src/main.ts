// Replace the still figures of a report by interactive ones. Without this script the page shows the still figures.
import { ConfusionMatrix } from "./confusion";
import { drawCurves } from "./curves";
import { block, type ConfusionData, type Curve, type FilmData, readItems, readMap } from "./data";
import { Film } from "./film";
import { FeatureMap } from "./map";
import { Thumbnails } from "./thumbnails";
import { sortTables } from "./sort";
import { themeButton } from "./theme";

/** Create the interactive view in each element of a kind; where `create` returns false, the still figure remains. */
function createViews(kind: string, create: (element: HTMLElement, source: string) => boolean): void {
  for (const element of document.querySelectorAll<HTMLElement>(`[data-live="${kind}"]`)) {
    element.hidden = false; // a hidden element has no width
    const created = create(element, element.dataset.source ?? "");
    element.hidden = !created;
    if (created) element.parentElement?.classList.add("interactive");
  }
}

const cache = new Map<string, Thumbnails | null>();
function thumbnails(id: string | undefined): Thumbnails | null {
  if (!id) return null;
  if (!cache.has(id)) {
    const items = readItems(id);
    cache.set(id, items && new Thumbnails(items));
  }
  return cache.get(id) ?? null;
}

themeButton();
sortTables();
createViews("curves", (element, source) => {
  const curves = block<Curve[]>(source);
  if (curves?.length) drawCurves(element, curves);
  return Boolean(curves?.length);
});
createViews("map", (element, source) => {
  const [map, items] = [readMap(source), thumbnails(element.dataset.items)];
  if (map && items) new FeatureMap(element, map, items);
  return Boolean(map && items);
});
createViews("confusion", (element, source) => {
  const [data, items] = [block<ConfusionData>(source), thumbnails(element.dataset.items)];
  if (data && items) new ConfusionMatrix(element, data, items);
  return Boolean(data && items);
});
createViews("film", (element, source) => {
  const data = block<FilmData>(source);
  if (data?.images.length) new Film(element, data);
  return Boolean(data?.images.length);
});

// A page that is served during training polls the server for a newer version.
const stamp = document.documentElement.dataset.watched;
if (stamp !== undefined) {
  window.setInterval(async () => {
    const response = await fetch("/state").catch(() => null); // the server ends with the training
    const latest = response?.ok ? ((await response.json()) as { stamp: string }).stamp : "";
    if (latest && latest !== stamp) location.reload();
  }, 2500);
}
