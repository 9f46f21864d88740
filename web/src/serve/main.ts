// The page of `sightline serve`: predict an image that is chosen, dropped, pasted or photographed.
import { calm, h } from "../dom";
import { themeButton } from "../theme";
import { canDisplay, type Prediction, predict, RequestError, type ServerInfo, serverInfo } from "./api";
import { takePhoto } from "./camera";
import { classesCard } from "./classes";
import { loadImage, maskCard, MaskView } from "./masks";
import { PointPrompts } from "./points";

const THUMBNAILS = 8;

class PredictionPage {
  private preview = h("div", { class: "preview" });
  private status = h("p", { class: "numbers", role: "status" });
  private cards = h("div", { class: "predictions" });
  private tools = h("div", {});
  private display = new MaskView();
  private dropzone: HTMLElement;
  private requests = 0; // responses to earlier requests are ignored
  private url = ""; // of the displayed file, or ""

  constructor(
    parent: HTMLElement,
    private server: ServerInfo,
  ) {
    const file = h("input", { type: "file", accept: "image/*,.tif,.tiff", id: "file", class: "visually-hidden", "aria-label": "Image file", tabindex: -1 }); // the button below is focused
    file.addEventListener("change", () => {
      if (file.files?.[0]) void this.predict(file.files[0], file.files[0].name);
      file.value = "";
    });
    const choose = h("button", { type: "button", class: "strong", onclick: () => file.click() }, "Choose an image");
    const camera = h("button", { type: "button", onclick: () => void this.photo() }, "Take a photo");
    this.dropzone = h(
      "div",
      { class: "dropzone" },
      this.preview,
      h("div", { class: "tools" }, choose, camera, file),
      h("p", { class: "small" }, "Or drop an image anywhere on this page, or paste one."),
    );
    parent.append(h("div", { class: "columns-2" }, h("div", { class: "input" }, this.dropzone, this.status, this.examples()), h("div", { class: "output" }, this.tools, this.cards)));
    this.showPlaceholder();
    this.listen();
  }

  /** The text in place of the predictions before the first one, and after an error. */
  private showPlaceholder(): void {
    this.cards.replaceChildren(h("p", { class: "missing" }, "Predictions appear here."));
  }

