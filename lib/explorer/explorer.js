// The view of a search tree: an SVG tree, a player, details, a table of the finished paths.
//
// Takes a model with get, set, on, off, save_changes and (where a kernel is there) send, whose
// `tree` is the data of lib/explorer/tree_view.py; draws into an element. Knows nothing of how a tree is
// made. A tree is drawn once; a step only shows what was hidden. Text from a model reaches the
// page as text nodes and attributes only, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const LEAVES = new Set(["goal", "backtrack", "limit"]);
const ANSWER_MS = 6000; // without an answer by then, the kernel is taken for busy or gone
const HELP =
  "Arrow keys move, Enter selects, Space steps, Shift+Space steps back, C collapses, " +
  "+ and − zoom, 0 fits the width, 1 shows the whole tree. Drag to pan, Ctrl+wheel to zoom.";

function make(parent, tag, attributes = {}, text = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  parent?.append(node);
  return node;
}

function draw(parent, tag, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  parent?.append(node);
  return node;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1 && Number.isInteger(value) ? String(value) : value.toFixed(digits);
}

class TreeExplorer {
  constructor(host, model) {
    this.model = model;
    this.live = typeof model.send === "function";
    this.collapsed = new Set();
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.root = make(host, "section", {
      class: "search-tree", "aria-label": "Search tree", "data-lm-suppress-shortcuts": "true",
    });
    this.root.explorer = this; // for tests, and for scripting from the browser's console
    this.message = make(this.root, "p", { class: "st-message", role: "status", "aria-live": "polite" });
    this.buildToolbar();
    this.buildStage();
    this.details = make(this.root, "div", { class: "st-details", "aria-label": "Details of a node", role: "region" });
    this.buildActions();
    this.table = make(this.root, "div", { class: "st-paths" });
    this.listen();
    this.load();
    this.showMessage();
  }

  // ---- parts -----------------------------------------------------------------------------

  button(parent, label, title, action) {
    const button = make(parent, "button", { type: "button", title }, label);
    button.addEventListener("click", action);
    return button;
  }

  buildToolbar() {
    const bar = make(this.root, "div", { class: "st-toolbar", role: "toolbar", "aria-label": "Step through the search" });
    this.button(bar, "|◀ Start", "Jump to the question", () => this.goTo(1));
    this.button(bar, "◀ Back", "One step back", () => this.goTo(this.step - 1));
    this.playButton = this.button(bar, "▶ Play", "Play or pause", () => this.togglePlay());
    this.button(bar, "Step ▶", "One step forward", () => this.goTo(this.step + 1));
    this.button(bar, "End ▶|", "Jump to the end", () => this.goTo(this.count));
    this.slider = make(bar, "input", { type: "range", min: 1, max: 1, value: 1, "aria-label": "Nodes shown" });
    this.slider.addEventListener("input", () => this.goTo(Number(this.slider.value)));
    this.counter = make(bar, "output", { class: "st-counter" });
    const view = make(bar, "span", { class: "st-group" });
    this.button(view, "−", "Zoom out", () => this.zoomBy(0.8)).setAttribute("aria-label", "Zoom out");
    this.button(view, "+", "Zoom in", () => this.zoomBy(1.25)).setAttribute("aria-label", "Zoom in");
    this.button(view, "Fit", "Show the whole tree", () => this.fit(true));
    const rule = make(bar, "label", { class: "st-group" }, "Chosen by ");
    this.rule = make(rule, "select", { "aria-label": "Selection rule of the chosen path" });
    this.rule.addEventListener("change", () => this.markChosen());
    const truth = make(bar, "label", { class: "st-group" });
    this.truth = make(truth, "input", { type: "checkbox" });
    truth.append(" Solver’s truth");
    this.truth.addEventListener("change", () => this.markTruth());
    this.legend = make(this.root, "div", { class: "st-legend" });
    const scale = make(this.legend, "span", {}, "P(<backtrack>): 0 go on ");
    make(scale, "span", { class: "st-scale", "aria-hidden": "true" });
    scale.append(" 1 step back");
    make(this.legend, "span", { class: "st-key-struck" }, "taken back");
    make(this.legend, "span", { class: "st-key-chosen" }, "chosen path");
    this.truthKey = make(this.legend, "span", { class: "st-key-truth", hidden: "" },
      "✓ target reachable, ✕ not; a red ! marks a wrong verdict");
  }

