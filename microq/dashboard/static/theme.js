// Dark or light, before the first paint: the last choice in this browser, else the preference of the system.
(() => {
  const kept = localStorage.getItem("microq-theme");
  if (kept) document.documentElement.dataset.theme = kept;
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("microq-theme", root.dataset.theme);
      dispatchEvent(new Event("theme"));
    });
  });
})();
