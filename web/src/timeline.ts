// A slider over the stored epochs, with a Play button.
import { calm, h } from "./dom";

export class Timeline {
  /** Slider and button; null for a single epoch. */
  readonly element: HTMLElement | null;
  private timer = 0;
  private readonly last: number;
  private slider: HTMLInputElement;
  private play = h("button", { type: "button", class: "play", onclick: () => this.setPlaying(!this.timer) }, "Play");

  /** epochs: their numbers. pace: milliseconds per epoch while playing. show: called with the index of an epoch. */
  constructor(
    private epochs: number[],
    private pace: number,
    private show: (index: number) => void,
  ) {
    this.last = epochs.length - 1;
    this.slider = h("input", { type: "range", min: 0, max: this.last, value: this.last, "aria-label": "Epoch" });
    this.slider.addEventListener("input", () => this.select(this.slider.valueAsNumber));
    this.element = this.last > 0 ? h("div", { class: "time" }, this.play, this.slider) : null;
    this.setValueText();
  }

  private select(index: number): void {
    this.slider.value = String(index);
    this.setValueText();
    this.show(index);
  }

  private setValueText(): void {
    this.slider.setAttribute("aria-valuetext", `epoch ${this.epochs[this.slider.valueAsNumber]}`);
  }

  private setPlaying(on: boolean): void {
    clearInterval(this.timer);
    this.timer = 0;
    this.play.textContent = on ? "Pause" : "Play";
    if (!on) return;
    const index = () => this.slider.valueAsNumber;
    this.select(index() >= this.last ? 0 : index() + 1);
    const next = () => (index() >= this.last ? this.setPlaying(false) : this.select(index() + 1));
    this.timer = window.setInterval(next, calm() ? 2 * this.pace : this.pace);
  }
}
