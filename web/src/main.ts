// Turns the still parts of a report into live ones. Without this script the page shows the same in still pictures.
import { ConfusionMatrix } from "./confusion";
import { drawCurves } from "./curves";
import { block, type ConfusionData, type Curve, type FilmData, readItems, readMap } from "./data";
import { Film } from "./film";
import { LearnedMap } from "./map";
import { Pictures } from "./pictures";
import { sortTables } from "./sort";
import { themeButton } from "./theme";

/** Fills each place of a kind; a place that fails stays the still picture that it was. */
function enliven(kind: string, fill: (place: HTMLElement, source: string) => boolean): void {
  for (const place of document.querySelectorAll<HTMLElement>(`[data-live="${kind}"]`)) {
    place.hidden = false; // what is hidden has no width
    const filled = fill(place, place.dataset.source ?? "");
    place.hidden = !filled;
    if (filled) place.parentElement?.classList.add("lives");
  }
}

const kept = new Map<string, Pictures | null>();
function pictures(id: string | undefined): Pictures | null {
  if (!id) return null;
  if (!kept.has(id)) {
    const items = readItems(id);
    kept.set(id, items && new Pictures(items));
  }
  return kept.get(id) ?? null;
}

themeButton();
sortTables();
enliven("curves", (place, source) => {
  const curves = block<Curve[]>(source);
  if (curves?.length) drawCurves(place, curves);
  return Boolean(curves?.length);
});
enliven("map", (place, source) => {
  const [map, items] = [readMap(source), pictures(place.dataset.items)];
  if (map && items) new LearnedMap(place, map, items);
  return Boolean(map && items);
});
enliven("confusion", (place, source) => {
  const [data, items] = [block<ConfusionData>(source), pictures(place.dataset.items)];
  if (data && items) new ConfusionMatrix(place, data, items);
  return Boolean(data && items);
});
enliven("film", (place, source) => {
  const data = block<FilmData>(source);
  if (data?.images.length) new Film(place, data);
  return Boolean(data?.images.length);
});

// A page that is watched asks its server whether there is something new.
const known = document.documentElement.dataset.watched;
if (known !== undefined) {
  window.setInterval(async () => {
    const answer = await fetch("/state").catch(() => null); // the run may be over, and its server gone
    const stamp = answer?.ok ? ((await answer.json()) as { stamp: string }).stamp : "";
    if (stamp && stamp !== known) location.reload();
  }, 2500);
}
