// The tree itself: an SVG that can be stepped through, walked and folded; drawn once, then shown.
//
// Takes the data of lib/explorer/tree_view.py; tells its host (`select`, `show`, `player`, `fit`) of the reader.

import { draw, make } from "./dom.js";
import { Folds } from "./folds.js";
import { LEAVES, arrowPath, drawNode, drawNote } from "./marks.js";
import { READABLE, Viewport } from "./viewport.js";

const MARGIN = 24; // as lib/explorer/layout.py has it
const TALLEST = { wide: 580, narrow: 760 }; // pixels of the window on the tree
// Pixels: below that, a step stands above its state where the tree would else be too wide to be read.
const ROOMY = 1000;
export const KEYS =
  "Arrow keys walk through the tree. Space: one step on, Shift+Space: one back; Page Down, Page Up: next " +
  "and previous phase. C folds a branch. + and − zoom, 0 fits what is readable, 1 shows the whole tree. " +
  "Drag to move, Ctrl+wheel to zoom.";

export class TreePanel {
  constructor(parent, host) {
    this.host = host;
    this.stage = make(parent, "div", { class: "st-stage" });
    this.view = new Viewport(this.stage, { role: "tree", "aria-description": KEYS }, {
      dots: () => this.dots(), moved: () => this.cull(),
    });
    this.folds = new Folds();
    this.load(null, false);
    this.view.svg.addEventListener("keydown", (event) => this.key(event));
    for (const type of ["click", "dblclick"]) {
      this.view.canvas.addEventListener(type, (event) => {
        const group = event.target.closest("[data-id]");
        if (!group || this.view.dragged) return;
        const id = Number(group.dataset.id);
        const folds = event.target.closest(".st-fold") ? type === "click" : type === "dblclick";
        if (folds) this.toggle(id);
        else if (type === "click") host.select(id);
      });
    }
    // The words of a node, over it: 2,000 of them would only make the page heavy.
    this.view.canvas.addEventListener("pointerover", (event) => {
      const group = event.target.closest("[data-id]");
      if (group && !group.querySelector("title")) draw(group, "title", {}, group.getAttribute("aria-label"));
    });
    this.resizer = new ResizeObserver(() => {
      if (!this.tree || this.stage.clientWidth === this.width) return;
      const { untouched } = this.view;
      this.width = this.stage.clientWidth;
      this.place();
      if (untouched) this.auto();
    });
    this.resizer.observe(this.stage);
  }

  // ---- drawing ---------------------------------------------------------------------------

  load(tree, grown) {
    this.tree = tree;
    this.nodes = tree ? tree.nodes : [];
    this.step = 0;
    this.marked = [];
    this.told = false;
    this.at = [];
    this.view.canvas.replaceChildren();
    this.width = this.stage.clientWidth; // now, while there is little to lay out
    this.folds.load(this.nodes, grown);
    if (!tree) return;
    this.view.svg.setAttribute("aria-label", `Search tree of ${tree.title}, ${tree.nodes.length} nodes`);
    this.rank = [];
    tree.steps.forEach((step, index) => { if (step.node !== null) this.rank[step.node] = index; });
    const all = document.createDocumentFragment();
    this.groups = this.nodes.map((node) =>
      drawNode(all, node, tree.steps[this.rank[node.id]].text, tree, this.narrow));
    const arrows = draw(all, "g", { class: "st-returns", "aria-hidden": "true" });
    this.arrows = tree.returns.map(() => draw(arrows, "path", { class: "st-hidden" }));
    this.here = draw(all, "path", { class: "st-here", d: "M-14 -6L-5 0L-14 6Z", "aria-hidden": "true" });
    this.place();
    this.view.canvas.append(all);
  }

  // The solver's words, drawn when they are first asked for.
  showTruth() {
    if (!this.tree || this.told) return;
    this.told = true;
    for (const node of this.nodes) {
      const parts = this.groups[node.id];
      if (node.mark) draw(parts.body, "text", { class: `st-mark st-${node.verdict}`, x: node.width - 3, y: 4 }, node.mark);
      if (node.note) drawNote(node, parts, this.tree.box, this.narrow);
    }
  }

