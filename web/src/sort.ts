// Sort a table by a column when its heading is clicked; a second click reverses the order.
function compare(a: string, b: string): number {
  const [first, second] = [a, b].map((text) => parseFloat(text.replace(/,/g, "")));
  if (Number.isNaN(first) || Number.isNaN(second)) return a.localeCompare(b, "en", { numeric: true });
  return first - second;
}

export function sortTables(): void {
  for (const table of document.querySelectorAll<HTMLTableElement>("table[data-sortable]")) {
    const body = table.tBodies[0];
    const heads = [...(table.tHead?.rows[0].cells ?? [])];
    heads.forEach((head, column) => {
      if (!head.textContent?.trim()) return;
      head.firstElementChild?.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        const key = (row: HTMLTableRowElement) => row.cells[column].textContent?.trim() ?? "";
        const order = (a: HTMLTableRowElement, b: HTMLTableRowElement) =>
          compare(key(a), key(b)) * (down ? -1 : 1);
        const rows = [...body.rows].sort(order);
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
      });
    });
  }
}