  buildStage() {
    this.stage = make(this.root, "div", { class: "st-stage" });
    this.empty = make(this.stage, "p", { class: "st-empty" }, "No search yet.");
    this.svg = draw(this.stage, "svg", { role: "tree", "aria-label": "Search tree", "aria-description": HELP });
    this.canvas = draw(this.svg, "g");
    make(this.root, "p", { class: "st-help" }, HELP);
  }

  buildActions() {
    this.actions = make(this.root, "form", { class: "st-actions", "aria-label": "What to do at the selected node" });
    this.actionTitle = make(this.actions, "span", { class: "st-selected" });
    this.collapseButton = this.button(this.actions, "Collapse", "Hide or show what is below", () => this.toggleCollapse(this.selected));
    if (this.live) {
      this.expandButton = this.button(this.actions, "Search on from here", "Expand the selected state again", () =>
        this.ask({ type: "expand", node: this.selected }));
      this.ownStep = make(this.actions, "input", { type: "text", placeholder: "45-39=6", size: 12, maxlength: 60, "aria-label": "A step of your own" });
      this.playStep = make(this.actions, "button", { type: "submit", title: "Add this step and ask the model for its verdict" }, "Play this step");
    }
    this.actions.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.live) this.ask({ type: "play", node: this.selected, step: this.ownStep.value });
    });
  }

  listen() {
    this.handlers = [
      ["change:tree", () => this.load()],
      ["change:step", () => this.show(this.model.get("step"))],
      ["change:places", () => this.place(this.model.get("places"))],
      ["change:message", () => this.showMessage()],
      ["change:selected", () => this.select(this.model.get("selected"), false)],
      ["msg:custom", () => this.answered()],
      ["comm_live_update", () => this.kernelChanged()],
    ];
    for (const [name, handler] of this.handlers) this.model.on(name, handler);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      const box = this.svg.getBoundingClientRect();
      this.zoomBy(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.svg.addEventListener("pointerdown", (event) => this.startDrag(event));
    for (const [type, action] of [
      ["click", (id) => this.select(id)], ["dblclick", (id) => this.toggleCollapse(id)],
      ["pointerover", (id) => this.describe(id)], ["focusin", (id) => this.focused(id)],
    ]) {
      this.canvas.addEventListener(type, (event) => {
        const group = event.target.closest("[data-id]");
        if (group && !this.dragged) action(Number(group.dataset.id));
      });
    }
    this.canvas.addEventListener("pointerleave", () => this.describe(this.focus));
    this.resizer = new ResizeObserver(() => { if (this.untouched) this.fit(false); });
    this.resizer.observe(this.stage);
  }

  dispose() {
    this.pause();
    this.resizer.disconnect();
    for (const [name, handler] of this.handlers) this.model.off(name, handler);
  }

  // ---- the tree --------------------------------------------------------------------------

  load() {
    this.pause();
    const tree = this.model.get("tree");
    const kept = this.tree && tree.grown ? this.tree : null;
    this.tree = tree && tree.nodes ? tree : null;
    this.nodes = this.tree ? this.tree.nodes : [];
    this.order = this.tree ? this.tree.order : [];
    this.count = this.order.length;
    if (!kept) this.collapsed.clear();
    this.canvas.replaceChildren();
    const filled = this.tree !== null;
    for (const part of [this.svg, this.details, this.actions, this.table, this.legend]) part.toggleAttribute("hidden", !filled);
    this.empty.toggleAttribute("hidden", filled);
    this.root.classList.toggle("st-filled", filled);
    this.slider.max = Math.max(this.count, 1);
    this.groups = [];
    this.step = 0;
    if (!filled) return this.updatePlayer();
    this.svg.setAttribute("aria-label", `Search tree of ${this.tree.title}, ${this.count} nodes`);
    this.children = this.nodes.map(() => []);
    for (const node of this.nodes) if (node.parent !== null) this.children[node.parent].push(node.id);
    this.rank = [];
    this.order.forEach((id, index) => (this.rank[id] = index));
    const all = document.createDocumentFragment();
    this.groups = this.nodes.map((node) => this.drawNode(all, node));
    this.canvas.append(all);
    this.place(kept && this.collapsed.size ? this.model.get("places") : {});
    this.rule.replaceChildren();
    for (const rule of this.tree.rules) make(this.rule, "option", { value: rule.name }, rule.title);
    this.buildTable();
    this.markTruth();
    clearTimeout(this.saving);
    const { step = this.count, selected = 0 } = this.tree;
    this.model.set("step", step);
    this.model.set("selected", selected);
    this.focus = this.selected = selected;
    this.show(step);
    this.focused(selected);
    this.markChosen();
    this.select(this.selected, false);
    if (!kept) this.fit(false);
  }

  drawNode(parent, node) {
    const leaf = LEAVES.has(node.kind);
    const group = draw(parent, "g", {
      class: `st-node st-${node.kind} st-hidden${node.struck ? " st-struck" : ""}${node.visits ? "" : " st-own"}`,
      role: "treeitem", tabindex: -1, "data-id": node.id, "aria-level": node.depth + 1, "aria-selected": "false",
    });
    if (node.parent !== null) draw(group, "path", { class: "st-edge" });
    const body = draw(group, "g", { class: "st-body" });
    if (node.edge) {
      const width = 7.3 * [...node.edge].length;
      draw(body, "text", { class: "st-step", x: node.edge_x + 2, y: -5 }, node.edge);
      if (node.struck) draw(body, "line", { class: "st-strike", x1: node.edge_x, x2: node.edge_x + 4 + width, y1: -9, y2: -9 });
    }
    const half = this.tree.box_height / 2;
    draw(body, "rect", { class: "st-box", x: node.x, y: -half, width: node.width, height: 2 * half, rx: leaf ? half : 3, fill: node.colour });
    draw(body, "text", { class: "st-label", x: node.x + node.width / 2, y: 4 }, node.label);
    const mark = draw(body, "text", { class: "st-truth", x: node.x + node.width + 4, y: 4 }, node.reachable ? "✓" : "✕");
    if (node.wrong) draw(mark, "tspan", { class: "st-wrong" }, " !");
    group.setAttribute("aria-label", this.words(node));
    return group;
  }

  words(node) {
    const parts = [node.kind === "step" ? `step ${node.text}` : node.kind === "root" ? "question" : node.label];
    if (!LEAVES.has(node.kind)) parts.push(`numbers left ${node.label}`, `P(backtrack) ${number(node.p, 2)}`);
    parts.push(node.visits ? `${node.visits} samples` : "your own step", `level ${node.level}`);
    if (node.struck) parts.push("taken back");
    if (node.kind === "goal") parts.push(node.correct ? "correct" : "not correct");
    return parts.join(", ");
  }

  // `places`: the rows of the visible nodes where some branches are collapsed, else empty.
  place(places) {
    if (!this.tree) return;
    const y = (id) => (places && places[id] !== undefined ? places[id] : this.nodes[id].y);
    this.y = this.nodes.map((node) => y(node.id));
    for (const node of this.nodes) {
      const group = this.groups[node.id];
      group.lastChild.setAttribute("transform", `translate(0 ${this.y[node.id]})`);
      if (node.parent === null) continue;
      const parent = this.nodes[node.parent];
      const start = parent.x + parent.width;
      const middle = (start + node.edge_x) / 2;
      const [from, to] = [this.y[parent.id], this.y[node.id]];
      group.firstChild.setAttribute("d", `M${start} ${from}C${middle} ${from} ${middle} ${to} ${node.edge_x} ${to}H${node.x}`);
    }
    if (this.step) this.reveal(this.focus);
  }

  // ---- stepping --------------------------------------------------------------------------

  visible(id) {
    if (this.rank[id] >= this.step) return false;
    for (let at = this.nodes[id].parent; at !== null; at = this.nodes[at].parent) if (this.collapsed.has(at)) return false;
    return true;
  }

  show(step) {
    if (!this.tree || step === this.step) return;
    const wanted = Math.max(1, Math.min(Math.round(step) || 1, this.count));
    const [low, high] = [Math.min(wanted, this.step), Math.max(wanted, this.step)];
    this.groups[this.order[this.step - 1]]?.classList.remove("st-newest");
    this.step = wanted;
    for (let index = low; index < high; index += 1) this.refresh(this.order[index]);
    const newest = this.order[wanted - 1];
    if (wanted > 1 && wanted < this.count) this.groups[newest].classList.add("st-newest");
    this.root.classList.toggle("st-finished", wanted === this.count);
    this.updatePlayer();
    if (this.visible(newest)) this.reveal(newest);
    if (!this.visible(this.focus)) this.focused(newest);
    this.describe(newest);
  }

  refresh(id) {
    const group = this.groups[id];
    group.classList.toggle("st-hidden", !this.visible(id));
    if (this.children[id].length) group.setAttribute("aria-expanded", String(!this.collapsed.has(id)));
  }

  goTo(step) {
    this.show(Math.max(1, step));
    this.save("step", this.step);
  }

  // Frequent changes reach the kernel as one, so that playing never waits for it.
  save(name, value) {
    this.model.set(name, value);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.model.save_changes(), 150);
  }

  togglePlay() {
    if (this.playing) return this.pause();
    if (this.step >= this.count) this.show(1);
    const wait = Math.max(40, Math.min(500, 20000 / Math.max(this.count, 1)));
    this.playing = setInterval(() => {
      this.goTo(this.step + 1);
      if (this.step >= this.count) this.pause();
    }, wait);
    this.updatePlayer();
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
    if (this.playButton) this.playButton.textContent = "▶ Play";
  }

  updatePlayer() {
    this.playButton.textContent = this.playing ? "❚❚ Pause" : "▶ Play";
    this.slider.value = this.step;
    this.slider.setAttribute("aria-valuetext", `${this.step} of ${this.count} nodes`);
    this.counter.textContent = `${this.step} / ${this.count}`;
    this.root.dataset.step = this.step;
    this.root.dataset.count = this.count;
  }

  // ---- selection, details, collapse -------------------------------------------------------

  focused(id) {
    this.groups[this.focus]?.setAttribute("tabindex", -1);
    this.focus = id;
    this.groups[id].setAttribute("tabindex", 0);
    this.describe(id);
  }

  moveFocus(id) {
    if (id === undefined || id === null || !this.visible(id)) return;
    this.groups[id].focus({ preventScroll: true });
    this.focused(id);
    this.reveal(id);
  }

  select(id, tell = true) {
    if (!this.tree || !this.nodes[id]) return;
    this.groups[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = id;
    const node = this.nodes[id];
    this.groups[id].setAttribute("aria-selected", "true");
    if (tell && this.visible(id)) this.moveFocus(id);
    this.actionTitle.textContent = `Selected: ${node.kind === "root" ? "the question" : node.text || node.label}`;
    const leaf = LEAVES.has(node.kind);
    this.collapseButton.disabled = !this.children[id].length;
    this.collapseButton.textContent = this.collapsed.has(id) ? "Expand" : "Collapse";
    if (this.live) for (const part of [this.expandButton, this.ownStep, this.playStep]) part.disabled = leaf;
    if (tell) this.save("selected", id);
  }

  toggleCollapse(id) {
    if (!this.children[id]?.length) return;
    if (!this.collapsed.delete(id)) this.collapsed.add(id);
    this.groups[id].classList.toggle("st-collapsed", this.collapsed.has(id));
    for (const node of this.nodes) this.refresh(node.id);
    this.select(this.selected, false);
    if (this.live) this.ask({ type: "collapse", nodes: [...this.collapsed] }, true);
  }

  describe(id) {
    const node = this.nodes[id];
    if (!node) return;
    const panel = this.details;
    panel.replaceChildren();
    make(panel, "strong", {}, node.kind === "root" ? "The question" : node.kind === "step" ? `Step ${node.text}` : `Leaf: ${node.label}`);
    const facts = make(panel, "div", { class: "st-facts" });
    const fact = (name, value) => { make(make(facts, "span", {}, `${name}: `), "b", {}, value); };
    fact("Numbers left", LEAVES.has(node.kind) ? this.nodes[node.parent].label : node.label);
    if (!LEAVES.has(node.kind)) fact("P(<backtrack>)", number(node.p));
    fact("Log-probability", number(node.logprob));
    fact("Samples", node.visits || "your own step");
    fact("Level", node.level ? `${node.level} (after a roll-back)` : "0 (the question)");
    if (node.kind === "goal") fact("Strict check", node.correct ? "correct" : node.error || "not correct");
    if (this.truth.checked) {
      fact("Solver", node.reachable ? "target reachable" : "target not reachable");
      if (node.wrong) fact("Model’s verdict", "wrong");
    }
    if (node.tokens.length) {
      const tokens = make(panel, "div", { class: "st-tokens" });
      for (const [text, logprob] of node.tokens) {
        const token = make(tokens, "span");
        make(token, "code", {}, text.replaceAll("\n", "⏎") || " ");
        make(token, "small", {}, number(logprob, 2));
      }
    }
    make(panel, "pre", {}, this.state(node));
  }

  state(node) {
    const lines = [];
    for (let at = node; at.parent !== null; at = this.nodes[at.parent]) lines.unshift(at.text);
    return this.tree.prompt + lines.join("\n");
  }

  markTruth() {
    this.root.classList.toggle("st-show-truth", this.truth.checked);
    this.truthKey.toggleAttribute("hidden", !this.truth.checked);
    if (this.tree && this.step) this.describe(this.focus);
  }

  markChosen() {
    for (const group of this.groups) group.classList.remove("st-chosen");
    const rule = this.tree?.rules.find((each) => each.name === this.rule.value);
    for (let at = rule ? rule.chosen : null; at !== null && at !== undefined; at = this.nodes[at].parent) this.groups[at].classList.add("st-chosen");
  }

  buildTable() {
    this.table.replaceChildren();
    const { paths, rules } = this.tree;
    if (!paths.length) return make(this.table, "p", {}, "No path was finished.");
    make(this.table, "p", {}, `Finished paths: ${paths.length}. ★ marks the path that a rule chooses.`);
    const table = make(make(this.table, "div", { class: "st-scroll" }), "table", { "aria-label": "Finished paths" });
    const head = make(make(table, "thead"), "tr");
    for (const title of ["Path", "Samples", "Strict check", ...rules.map((rule) => rule.title)]) make(head, "th", { scope: "col" }, title);
    const body = make(table, "tbody");
    for (const path of paths) {
      const row = make(body, "tr");
      const go = this.button(make(row, "td"), path.steps.join(", ") || "(no step)", "Show this path in the tree", () => {
        if (this.rank[path.leaf] >= this.step) this.goTo(this.rank[path.leaf] + 1);
        this.select(path.leaf);
      });
      go.className = "st-path";
      make(row, "td", {}, path.visits);
      make(row, "td", {}, path.correct ? "✓ correct" : `✕ ${path.error || ""}`);
      for (const rule of rules) {
        const chosen = rule.chosen === path.leaf;
        const cell = make(row, "td", chosen ? { class: "st-choice" } : {}, `${number(path.scores[rule.name])}${chosen ? " ★" : ""}`);
        if (chosen) cell.setAttribute("aria-label", `${number(path.scores[rule.name])}, chosen`);
      }
    }
    return table;
  }

  // ---- keyboard, pan, zoom -----------------------------------------------------------------

  key(event) {
    const inTree = this.svg.contains(event.target);
    if (!inTree || event.ctrlKey || event.metaKey || event.altKey) return;
    const visible = () => this.nodes.map((node) => node.id).filter((id) => this.visible(id)).sort((a, b) => this.y[a] - this.y[b] || a - b);
    const beside = (offset) => {
      const column = visible().filter((id) => this.nodes[id].depth === this.nodes[this.focus].depth);
      return column[column.indexOf(this.focus) + offset];
    };
    const actions = {
      ArrowLeft: () => this.moveFocus(this.nodes[this.focus].parent),
      ArrowRight: () => {
        if (this.collapsed.has(this.focus)) return this.toggleCollapse(this.focus);
        return this.moveFocus(this.children[this.focus].find((id) => this.visible(id)));
      },
      ArrowUp: () => this.moveFocus(beside(-1)),
      ArrowDown: () => this.moveFocus(beside(1)),
      Home: () => this.moveFocus(0),
      End: () => this.moveFocus(this.order[this.step - 1]),
      Enter: () => this.select(this.focus),
      " ": () => this.goTo(this.step + (event.shiftKey ? -1 : 1)),
      c: () => this.toggleCollapse(this.focus),
      C: () => this.toggleCollapse(this.focus),
      "+": () => this.zoomBy(1.25),
      "-": () => this.zoomBy(0.8),
      0: () => this.fit(false),
      1: () => this.fit(true),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  size() {
    return [this.stage.clientWidth || 600, this.stage.clientHeight || 400];
  }

  // The whole width of the tree at a readable size; `whole`: all of it, however small.
  fit(whole) {
    if (!this.tree) return;
    const [width, height] = this.size();
    const across = width / this.tree.width;
    if (whole) {
      const scale = Math.min(across, height / this.tree.height, 1);
      this.move(scale, (width - this.tree.width * scale) / 2, (height - this.tree.height * scale) / 2);
    } else {
      const scale = Math.min(1, Math.max(Math.min(across, height / this.tree.height), 0.8));
      this.move(scale, 0, height / 2 - this.y[0] * scale);
      if (this.tree.height * scale < height) this.move(scale, 0, (height - this.tree.height * scale) / 2);
      if (this.step > 1) this.reveal(this.order[this.step - 1]);
      this.untouched = true;
    }
  }

  move(scale, x, y) {
    this.zoom = { scale, x, y };
    this.untouched = false;
    this.svg.classList.toggle("st-far", scale < 0.25); // too small to read: not worth drawing
    this.canvas.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  }

  zoomBy(factor, atX = null, atY = null) {
    const [width, height] = this.size();
    const [x, y] = [atX ?? width / 2, atY ?? height / 2];
    const scale = Math.max(0.02, Math.min(4, this.zoom.scale * factor));
    const ratio = scale / this.zoom.scale;
    this.move(scale, x - (x - this.zoom.x) * ratio, y - (y - this.zoom.y) * ratio);
  }

  // Pan as little as needed to bring a node into sight.
  reveal(id) {
    const node = this.nodes[id];
    if (!node) return;
    const [width, height] = this.size();
    const { scale, x, y } = this.zoom;
    const left = node.edge_x * scale + x;
    const right = (node.x + node.width + 24) * scale + x;
    const middle = this.y[id] * scale + y;
    const dx = left < 8 ? 8 - left : right > width - 8 ? Math.max(width - 8 - right, 8 - left) : 0;
    const dy = middle < 30 ? 60 - middle : middle > height - 30 ? height - 60 - middle : 0;
    const untouched = this.untouched;
    if (dx || dy) this.move(scale, x + dx, y + dy);
    this.untouched = untouched;
  }

  startDrag(event) {
    if (event.button !== 0) return;
    const start = { x: event.clientX, y: event.clientY, zoom: this.zoom };
    this.dragged = false;
    const drag = (now) => {
      const [dx, dy] = [now.clientX - start.x, now.clientY - start.y];
      if (!this.dragged && Math.hypot(dx, dy) < 5) return;
      this.dragged = true;
      this.move(start.zoom.scale, start.zoom.x + dx, start.zoom.y + dy);
    };
    const stop = () => {
      window.removeEventListener("pointermove", drag);
      window.removeEventListener("pointerup", stop);
      setTimeout(() => (this.dragged = false));
    };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", stop);
  }

  // ---- the kernel --------------------------------------------------------------------------

  ask(message, quiet = false) {
    clearTimeout(this.waiting);
    if (!quiet) this.showMessage({ kind: "busy", text: "Asking the model …" });
    this.waiting = setTimeout(() => this.showMessage({
      kind: "error", text: "The kernel does not answer: it is busy, or was restarted (then run this cell again).",
    }), ANSWER_MS);
    try {
      this.model.send(message);
    } catch (error) {
      this.kernelChanged();
    }
  }

  answered() {
    clearTimeout(this.waiting);
  }

  kernelChanged() {
    clearTimeout(this.waiting);
    this.showMessage({ kind: "error", text: "The kernel was restarted or has died: run this cell again. The tree can still be stepped through." });
  }

  showMessage(message = this.model.get("message")) {
    const { kind = "info", text = "" } = message || {};
    this.message.textContent = text;
    this.message.dataset.kind = kind;
    this.message.toggleAttribute("hidden", !text);
  }
}

function mountPage(host, tree) {
  const values = { tree, places: {}, message: {} };
  const nothing = () => {};
  return new TreeExplorer(host, {
    get: (name) => values[name], set: (name, value) => (values[name] = value),
    on: nothing, off: nothing, save_changes: nothing,
  });
}

function render({ model, el }) {
  const explorer = new TreeExplorer(el, model);
  return () => explorer.dispose();
}

export { mountPage };
export default { render };
