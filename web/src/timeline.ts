// The kept epochs as a slider with a Play button.
import { calm, h } from "./dom";

export class Timeline {
  /** Slider and button; null where there is one epoch only. */
  readonly element: HTMLElement | null;
  private timer = 0;
  private readonly last: number;
  private slider: HTMLInputElement;
  private play = h("button", { type: "button", class: "play", onclick: () => this.turn(!this.timer) }, "Play");

  /** epochs: their numbers; pace: ms an epoch while it plays; show: hears the place among the epochs. */
  constructor(
    private epochs: number[],
    private pace: number,
    private show: (place: number) => void,
  ) {
    this.last = epochs.length - 1;
    this.slider = h("input", { type: "range", min: 0, max: this.last, value: this.last, "aria-label": "Epoch" });
    this.slider.addEventListener("input", () => this.go(this.slider.valueAsNumber));
    this.element = this.last > 0 ? h("div", { class: "time" }, this.play, this.slider) : null;
    this.name();
  }

  private go(place: number): void {
    this.slider.value = String(place);
    this.name();
    this.show(place);
  }

  private name(): void {
    this.slider.setAttribute("aria-valuetext", `epoch ${this.epochs[this.slider.valueAsNumber]}`);
  }

  private turn(on: boolean): void {
    clearInterval(this.timer);
    this.timer = 0;
    this.play.textContent = on ? "Pause" : "Play";
    if (!on) return;
    const place = () => this.slider.valueAsNumber;
    this.go(place() >= this.last ? 0 : place() + 1);
    const next = () => (place() >= this.last ? this.turn(false) : this.go(place() + 1));
    this.timer = window.setInterval(next, calm() ? 2 * this.pace : this.pace);
  }
}
