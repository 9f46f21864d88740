// The page on which a model is tried: a picture comes in by a click, a drop, a paste or the camera; answers come out.
import { calm, h } from "../dom";
import { themeButton } from "../theme";
import { type Answer, predict, Refused, setup, type Setup, shows } from "./api";
import { photograph } from "./camera";
import { classesCard } from "./classes";
import { loaded, Look, maskCard } from "./masks";
import { Points } from "./points";

const THUMBNAILS = 8;

class Desk {
  private preview = h("div", { class: "preview" });
  private says = h("p", { class: "numbers", role: "status" });
  private cards = h("div", { class: "answers" });
  private tools = h("div", {});
  private look = new Look();
  private zone: HTMLElement;
  private turn = 0;
  private address = "";

  constructor(
    place: HTMLElement,
    private known: Setup,
  ) {
    const file = h("input", { type: "file", accept: "image/*,.tif,.tiff", id: "file", class: "unseen" });
    file.addEventListener("change", () => {
      if (file.files?.[0]) void this.take(file.files[0], file.files[0].name);
      file.value = "";
    });
    const choose = h("button", { type: "button", class: "strong", onclick: () => file.click() }, "Choose a picture");
    const camera = h("button", { type: "button", onclick: () => void this.photo() }, "Take a photo");
    this.zone = h(
      "div",
      { class: "zone" },
      this.preview,
      h("div", { class: "tools" }, choose, camera, file),
      h("p", { class: "small" }, "Or drop a picture anywhere on this page, or paste one."),
    );
    place.append(h("div", { class: "desk" }, h("div", { class: "given" }, this.zone, this.says, this.examples()), h("div", { class: "got" }, this.tools, this.cards)));
    this.rest();
    this.listen();
  }

  /** What stands where the answers will be. */
  private rest(): void {
    this.cards.replaceChildren(h("p", { class: "missing" }, "Answers appear here."));
  }

  private examples(): HTMLElement | null {
    const index = this.known.models.findIndex(({ examples }) => examples.length > 0);
    if (index < 0) return null;
    const buttons = this.known.models[index].examples.slice(0, THUMBNAILS).map(({ name, label }, place) => {
      const source = `/api/models/${index}/examples/${place}.png`;
      const picture = h("img", { src: `${source}?side=128`, alt: name, loading: "lazy" });
      picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth <= 64));
      const title = label ? `${name}, truly ${label}` : name;
      return h("button", { type: "button", title, onclick: () => void this.example(source, title) }, picture);
    });
    return h("div", { class: "examples" }, h("p", { class: "small" }, "Or one of its validation pictures, which it has not learned from:"), h("div", { class: "reel", role: "group", "aria-label": "Validation pictures" }, ...buttons));
  }

  private async example(source: string, title: string): Promise<void> {
    const response = await fetch(source);
    if (response.ok) await this.take(await response.blob(), title);
    else this.says.textContent = "This picture is not there any more.";
  }

  private async photo(): Promise<void> {
    if (!navigator.mediaDevices) {
      h("input", { type: "file", accept: "image/*", capture: "environment", onchange: (event: Event) => {
        const taken = (event.target as HTMLInputElement).files?.[0];
        if (taken) void this.take(taken, "photo");
      } }).click();
      return;
    }
    try {
      const taken = await photograph();
      if (taken) await this.take(taken, "photo");
    } catch {
      this.says.textContent = "No camera can be used here; choose a picture instead.";
    }
  }

  private listen(): void {
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (file) void this.take(file, "pasted picture");
      else this.says.textContent = "What was pasted holds no picture.";
    });
    let inside = 0; // dragenter and dragleave come for every element that is crossed
    const hold = (event: DragEvent) => event.preventDefault();
    const mark = () => this.zone.classList.toggle("over", inside > 0);
    document.addEventListener("dragover", hold);
    document.addEventListener("dragenter", () => (inside++, mark()));
    document.addEventListener("dragleave", () => (inside--, mark()));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      mark();
      const file = event.dataTransfer?.files[0];
      if (file) void this.take(file, file.name);
      else this.says.textContent = "What was dropped is no file; save the picture first.";
    });
  }

  /** Show a picture, ask about it, show the answers; a picture that comes later wins. */
  private async take(picture: Blob, name: string): Promise<void> {
    const turn = ++this.turn;
    this.says.textContent = `${name}: asking ...`;
    if (picture.size > this.known.most_bytes) {
      this.says.textContent = `${name} has ${(picture.size / 1e6).toFixed(1)} MB; at most ${(this.known.most_bytes / 1e6).toFixed(0)} MB are taken.`;
      return;
    }
    this.cards.classList.add("old");
    try {
      const own = await shows(picture);
      const found = await predict(picture, !own);
      if (turn !== this.turn) return;
      if (this.address) URL.revokeObjectURL(this.address);
      this.address = own ? URL.createObjectURL(picture) : "";
      const image = await loaded(this.address || `data:image/png;base64,${found.preview}`);
      image.alt = name;
      image.classList.toggle("pixels", image.naturalWidth <= 128);
      this.preview.replaceChildren(image);
      this.says.textContent = `${name}, ${found.width} x ${found.height} pixels, ${found.seconds.toFixed(2)} s`;
      await this.show(found.answers, image, picture, found.width, found.height);
    } catch (error) {
      if (turn !== this.turn) return;
      this.says.textContent = `${name}: ${error instanceof Refused ? error.message : "it cannot be shown"}`;
      this.rest();
    } finally {
      if (turn === this.turn) this.cards.classList.remove("old");
    }
  }

  private async show(answers: Answer[], image: HTMLImageElement, picture: Blob, width: number, height: number): Promise<void> {
    this.look.forget();
    const cards = await Promise.all(
      answers.map(async (answer, index) => {
        const inner = answer.kind === "mask" ? await maskCard(answer, image, this.look, answer.model) : classesCard(answer, index);
        const heading = answers.length > 1 ? answer.model : "Answer";
        return h("section", { class: "answer", "aria-label": answer.model }, h("h2", {}, heading), ...inner);
      }),
    );
    const masks = answers.some(({ kind }) => kind === "mask");
    this.tools.replaceChildren(...(masks ? [this.look.element] : []));
    if (this.known.segment_anything) {
      const points = new Points(picture, image, width, height);
      cards.push(h("section", { class: "answer", "aria-label": "Segment Anything" }, h("h2", {}, "Segment Anything"), points.element));
    }
    this.cards.replaceChildren(...cards);
    const below = this.cards.getBoundingClientRect().top > innerHeight - 120;
    if (below) this.cards.scrollIntoView({ behavior: calm() ? "auto" : "smooth", block: "center" });
  }
}

/** A line for each model whose training pictures are still being looked at. */
function progress(place: HTMLElement, known: Setup): void {
  const waiting = known.models.filter(({ near }) => near && near.done < near.pictures);
  place.textContent = waiting
    .map(({ name, near }) => `${name}: looking at its training pictures, ${near!.done.toLocaleString("en")} of ${near!.pictures.toLocaleString("en")}`)
    .join("; ");
  if (waiting.length) setTimeout(() => void setup().then((next) => progress(place, next), () => undefined), 1500);
}

themeButton();
const place = document.getElementById("desk")!;
setup().then(
  (known) => {
    new Desk(place, known);
    progress(document.getElementById("progress")!, known);
  },
  (error: unknown) => place.append(h("p", { class: "wrong", role: "alert" }, error instanceof Refused ? error.message : String(error))),
);
