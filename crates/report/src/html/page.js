// Nothing here is needed to read the page: values next to the pointer at once, where the browser's
// own tooltip would wait.
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const words = new WeakMap();
  for (const title of document.querySelectorAll("svg.chart g > circle > title, svg.chart g > title")) {
    words.set(title.parentElement, title.textContent);
    title.parentElement.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  document.addEventListener("pointermove", (event) => {
    const text = event.target instanceof Element ? words.get(event.target) ?? words.get(event.target.parentElement) : undefined;
    tip.hidden = text === undefined;
    if (tip.hidden) return;
    tip.textContent = text;
    const right = event.clientX + 14 + tip.offsetWidth > innerWidth;
    tip.style.left = `${event.clientX + (right ? -14 - tip.offsetWidth : 14)}px`;
    tip.style.top = `${Math.max(4, event.clientY - 30)}px`;
  });
})();
