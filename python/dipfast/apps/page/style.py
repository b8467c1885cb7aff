"""How a page looks, and the few lines of script that move the wipe and need no network."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --faint: #8a8a8a;
  --line: #d9d9d9; --one: #0b62a4; --two: #c2410c; --good: #15803d; --warn: #b45309; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --faint: #9a9a9a;
  --line: #3a3a3a; --one: #66b2f0; --two: #f59e5b; --good: #5fd38a; --warn: #f2b84b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1240px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
img { display: block; max-width: 100%; height: auto; }
figure { margin: 0; }
figcaption, .note { color: var(--faint); font-size: .9rem; }
.warning { color: var(--warn); }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row > figure { max-width: 100%; }
.row + .row { margin-top: 1rem; }
.row > figure:has(img) > figcaption { width: 0; min-width: 100%; }
.wipe { position: relative; --at: 50%; max-width: 100%; }
.wipe img { width: 100%; min-height: 12px; }
.wipe img + img { position: absolute; inset: 0; height: 100%;
  clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.wipe::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
  margin-left: -1px; background: #fff; outline: 1px solid #000; pointer-events: none; }
.wipe-slider { display: block; width: 100%; margin: .5rem 0 0; box-sizing: border-box; }
.ends { display: flex; justify-content: space-between; }
.sharp { image-rendering: pixelated; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; overflow-wrap: normal; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); }
svg.chart { width: 100%; max-width: 640px; height: auto; }
svg.chart text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg.chart line.grid { stroke: var(--line); }
svg.chart line.stage { stroke: var(--faint); stroke-dasharray: 5 4; }
svg.chart line.mark { stroke-width: 1.5; stroke-dasharray: 2 3; }
svg.chart .curve { fill: none; stroke-width: 1.5; }
svg.chart line.one, svg.chart polyline.one { stroke: var(--one); }
svg.chart line.two, svg.chart polyline.two { stroke: var(--two); }
svg.chart line.good { stroke: var(--good); }
svg.chart line.faint { stroke: var(--faint); }
svg.chart line.warn { stroke: var(--warn); }
svg.chart circle.one { fill: var(--one); }
svg.chart circle.two { fill: var(--two); }
"""

SCRIPT = """
for (const slider of document.querySelectorAll(".wipe-slider")) {
  const wipe = document.getElementById(slider.dataset.of);
  const show = () => wipe.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", show);
  const follow = (event) => {
    const box = wipe.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    show();
  };
  wipe.addEventListener("pointerdown", follow);
  wipe.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  wipe.addEventListener("dragstart", (event) => event.preventDefault());
  show();
}
"""