  // Where every node stands; null for those that are folded away.
  place() {
    if (!this.tree) return;
    const narrow = this.width > 0 && this.width < Math.min(ROOMY, READABLE * this.tree.layouts.wide.width);
    const { row: height, columns, width } = this.tree.layouts[narrow ? "narrow" : "wide"];
    const rows = this.folds.rows();
    const half = this.tree.box / 2;
    const top = MARGIN + half + (narrow ? 8 : 0);
    this.at = this.nodes.map((node) => {
      const [edge, box] = columns[node.depth];
      const row = rows.get(node.id);
      return row === undefined ? null : { edge, x: LEAVES.has(node.kind) ? edge : box, y: top + row * height };
    });
    const relaid = narrow !== this.narrow;
    this.narrow = narrow;
    for (const node of this.nodes) this.placeNode(node, half, relaid || !this.step);
    this.tree.returns.forEach((arrow, index) => this.placeArrow(arrow, this.arrows[index], half));
    const down = Math.max(...rows.values()) * height + top + half + MARGIN;
    this.view.extent = { width: this.folds.kept ? Math.max(...this.nodes.map((node) => this.right(node))) + MARGIN : width, height: down };
    const scale = Math.min(1, Math.max(READABLE, this.width / this.view.extent.width));
    this.view.resize(this.width, Math.max(150, Math.min(TALLEST[narrow ? "narrow" : "wide"], Math.ceil(down * scale))));
    for (const node of this.nodes) this.refresh(node.id);
    if (this.step) this.show(this.step);
  }

  placeNode(node, half, inside) {
    const at = this.at[node.id];
    const parts = this.groups[node.id];
    const put = (part, values) => { if (part) for (const [name, value] of Object.entries(values)) part.setAttribute(name, value); };
    if (inside) {
      const [edge, box] = this.tree.layouts[this.narrow ? "narrow" : "wide"].columns[node.depth];
      const [x, y] = this.narrow ? [1, -half - 4] : [edge - box + 2, -5];
      put(parts.text, { x, y });
      put(parts.strike, { x1: x - 2, x2: x + 2 + 7.3 * [...node.edge].length, y1: y - 4, y2: y - 4 });
      if (parts.note) drawNote(node, parts, this.tree.box, this.narrow);
    }
    if (!at) return;
    put(parts.body, { transform: `translate(${at.x} ${at.y})` });
    if (node.parent === null) return;
    const from = this.at[node.parent];
    const start = from.x + this.nodes[node.parent].width;
    const middle = (start + at.edge) / 2;
    put(parts.edge, { d: `M${start} ${from.y}C${middle} ${from.y} ${middle} ${at.y} ${at.edge} ${at.y}H${at.x}` });
  }

  // From a `<backtrack>`, back over its step, to the state that is expanded again.
  placeArrow(arrow, path, half) {
    const [from, to] = [this.at[arrow.from], this.at[arrow.to]];
    if (from && to) path.setAttribute("d", arrowPath(from, to, this.nodes[arrow.to].width, half));
  }

  // What lies far outside the window is not drawn: a browser takes its time for 2,000 nodes.
  cull() {
    const [low, high] = this.view.rows();
    for (const node of this.nodes) {
      const [at, from] = [this.at[node.id], this.at[node.parent ?? node.id]];
      if (!at) continue;
      const parts = this.groups[node.id];
      const far = Math.max(at.y, from.y) < low || Math.min(at.y, from.y) > high;
      const out = far && node.id !== this.selection; // which has the keyboard's focus
      if (out !== parts.out) parts.group.classList.toggle("st-out", out);
      parts.out = out;
    }
  }

  right(node) {
    const at = this.at[node.id];
    return at ? at.x + node.width + (node.note && !this.narrow ? node.note_width : 0) : 0;
  }

  dots() {
    return this.nodes.filter((node) => this.visible(node.id)).map((node) => {
      const chosen = this.ended && this.groups[node.id].group.classList.contains("st-chosen");
      return { ...this.at[node.id], width: node.width, colour: chosen ? "#000000" : node.kind === "goal" ? "#999999" : node.colour };
    });
  }

  // ---- stepping and selecting --------------------------------------------------------------

  visible(id) {
    return this.rank[id] < this.step && this.at[id] !== null;
  }

  // The node itself or, where it is not shown, the nearest before it that is.
  shown(id) {
    let at = id;
    while (at !== null && !this.visible(at)) at = this.nodes[at].parent;
    return at ?? 0;
  }

  // The node that a step is about; at the choice, the leaf that was chosen.
  nodeOf(step) {
    const { node, phase } = this.tree.steps[step - 1];
    return node ?? (this.tree.phases[phase].kind === "select" ? this.folds.chosen : null);
  }