  private examples(): HTMLElement | null {
    const index = this.server.models.findIndex(({ examples }) => examples.length > 0);
    if (index < 0) return null;
    const buttons = this.server.models[index].examples.slice(0, THUMBNAILS).map(({ name, label }, number) => {
      const source = `/api/models/${index}/examples/${number}.png`;
      const image = h("img", { src: `${source}?side=128`, alt: name, loading: "lazy" });
      image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 64));
      const title = label ? `${name}, true class ${label}` : name;
      return h("button", { type: "button", title, onclick: () => void this.example(source, title) }, image);
    });
    return h("div", { class: "examples" }, h("p", { class: "small" }, "Or one of the validation images, which were not used for training:"), h("div", { class: "reel", role: "group", "aria-label": "Validation images" }, ...buttons));
  }

  private async example(source: string, title: string): Promise<void> {
    const response = await fetch(source);
    if (response.ok) await this.predict(await response.blob(), title);
    else this.status.textContent = `${title}: the server returned status ${response.status}`;
  }

  private async photo(): Promise<void> {
    if (!navigator.mediaDevices) {
      h("input", { type: "file", accept: "image/*", capture: "environment", onchange: (event: Event) => {
        const taken = (event.target as HTMLInputElement).files?.[0];
        if (taken) void this.predict(taken, "photo");
      } }).click();
      return;
    }
    try {
      const taken = await takePhoto();
      if (taken) await this.predict(taken, "photo");
    } catch {
      this.status.textContent = "No camera is available; choose an image instead.";
    }
  }

  private listen(): void {
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (file) void this.predict(file, "pasted image");
      else this.status.textContent = "The clipboard contains no image.";
    });
    let inside = 0; // dragenter and dragleave are fired for every element under the pointer
    const allowDrop = (event: DragEvent) => event.preventDefault();
    const mark = () => this.dropzone.classList.toggle("over", inside > 0);
    document.addEventListener("dragover", allowDrop);
    document.addEventListener("dragenter", () => (inside++, mark()));
    document.addEventListener("dragleave", () => (inside--, mark()));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      mark();
      const file = event.dataTransfer?.files[0];
      if (file) void this.predict(file, file.name);
      else this.status.textContent = "No file was dropped; save the image to a file first.";
    });
  }

  /** Display an image and its predictions; a later call supersedes an earlier one. */
  private async predict(file: Blob, name: string): Promise<void> {
    const request = ++this.requests;
    this.status.textContent = `${name}: predicting ...`;
    if (file.size > this.server.most_bytes) {
      this.status.textContent = `${name} has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${(this.server.most_bytes / 1e6).toFixed(0)} MB (--max-mb).`;
      return;
    }
    this.cards.classList.add("outdated");
    try {
      const native = await canDisplay(file);
      const found = await predict(file, !native);
      if (request !== this.requests) return;
      if (this.url) URL.revokeObjectURL(this.url);
      this.url = native ? URL.createObjectURL(file) : "";
      const image = await loadImage(this.url || `data:image/png;base64,${found.preview}`);
      image.alt = name;
      image.classList.toggle("pixels", image.naturalWidth <= 128);
      this.preview.replaceChildren(image);
      this.status.textContent = `${name}, ${found.width} x ${found.height} pixels, ${found.seconds.toFixed(2)} s`;
      await this.show(found.answers, image, file, found.width, found.height);
    } catch (error) {
      if (request !== this.requests) return;
      this.status.textContent = `${name}: ${error instanceof RequestError ? error.message : "the image cannot be displayed"}`;
      this.showPlaceholder();
    } finally {
      if (request === this.requests) this.cards.classList.remove("outdated");
    }
  }

  private async show(predictions: Prediction[], image: HTMLImageElement, file: Blob, width: number, height: number): Promise<void> {
    this.display.removeListeners();
    const cards = await Promise.all(
      predictions.map(async (prediction, index) => {
        const inner = prediction.kind === "mask" ? await maskCard(prediction, image, this.display, prediction.model) : classesCard(prediction, index);
        const heading = predictions.length > 1 ? prediction.model : "Prediction";
        return h("section", { class: "prediction", "aria-label": prediction.model }, h("h2", {}, heading), ...inner);
      }),
    );
    const masks = predictions.some(({ kind }) => kind === "mask");
    this.tools.replaceChildren(...(masks ? [this.display.element] : []));
    if (this.server.segment_anything) {
      const points = new PointPrompts(file, image, width, height);
      cards.push(h("section", { class: "prediction", "aria-label": "Segment Anything" }, h("h2", {}, "Segment Anything"), points.element));
    }
    this.cards.replaceChildren(...cards);
    const below = this.cards.getBoundingClientRect().top > innerHeight - 120;
    if (below) this.cards.scrollIntoView({ behavior: calm() ? "auto" : "smooth", block: "center" });
  }
}

/** Show, and update until it is complete, how many training images of each model are indexed. */
function showProgress(line: HTMLElement, server: ServerInfo): void {
  const unfinished = server.models.filter(({ near }) => near && near.done < near.pictures);
  line.textContent = unfinished
    .map(({ name, near }) => `${name}: indexing training images, ${near!.done.toLocaleString("en")} of ${near!.pictures.toLocaleString("en")}`)
    .join("; ");
  if (unfinished.length) setTimeout(() => void serverInfo().then((next) => showProgress(line, next), () => undefined), 1500);
}

themeButton();
const parent = document.getElementById("predict")!;
serverInfo().then(
  (server) => {
    new PredictionPage(parent, server);
    showProgress(document.getElementById("progress")!, server);
  },
  (error: unknown) => parent.append(h("p", { class: "wrong", role: "alert" }, error instanceof RequestError ? error.message : String(error))),
);
