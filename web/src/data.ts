// The JSON blocks of a page, which report/live.py writes; arrays are base64 of little-endian bytes.

/** The thumbnails of the page. The arrays have one entry per image: class indices, and the confidence 0 to 65535. */
export interface Items {
  classes: string[];
  colors: string[];
  names: string[];
  truth: Uint16Array | null;
  predicted: Uint16Array | null;
  confidence: Uint16Array | null;
  sets?: LabelSets;
  sheets: string[];
  tile: [number, number];
  columns: number;
  perSheet: number;
}

/** For images with several labels, where the classes of `Items` are label sets: for each class, the indices of the
 * images that have it, and of those it is predicted for. */
export interface LabelSets {
  names: string[];
  truth: Uint16Array[];
  predicted: Uint16Array[];
}

export interface EpochNumbers {
  epoch: number;
  knn: string;
  silhouette: string;
  explained: string;
}

/** Maps of the first `count` images. */
export interface MapData {
  count: number;
  epochs: EpochNumbers[];
  /** By projection: one array per epoch, x and y of each image in turn, 0 to 65535. */
  kinds: Record<string, Uint16Array[]>;
  /** One array per epoch: the predicted class of each image, and its confidence, 0 to 65535. */
  predicted: Uint16Array[] | null;
  confidence: Uint16Array[] | null;
}

/** The predicted class of each image, and its confidence, 0 to 65535. */
export interface Predictions {
  predicted: Uint16Array | null;
  confidence: Uint16Array | null;
}

export interface Curve {
  name: string;
  title: string;
  digits: number;
  top: number | null; // the largest possible value
  lines: { label: string; kind: "train" | "validation" | "other"; x: number[]; y: (number | null)[] }[];
  marks: { at: number; kind: "best" | "resumed" | "stopped"; label: string }[];
}

export interface ConfusionData {
  orders: Record<string, number[]>;
  counts: number[][];
}

/** Sample images with their masks at the stored epochs: gray PNGs of class indices, 255 for ignored pixels. */
export interface FilmData {
  epochs: number[];
  classes: string[];
  colors: string[];
  /** Colors of the page, in place of those of the data; empty if there are too many classes for such colors. */
  distinct: string[];
  images: { name: string; image: string; truth: string; masks: string[]; scores: string[] }[];
}

/** The parsed JSON block with this id; null if the page has none. */
export function block<T>(id: string): T | null {
  const element = document.getElementById(id);
  return element?.textContent ? (JSON.parse(element.textContent) as T) : null;
}

/** Decode base64 of little-endian 16-bit integers. */
export function uint16(text: string): Uint16Array {
  const raw = atob(text);
  const result = new Uint16Array(raw.length / 2);
  for (let index = 0; index < result.length; index++) {
    result[index] = raw.charCodeAt(2 * index) | (raw.charCodeAt(2 * index + 1) << 8);
  }
  return result;
}

type Packed<T> = { [K in keyof T]: T[K] extends Uint16Array | null ? string | null : T[K] };
type PackedSets = { names: string[]; truth: string[]; predicted: string[] };

export function readItems(id: string): Items | null {
  const found = block<Omit<Packed<Items>, "sets"> & { sets?: PackedSets }>(id);
  if (!found) return null;
  const numbers = (text: string | null) => (text === null ? null : uint16(text));
  const { sets } = found;
  return {
    ...found,
    sets: sets && { names: sets.names, truth: sets.truth.map(uint16), predicted: sets.predicted.map(uint16) },
    truth: numbers(found.truth),
    predicted: numbers(found.predicted),
    confidence: numbers(found.confidence),
  };
}

export function readMap(id: string): MapData | null {
  type Texts = { kinds: Record<string, string[]>; predicted: string[] | null; confidence: string[] | null };
  const found = block<Omit<MapData, keyof Texts> & Texts>(id);
  if (!found) return null;
  const kinds = Object.fromEntries(Object.entries(found.kinds).map(([kind, texts]) => [kind, texts.map(uint16)]));
  const arrays = (texts: string[] | null) => texts && texts.map(uint16);
  return { ...found, kinds, predicted: arrays(found.predicted), confidence: arrays(found.confidence) };
}

/** A value of 0 to 65535 in percent; only 0 and 65535 are rounded to 0 and 100. */
export function percent(value: number): string {
  const share = (100 * value) / 65535;
  const inside = value > 0 && value < 65535 ? Math.min(Math.max(share, 0.1), 99.9) : share;
  return `${inside.toFixed(1)}%`;
}

/** A count with at most four digits, so that it fits into a cell: 1234, 12k, 3.4M. */
export function inCell(count: number): string {
  if (count >= 999500) return `${(count / 1e6).toFixed(1).replace(/\.0$/, "")}M`;
  if (count >= 9999.5) return `${(count / 1000).toFixed(0)}k`;
  return String(count);
}
