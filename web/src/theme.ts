// Light, dark, or as the system has it. What is chosen is kept where the browser allows it.
import { h } from "./dom";

const KEY = "sightline-theme";

export function themeButton(): void {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const button = h("button", { type: "button", class: "theme", onclick: () => turn() });
  function name(): void {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Light colors" : "Dark colors");
  }
  function turn(): void {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // a page of a file may not be allowed to keep anything
    }
    name();
  }
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch {
    // as above
  }
  name();
  system.addEventListener("change", name);
  document.querySelector("header")?.append(button);
}
