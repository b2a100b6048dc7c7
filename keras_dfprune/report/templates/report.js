// Without scripts all parts are open, so that nothing is hidden.
const parts = Array.from(document.querySelectorAll("details"));
const button = document.getElementById("toggle");
const setAll = (open) => parts.forEach((part) => { part.open = open; });
const name = () => {
  const open = parts.every((part) => part.open);
  button.textContent = open ? "Close all layers" : "Open all layers";
  return open;
};
if (parts.length > 1) {
  setAll(false);
  button.hidden = false;
  button.addEventListener("click", () => { setAll(!name()); });
  parts.forEach((part) => part.addEventListener("toggle", name));
  name();
}
let before = [];
addEventListener("beforeprint", () => { before = parts.map((part) => part.open); setAll(true); });
addEventListener("afterprint", () => parts.forEach((part, k) => { part.open = before[k]; }));
