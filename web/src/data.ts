// What the page holds for its scripts: JSON blocks, with arrays as base64 of little-endian bytes.

/** The pictures of the page and what is known of each; `truth` and the others have one entry a picture. */
export interface Items {
  classes: string[];
  colors: string[];
  names: string[];
  truth: Uint16Array | null;
  predicted: Uint16Array | null;
  /** 0 to 65535 for 0 to 1. */
  confidence: Uint16Array | null;
  sheets: string[];
  tile: [number, number];
  columns: number;
  perSheet: number;
}

export interface EpochNumbers {
  epoch: number;
  knn: string;
  silhouette: string;
  explained: string;
}

/** Maps of the first `count` items. */
export interface MapData {
  count: number;
  epochs: EpochNumbers[];
  /** One array an epoch, x and y of each item in turn, 0 to 65535. */
  kinds: Record<string, Uint16Array[]>;
  /** What the model said of each item at each epoch, and how sure it was. */
  predicted: Uint16Array[] | null;
  confidence: Uint16Array[] | null;
}

/** What a model says of each item; `confidence` goes from 0 to 65535. */
export interface Said {
  predicted: Uint16Array | null;
  confidence: Uint16Array | null;
}

export interface Curve {
  name: string;
  title: string;
  digits: number;
  lines: { label: string; kind: "train" | "validation" | "other"; x: number[]; y: (number | null)[] }[];
  marks: { at: number; kind: "best" | "resumed" | "stopped"; label: string }[];
}

export interface ConfusionData {
  orders: Record<string, number[]>;
  counts: number[][];
}

/** Followed images with their masks at the kept epochs: gray PNGs of class indices, 255 for what is left out. */
export interface FilmData {
  epochs: number[];
  classes: string[];
  colors: string[];
  images: { name: string; image: string; truth: string; masks: string[]; scores: string[] }[];
}

/** The JSON block `id` of the page, or null where it has none. */
export function block<T>(id: string): T | null {
  const element = document.getElementById(id);
  return element?.textContent ? (JSON.parse(element.textContent) as T) : null;
}

/** Base64 of little-endian 16-bit numbers. */
export function uint16(text: string): Uint16Array {
  const raw = atob(text);
  const result = new Uint16Array(raw.length / 2);
  for (let index = 0; index < result.length; index++) {
    result[index] = raw.charCodeAt(2 * index) | (raw.charCodeAt(2 * index + 1) << 8);
  }
  return result;
}

type Packed<T> = { [K in keyof T]: T[K] extends Uint16Array | null ? string | null : T[K] };

export function readItems(id: string): Items | null {
  const found = block<Packed<Items>>(id);
  if (!found) return null;
  const numbers = (text: string | null) => (text === null ? null : uint16(text));
  return {
    ...found,
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

/** A share of 65535 in percent, never rounded up to 100 or down to 0. */
export function percent(value: number): string {
  const share = (100 * value) / 65535;
  const inside = value > 0 && value < 65535 ? Math.min(Math.max(share, 0.1), 99.9) : share;
  return `${inside.toFixed(1)}%`;
}
