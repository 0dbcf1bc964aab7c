// The window on a drawing that is larger than it: moving, zooming, and a small map of the whole.
//
// Takes a stage (an element) for an SVG, whose group `canvas` is the drawing; `dots()` gives what the
// map shows, and `moved()` is told of every move. Knows nothing of trees.

import { draw, make } from "./dom.js";

const MAP = { width: 150, height: 96 };
const SLACK = 6; // pixels of a drawing's empty margin that may lie outside
export const READABLE = 0.8; // of the size that the text was made for

export class Viewport {
  constructor(stage, label, { dots, moved }) {
    this.stage = stage;
    this.dots = dots;
    this.moved = moved;
    this.svg = draw(stage, "svg", label);
    this.canvas = draw(this.svg, "g");
    this.map = make(stage, "div", { class: "st-map", hidden: "", "aria-hidden": "true", title: "The whole tree: drag the window" });
    this.dotted = make(this.map, "canvas", MAP);
    this.frame = make(this.map, "div");
    this.extent = { width: 1, height: 1 };
    this.measured = [600, 400];
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.svg.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      const box = this.svg.getBoundingClientRect();
      this.zoomBy(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.svg.addEventListener("pointerdown", (event) => {
      const start = this.zoom;
      this.drag(event, (dx, dy) => this.move(start.scale, start.x + dx, start.y + dy));
    });
    this.map.addEventListener("pointerdown", (event) => {
      const box = this.dotted.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const [across, down] = [this.extent.width / MAP.width, this.extent.height / MAP.height];
      this.centreOn(x * across, y * down);
      this.drag(event, (dx, dy) => this.centreOn((x + dx) * across, (y + dy) * down));
    });
  }

  // Measured when the stage changes, not when it is asked for: the browser would lay out the page.
  resize(width, height) {
    this.stage.style.height = `${height}px`;
    this.measured = [width || 600, height];
  }

  move(scale, x, y) {
    this.zoom = { scale, x, y };
    this.untouched = false;
    this.svg.classList.toggle("st-far", scale < 0.25); // too small to read: not worth drawing
    this.canvas.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
    this.moved();
    this.paintMap();
  }

  centreOn(x, y) {
    const [width, height] = this.measured;
    const { scale } = this.zoom;
    this.move(scale, width / 2 - x * scale, height / 2 - y * scale);
  }

  zoomBy(factor, atX = null, atY = null) {
    const [width, height] = this.measured;
    const [x, y] = [atX ?? width / 2, atY ?? height / 2];
    const scale = Math.max(0.02, Math.min(4, this.zoom.scale * factor));
    const ratio = scale / this.zoom.scale;
    this.move(scale, x - (x - this.zoom.x) * ratio, y - (y - this.zoom.y) * ratio);
  }

  // The rows that can be seen, and as many again on either side.
  rows() {
    const [, height] = this.measured;
    const { scale, y } = this.zoom;
    return [(-height - y) / scale, (2 * height - y) / scale];
  }

  // The scale at which all of the drawing is in the window.
  fitting() {
    const [width, height] = this.measured;
    return Math.min(width / this.extent.width, height / this.extent.height, 1);
  }

  // The drawing from its left on; where it is too high, around `y`.
  show(scale, y) {
    const [width, height] = this.measured;
    const rest = height - this.extent.height * scale;
    const left = Math.max(0, (width - this.extent.width * scale) / 2);
    this.move(scale, left, rest >= 0 ? rest / 2 : Math.min(0, Math.max(rest, height / 2 - y * scale)));
  }

  // Move as little as needed to bring a part of the drawing into the window.
  reveal({ left, right, y }) {
    this.revealed = { right, y };
    const [width, height] = this.measured;
    const { scale, x: atX, y: atY } = this.zoom;
    const [from, to, middle] = [left * scale + atX, right * scale + atX, y * scale + atY];
    const edge = 36 * scale;
    const stays = (length, room) => this.untouched && length * scale <= room + SLACK;
    const dx = stays(this.extent.width, width) ? 0 : from < 8 ? 8 - from : to > width - 8 ? Math.max(width - 8 - to, 8 - from) : 0;
    const dy = stays(this.extent.height, height) ? 0 : middle < edge ? 2 * edge - middle : middle > height - edge ? height - 2 * edge - middle : 0;
    if (!dx && !dy) return;
    const { untouched } = this;
    this.move(scale, atX + dx, atY + dy);
    this.untouched = untouched;
  }

  drag(event, moved) {
    if (event.button !== 0) return;
    const start = [event.clientX, event.clientY];
    this.dragged = false;
    const drag = (now) => {
      const [dx, dy] = [now.clientX - start[0], now.clientY - start[1]];
      if (!this.dragged && Math.hypot(dx, dy) < 5) return;
      this.dragged = true;
      moved(dx, dy);
    };
    const stop = () => {
      window.removeEventListener("pointermove", drag);
      window.removeEventListener("pointerup", stop);
      setTimeout(() => (this.dragged = false));
    };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", stop);
  }

  // The map, where not all of the drawing is in the window.
  paintMap() {
    const [width, height] = this.measured;
    const { scale, x, y } = this.zoom;
    const { width: across, height: down } = this.extent;
    const whole = across * scale <= width + SLACK && down * scale <= height + SLACK && x >= -SLACK && y >= -SLACK;
    this.map.toggleAttribute("hidden", whole);
    if (whole) return;
    const { right = 0, y: middle = 0 } = this.revealed || {};
    this.map.classList.toggle("st-map-top", right * scale + x > width - MAP.width - 12 && middle * scale + y > height / 2);
    const [smallX, smallY] = [MAP.width / across, MAP.height / down];
    const sides = { left: -x / scale * smallX, top: -y / scale * smallY, width: width / scale * smallX, height: height / scale * smallY };
    for (const [name, value] of Object.entries(sides)) this.frame.style[name] = `${value.toFixed(1)}px`;
    // The dots are many: painted once the reader pauses.
    this.painting ??= setTimeout(() => {
      this.painting = null;
      const pen = this.dotted.getContext("2d");
      pen.clearRect(0, 0, MAP.width, MAP.height);
      for (const dot of this.dots()) {
        pen.fillStyle = dot.colour;
        pen.fillRect(dot.x * smallX, dot.y * smallY - 1, dot.width * smallX, Math.max(1.5, 14 * smallY));
      }
    }, 250);
  }
}