  show(step) {
    const [low, high] = [Math.min(step, this.step), Math.max(step, this.step)];
    this.step = step;
    for (let index = low; index < high; index += 1) {
      const { node } = this.tree.steps[index];
      if (node !== null) this.refresh(node);
    }
    const { states, phase } = this.tree.steps[step - 1];
    this.ended = step === this.tree.steps.length;
    for (const id of this.marked) this.groups[id].group.classList.remove("st-marked");
    for (const id of states) this.groups[id].group.classList.add("st-marked");
    this.marked = states;
    this.tree.returns.forEach((arrow, index) => {
      const now = states.length > 0 && arrow.phase === phase;
      const past = arrow.main && this.tree.phases[arrow.phase].first < step;
      const there = this.at[arrow.from] && this.at[arrow.to];
      const wanted = there && (now || past) ? `st-return${now ? " st-now" : ""}` : "st-hidden";
      if (this.arrows[index].getAttribute("class") !== wanted) this.arrows[index].setAttribute("class", wanted);
    });
    this.refreshFolds();
    const node = this.nodeOf(step);
    const at = node === null ? null : this.at[this.shown(node)];
    this.here.classList.toggle("st-hidden", at === null);
    if (at) this.here.setAttribute("transform", `translate(${at.x} ${at.y})`);
    for (const id of node === null ? states : [node]) this.reveal(this.shown(id));
    this.view.paintMap();
  }

  refresh(id) {
    const { group } = this.groups[id];
    group.classList.toggle("st-hidden", !this.visible(id));
    if (this.folds.children[id].length) group.setAttribute("aria-expanded", String(this.folds.isOpen(id)));
  }

  select(id, focus) {
    const before = this.groups[this.selection]?.group;
    before?.setAttribute("aria-selected", "false");
    before?.setAttribute("tabindex", -1);
    this.selection = id;
    const { group } = this.groups[id];
    group.setAttribute("aria-selected", "true");
    group.setAttribute("tabindex", 0);
    if (!focus) return;
    this.reveal(id);
    group.focus({ preventScroll: true });
  }

  reveal(id) {
    const at = this.at[id];
    if (at) this.view.reveal({ left: at.edge, right: this.right(this.nodes[id]) + 12, y: at.y });
  }

  // The path to `leaf` is the chosen one.
  mark(leaf) {
    for (const { group } of this.groups) group.classList.remove("st-chosen");
    for (let at = leaf; at !== null && at !== undefined; at = this.nodes[at].parent) this.groups[at].group.classList.add("st-chosen");
    this.folds.keep(leaf);
    if (this.folds.mode !== "all") this.place();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const id = this.selection;
    const go = (to) => { if (to !== undefined && to !== null && this.visible(to)) this.host.select(to); };
    const beside = (offset) => {
      const column = this.nodes.filter((node) => this.visible(node.id) && node.depth === this.nodes[id].depth)
        .map((node) => node.id).sort((a, b) => this.at[a].y - this.at[b].y);
      go(column[column.indexOf(id) + offset]);
    };
    const actions = {
      ArrowLeft: () => go(this.nodes[id].parent),
      ArrowRight: () => (this.folds.open(id).length ? go(this.folds.open(id).find((child) => this.visible(child))) : this.toggle(id)),
      ArrowUp: () => beside(-1), ArrowDown: () => beside(1),
      Home: () => go(0), End: () => go(this.nodeOf(this.step)),
      Enter: () => go(id), c: () => this.toggle(id), C: () => this.toggle(id),
      " ": () => this.host.show(this.step + (event.shiftKey ? -1 : 1)),
      PageDown: () => this.host.player.phaseBy(1), PageUp: () => this.host.player.phaseBy(-1),
      "+": () => this.view.zoomBy(1.25), "-": () => this.view.zoomBy(0.8),
      0: () => this.host.fit(), 1: () => this.view.show(this.view.fitting(), 0),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  // ---- folding and fitting -----------------------------------------------------------------

  setMode(mode) {
    this.folds.set(mode);
    this.place();
  }

  toggle(id) {
    this.folds.toggle(id);
    this.place();
    this.host.select(this.shown(this.selection), false);
  }

  // “+12 more” under a box: so many of the nodes found so far are folded away below it.
  refreshFolds() {
    const folded = this.folds.any();
    if (!folded && !this.folded) return;
    this.folded = folded;
    const hidden = this.folds.counts((id) => this.rank[id] < this.step);
    this.groups.forEach((parts, id) => {
      const here = this.at[id] !== null && hidden[id] > 0;
      if (here) parts.fold ??= draw(parts.body, "text", { class: "st-fold", x: this.nodes[id].width / 2, y: this.tree.box / 2 + 9 });
      parts.fold?.classList.toggle("st-hidden", !here);
      if (here) parts.fold.textContent = `+${hidden[id]} more`;
    });
  }

  // As it opens: everything, if that can be read; else a readable part with the step in sight.
  auto() {
    this.view.show(Math.max(this.view.fitting(), READABLE), this.at[0].y);
    const node = this.step > 1 ? this.nodeOf(this.step) : null;
    if (node !== null) this.reveal(this.shown(node));
    this.view.untouched = true;
  }

  // As much as can be read at once: all, else the finished paths, else the chosen one.
  fit() {
    for (const mode of ["all", "finished", "chosen"]) {
      this.setMode(mode);
      if (this.view.fitting() >= READABLE) break;
    }
    this.auto();
    return this.folds.mode;
  }
}
