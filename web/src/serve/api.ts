// The requests of the page and the types of their responses; serve/schemas.py declares the same names.
import { h } from "../dom";

export interface Model {
  name: string;
  task: "classify" | "pretrain" | "segment";
  classes: number;
  near: { pictures: number; done: number; note: string } | null;
  examples: { name: string; label: string }[];
}

export interface ServerInfo {
  models: Model[];
  segment_anything: string;
  most_bytes: number;
}

export interface Neighbor {
  picture: number;
  name: string;
  label: string;
  similarity: number;
}

export interface LabelPrediction {
  kind: "classes";
  label: string;
  confidence: number;
  probabilities: { name: string; probability: number }[];
  near: Neighbor[];
  note: string;
}

export interface MaskPrediction {
  kind: "mask";
  width: number;
  height: number;
  mask: string;
  classes: { name: string; color: string; share: number }[];
}

export type Prediction = (LabelPrediction | MaskPrediction) & { model: string };

export interface PredictResponse {
  width: number;
  height: number;
  preview: string;
  seconds: number;
  answers: Prediction[];
}

export interface PointMask {
  mask: string;
  score: number;
  share: number;
}

/** A failed request, with the server's error message; status 0: no response. */
export class RequestError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

async function parsed<T>(response: Response): Promise<T> {
  if (response.ok) return (await response.json()) as T;
  let message = `the server returned status ${response.status}`;
  try {
    const { error } = (await response.json()) as { error: { what: string; why: string; cure: string } };
    message = [error.what, error.why, error.cure].filter(Boolean).join("; ");
  } catch {
    // not JSON: the message is the status
  }
  throw new RequestError(message, response.status);
}

const sleep = (seconds: number) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Send a request; with status 503 (queue full), retry up to four times after the Retry-After delay. */
async function request<T>(address: string, options: RequestInit = {}): Promise<T> {
  for (let trial = 0; ; trial++) {
    let response: Response;
    try {
      response = await fetch(address, options);
    } catch {
      throw new RequestError("no response from the server; check that `sightline serve` is running", 0);
    }
    if (response.status !== 503 || trial === 4) return parsed<T>(response);
    await sleep(Number(response.headers.get("Retry-After")) || 1);
  }
}

export const serverInfo = () => request<ServerInfo>("/api/models");

export const predict = (image: Blob, preview: boolean) =>
  request<PredictResponse>(`/api/predict?preview=${preview}`, { method: "POST", body: image });

export const embed = (image: Blob) =>
  request<{ picture: string; width: number; height: number }>("/api/segment/pictures", { method: "POST", body: image });

/** key: the `picture` that `embed` returned. */
export const masksAt = (key: string, prompt: { points: number[][]; labels: number[]; box: number[] | null }) =>
  request<{ masks: PointMask[] }>(`/api/segment/pictures/${key}/masks`, {
    method: "POST",
    body: JSON.stringify(prompt),
    headers: { "Content-Type": "application/json" },
  });

/** A share between 0 and 1 in percent; only 0 and 1 are rounded to 0 and 100. */
export function percent(share: number): string {
  const whole = 100 * share;
  const inside = share > 0 && share < 1 ? Math.min(Math.max(whole, 0.1), 99.9) : whole;
  return `${inside.toFixed(1)}%`;
}

/** Whether the browser can display an image file; most cannot display TIFF. */
export async function canDisplay(file: Blob): Promise<boolean> {
  const address = URL.createObjectURL(file);
  const image = h("img", { src: address });
  try {
    await image.decode();
    return true;
  } catch {
    return false;
  } finally {
    URL.revokeObjectURL(address);
  }
}
