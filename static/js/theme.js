// Runs before the first paint, so that a chosen theme never flashes; and marks that scripts run.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const choices = ["system", "light", "dark"];
  const read = () => {
    try {
      return localStorage.getItem("theme") || "system";
    } catch {
      return "system";
    }
  };
  const apply = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  apply(read());

  const label = (button) => {
    button.textContent = button.dataset[read()] || read();
  };
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      label(button);
      button.addEventListener("click", () => {
        const theme = choices[(choices.indexOf(read()) + 1) % choices.length];
        try {
          localStorage.setItem("theme", theme);
        } catch {
          // A browser that keeps nothing still shows the theme on this page.
        }
        apply(theme);
        label(button);
      });
    }
    // A menu closes when one clicks beside it or presses Escape.
    const close = (except) => {
      for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
    };
    document.addEventListener("click", (event) => close(event.target.closest("details.menu")));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const open = document.querySelector("details.menu[open]");
      close(null);
      open?.querySelector("summary").focus();
    });
  });
})();
