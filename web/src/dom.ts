// Functions that create elements. Text is inserted as text nodes, so a class may be named <script>.

type Child = Node | string | null | undefined;

/** An element with attributes, listeners (`onclick`) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number | boolean | ((event: never) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value as EventListener);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children.filter((child): child is Node | string => child != null));
  return element;
}

/** A row of buttons, one of which is pressed; `choose` is called with the value of the pressed one. */
export function choice(
  label: string,
  options: [value: string, text: string][],
  chosen: string,
  choose: (value: string) => void,
): HTMLElement {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => select(value) }, text),
  );
  function select(value: string): void {
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(options[index][0] === value)));
    choose(value);
  }
  return h("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

/** A labeled drop-down list; `choose` is called with the value of the selected option. */
export function dropDown(
  label: string,
  options: [value: string, text: string][],
  chosen: string,
  choose: (value: string) => void,
): HTMLElement {
  const list = h("select", {}, ...options.map(([value, text]) => h("option", { value }, text)));
  list.value = chosen;
  list.addEventListener("change", () => choose(list.value));
  return h("label", { class: "drop" }, `${label} `, list);
}

/** The value of a custom property of the style sheet, such as `--ink`. */
export function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Black or white text, with a contrast of at least 4.5 : 1, on `color` with an opacity over `below`; all #rrggbb. */
export function inkOn(color: string, opacity: number, below: string): string {
  const parts = (hex: string) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  const [over, under] = [parts(color), parts(below)];
  const [red, green, blue] = over.map((value, channel) => {
    const share = (opacity * value + (1 - opacity) * under[channel]) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

/** Call `change` when the theme changes between light and dark. */
export function onTheme(change: () => void): void {
  new MutationObserver(change).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", change);
}

/** Whether the user prefers reduced motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
