// Filters and sorting. The state is kept in the address (#task=walker&off=v1&
// sort=-score), so that a view can be shared.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const find = (id) => document.getElementById(id);
  const state = { task: "", off: new Set(), sort: "task" };

  const budgetOf = (section) => {
    const chosen = section?.querySelector('.budgets [aria-pressed="true"]');
    return chosen ? chosen.dataset.budget : "";
  };

  function filter() {
    const words = state.task.toLowerCase().replaceAll("_", " ").split(/\s+/);
    let shown = 0, total = 0;
    for (const element of all("[data-task], [data-version], tr[data-budget]")) {
      const { task, version, budget } = element.dataset;
      const name = (task ?? "").replaceAll("_", " ");
      const current = !budget || budget === budgetOf(element.closest("section"));
      const matches = current && !state.off.has(version) &&
        (task === undefined || words.every((word) => name.includes(word)));
      element.hidden = !matches;
      if (element.matches(".cells tr") && current) { total += 1; shown += matches; }
    }
    for (const chip of all("[data-toggle]")) {
      const off = state.off.has(chip.dataset.toggle);
      chip.setAttribute("aria-pressed", String(!off));
      document.body.classList.toggle("off-" + chip.dataset.toggle, off);
    }
    find("count").textContent = total ? `${shown} of ${total} rows` : "";
  }

  function compare(a, b, sign) {
    if (a === b) return 0;
    if (a === "") return 1;  // missing values stay at the end
    if (b === "") return -1;
    const numbers = !isNaN(a) && !isNaN(b);
    return sign * (numbers ? a - b : a.localeCompare(b));
  }

  function sort(table, key, sign) {
    const body = table.tBodies[0];
    const value = (row) => {
      const cell = key === "task" || key === "aggregate"
        ? row.cells[0] : row.querySelector(`[data-k="${CSS.escape(key)}"]`);
      return cell ? cell.dataset.v ?? "" : "";
    };
    const rows = [...body.rows].map((row, index) => ({ row, index }));
    rows.forEach((r) => { r.first ??= Number(r.row.dataset.index ??= r.index); });
    rows.sort((a, b) => compare(value(a.row), value(b.row), sign) || a.first - b.first);
    body.append(...rows.map((r) => r.row));
    for (const th of all("th[data-key]", table)) {
      if (th.dataset.key !== key) th.removeAttribute("aria-sort");
      else th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    }
  }

  function sortAll() {
    const key = state.sort.replace(/^-/, "");
    const sign = state.sort.startsWith("-") ? -1 : 1;
    for (const table of all(".cells")) sort(table, key, sign);
    if ([...find("sort").options].some((o) => o.value === key)) find("sort").value = key;
  }

  function remember() {
    const parts = new URLSearchParams();
    if (state.task) parts.set("task", state.task);
    if (state.off.size) parts.set("off", [...state.off].join(","));
    if (state.sort !== "task") parts.set("sort", state.sort);
    const text = parts.toString();
    find("reset").hidden = !text;
    history.replaceState(null, "", text ? "#" + text : location.pathname);
  }

  function recall() {
    if (!location.hash.includes("=")) return;
    const parts = new URLSearchParams(location.hash.slice(1));
    state.task = parts.get("task") ?? "";
    state.off = new Set((parts.get("off") ?? "").split(",").filter(Boolean));
    state.sort = parts.get("sort") ?? "task";
    find("task").value = state.task;
    find("reset").hidden = false;
  }

  find("task").addEventListener("input", (event) => {
    state.task = event.target.value.trim(); filter(); remember();
  });
  find("sort").addEventListener("change", (event) => {
    const key = event.target.value;
    state.sort = key === "score" ? "-score" : key; sortAll(); remember();
  });
  find("reset").addEventListener("click", () => {
    state.task = ""; state.off.clear(); state.sort = "task";
    find("task").value = ""; sortAll(); filter(); remember();
  });
  for (const chip of all("[data-toggle]")) {
    chip.addEventListener("click", () => {
      const version = chip.dataset.toggle;
      if (!state.off.delete(version)) state.off.add(version);
      filter(); remember();
    });
  }
  for (const button of all(".budgets button")) {
    button.addEventListener("click", () => {
      for (const other of all("button", button.parentElement)) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      filter();
    });
  }
  for (const th of all("[data-sorts] th[data-key]")) {
    th.tabIndex = 0;
    const act = () => {
      const table = th.closest("table"), key = th.dataset.key;
      const down = th.getAttribute("aria-sort") === "ascending" ||
        (!th.hasAttribute("aria-sort") && th.classList.contains("num"));
      if (table.matches(".cells")) {
        state.sort = (down ? "-" : "") + key; sortAll(); remember();
      } else {
        sort(table, key, down ? -1 : 1);
      }
    };
    th.addEventListener("click", act);
    th.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
    });
  }
  recall(); sortAll(); filter();
})();
