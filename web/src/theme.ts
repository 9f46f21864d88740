// The button for light or dark colors. The default is the system's; a choice is stored in localStorage if possible.
import { h } from "./dom";

const KEY = "sightline-theme";

export function themeButton(): void {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const button = h("button", { type: "button", class: "theme", onclick: () => toggle() });
  function setLabel(): void {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Light colors" : "Dark colors");
  }
  function toggle(): void {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // localStorage may be blocked, for example for file: URLs
    }
    setLabel();
  }
  try {
    const stored = localStorage.getItem(KEY);
    if (stored === "light" || stored === "dark") root.dataset.theme = stored;
  } catch {
    // localStorage is blocked
  }
  setLabel();
  system.addEventListener("change", setLabel);
  document.querySelector("header")?.append(button);
}
