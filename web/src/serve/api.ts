// What the server says, and how it is asked.
import { h } from "../dom";

export interface Model {
  name: string;
  task: "classify" | "byol" | "segment";
  classes: number;
  near: { pictures: number; done: number; note: string } | null;
  examples: { name: string; label: string }[];
}

export interface Setup {
  models: Model[];
  segment_anything: string;
  most_bytes: number;
}

export interface Near {
  picture: number;
  name: string;
  label: string;
  similarity: number;
}

export interface ClassAnswer {
  kind: "classes";
  label: string;
  confidence: number;
  probabilities: { name: string; probability: number }[];
  near: Near[];
  note: string;
}

export interface MaskAnswer {
  kind: "mask";
  width: number;
  height: number;
  mask: string;
  classes: { name: string; color: string; share: number }[];
}

export type Answer = (ClassAnswer | MaskAnswer) & { model: string };

export interface Found {
  width: number;
  height: number;
  preview: string;
  seconds: number;
  answers: Answer[];
}

export interface PointMask {
  mask: string;
  score: number;
  share: number;
}

/** What went wrong, in the server's words. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

async function read<T>(response: Response): Promise<T> {
  if (response.ok) return (await response.json()) as T;
  let message = `the server answered ${response.status}`;
  try {
    const { error } = (await response.json()) as { error: { what: string; why: string; cure: string } };
    message = [error.what, error.why, error.cure].filter(Boolean).join("; ");
  } catch {
    // not JSON: the status has to do
  }
  throw new Refused(message, response.status);
}

const wait = (seconds: number) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** A request; one that the server has no room for is tried again some times, as it asks for. */
async function ask<T>(address: string, options: RequestInit = {}): Promise<T> {
  for (let trial = 0; ; trial++) {
    let response: Response;
    try {
      response = await fetch(address, options);
    } catch {
      throw new Refused("the server does not answer; is sightline serve still running?", 0);
    }
    if (response.status !== 503 || trial === 4) return read<T>(response);
    await wait(Number(response.headers.get("Retry-After")) || 1);
  }
}

export const setup = () => ask<Setup>("/api/models");

export const predict = (picture: Blob, preview: boolean) =>
  ask<Found>(`/api/predict?preview=${preview}`, { method: "POST", body: picture });

export const embed = (picture: Blob) =>
  ask<{ picture: string; width: number; height: number }>("/api/segment/pictures", { method: "POST", body: picture });

export const masksAt = (picture: string, prompt: { points: number[][]; labels: number[]; box: number[] | null }) =>
  ask<{ masks: PointMask[] }>(`/api/segment/pictures/${picture}/masks`, {
    method: "POST",
    body: JSON.stringify(prompt),
    headers: { "Content-Type": "application/json" },
  });

/** A share of 1 in percent, never rounded up to 100 or down to 0. */
export function percent(share: number): string {
  const whole = 100 * share;
  const inside = share > 0 && share < 1 ? Math.min(Math.max(whole, 0.1), 99.9) : whole;
  return `${inside.toFixed(1)}%`;
}

/** Whether the browser itself can show a picture; it cannot show TIFF, for one. */
export async function shows(picture: Blob): Promise<boolean> {
  const address = URL.createObjectURL(picture);
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
