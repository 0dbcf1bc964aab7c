// The explorer: the parts of the view, and what passes between them and a kernel.
//
// Takes a model with get, on, off and (where a kernel is there) send, whose `tree` is the data of
// lib/explorer/tree_view.py; draws into an element. In a page without a kernel the form and what asks
// the model are left out. Which step is shown is the page's own matter: the kernel never waits for it.

import { button, choice, make, onSubmit } from "./dom.js";
import { Form, Player, showComparison, showDetails, showGuide, showPaths } from "./panels.js";
import { KEYS, TreePanel } from "./tree.js";

const ANSWER_MS = 6000; // without an answer by then, the kernel is taken for busy or gone
const MODES = [["all", "everything"], ["finished", "finished paths"], ["chosen", "chosen path"]];

class Explorer {
  constructor(element, model) {
    this.model = model;
    this.live = typeof model.send === "function";
    this.root = make(element, "section", { class: "search-tree", "aria-label": "Search tree", "data-lm-suppress-shortcuts": "true" });
    this.root.explorer = this; // for tests, and for scripting from the browser's console
    if (this.live) this.form = new Form(this.root, this);
    this.message = make(this.root, "p", { class: "st-message", role: "status", "aria-live": "polite" });
    this.guide = make(this.root, "details", { class: "st-guide" });
    this.stale = make(this.root, "p", { class: "st-stale", role: "status", hidden: "" });
    this.body = make(this.root, "div", { class: "st-body" });
    this.buildBody();
    this.listen();
    this.fields();
    this.load();
    this.showMessage();
  }

  buildBody() {
    const heading = make(this.body, "p", { class: "st-problem" });
    this.title = make(heading, "strong", { role: "heading", "aria-level": 2 });
    this.made = make(heading, "span");
    this.warning = make(this.body, "p", { class: "st-warning" });
    this.comparison = make(this.body, "table", { class: "st-compare", "aria-label": "Greedy decoding beside search" });
    this.player = new Player(this.body, this);
    this.story = make(this.body, "p", { class: "st-story", "aria-live": "polite" });
    this.buildLegend();
    this.tree = new TreePanel(this.body, this);
    this.buildActions();
    this.details = make(this.body, "div", { class: "st-details", role: "region", "aria-label": "The selected node", tabindex: 0 });
    this.paths = make(this.body, "div", { class: "st-paths" });
    make(this.body, "p", { class: "st-quiet" }, KEYS);
  }

  buildLegend() {
    const bar = make(this.body, "div", { class: "st-bar", role: "toolbar", "aria-label": "What the tree shows" });
    this.rule = choice(bar, "Chosen by", "The selection rule whose choice is drawn thick", [], () => this.choose());
    this.mode = choice(bar, "Show", "Fold away what is not on the way", MODES, (mode) => this.showMode(mode));
    const view = make(bar, "span", { class: "st-group" });
    button(view, "−", "Zoom out", () => this.tree.view.zoomBy(0.8)).setAttribute("aria-label", "Zoom out");
    button(view, "+", "Zoom in", () => this.tree.view.zoomBy(1.25)).setAttribute("aria-label", "Zoom in");
    button(view, "Fit", "As much as can be read at once", () => this.fit());
    const truth = make(bar, "label", { class: "st-group", title: "What an exact solver says of every state" });
    this.truth = make(truth, "input", { type: "checkbox" });
    truth.append(" Solver’s truth");
    this.truth.addEventListener("change", () => this.showTruth());
    if (this.live) button(bar, "Save page", "Save this tree as one HTML file, which needs no server", () => this.ask({ type: "page" }));
    const legend = make(this.body, "p", { class: "st-legend" });
    const scale = make(legend, "span", {}, "P(<backtrack>): 0 go on ");
    make(scale, "span", { class: "st-scale", "aria-hidden": "true" });
    scale.append(" 1 step back");
    make(legend, "span", { class: "st-key-struck" }, "given up by every sample");
    make(legend, "span", { class: "st-key-again" }, "found after a roll-back, or added later");
    make(legend, "span", { class: "st-key-chosen" }, "chosen path");
    this.truthKey = make(legend, "span", { class: "st-key-truth", hidden: "" });
  }

  buildActions() {
    this.actions = make(this.body, "form", { class: "st-bar st-actions", "aria-label": "What to do at the selected node" });
    this.selectedName = make(this.actions, "strong", { class: "st-selected" });
    this.foldButton = button(this.actions, "Fold", "Hide or show what is below", () => this.tree.toggle(this.selection));
    if (!this.live) return;
    this.expand = button(this.actions, "Search on from here", "Sample this state again, with this tree's own settings",
      () => this.ask({ type: "expand", node: this.selection }));
    this.ownStep = make(this.actions, "input", { type: "text", size: 14, maxlength: 60, "aria-label": "A step of your own", title: "A step of your own; Enter adds it" });
    this.playStep = make(this.actions, "button", { type: "submit", title: "Add this step, and ask the model for its verdict" }, "Play this step");
    onSubmit(this.actions, () => {
      if (!this.playStep.disabled) this.ask({ type: "play", node: this.selection, step: this.ownStep.value });
    });
  }

  listen() {
    this.handlers = [
      ["change:fields", () => this.fields()],
      ["change:values", () => this.fill()],
      ["change:busy", () => this.form?.busy(this.model.get("busy"))],
      ["change:tree", () => this.load()],
      ["change:message", () => this.showMessage()],
      ["msg:custom", (message) => this.answered(message)],
      ["comm_live_update", () => this.kernelChanged()],
    ];
    for (const [name, handler] of this.handlers) this.model.on(name, handler);
  }

  dispose() {
    this.player.pause();
    this.tree.resizer.disconnect();
    for (const [name, handler] of this.handlers) this.model.off(name, handler);
  }

  // ---- the problem and its tree -----------------------------------------------------------

  fields() {
    if (this.live) this.form.build(this.model.get("fields") || []);
    this.fill();
    this.form?.busy(this.model.get("busy"));
    showGuide(this.guide, this.model.get("guide") || []);
  }

  fill() {
    this.form?.fill(this.model.get("values") || {});
    this.compare();
  }

  load() {
    this.player.pause();
    const tree = this.model.get("tree");
    this.data = tree && tree.nodes ? tree : null;
    this.body.toggleAttribute("hidden", !this.data);
    this.tree.load(this.data, this.data?.grown);
    this.compare();
    if (!this.data) return;
    this.title.textContent = tree.title;
    this.made.textContent = tree.made;
    this.warning.textContent = tree.warning;
    this.warning.toggleAttribute("hidden", !tree.warning);
    this.truthKey.textContent = tree.tips.truth;
    if (this.live) this.ownStep.placeholder = tree.step_example;
    this.player.load(tree);
    const chosen = this.rule.value;
    this.rule.replaceChildren();
    for (const rule of tree.rules) make(this.rule, "option", { value: rule.name }, rule.title);
    if (tree.grown && tree.rules.some((rule) => rule.name === chosen)) this.rule.value = chosen;
    this.mode.value = this.tree.folds.mode;
    showPaths(this.paths, tree, (leaf) => {
      const rank = tree.steps.findIndex((step) => step.node === leaf) + 1;
      if (rank > this.step) this.show(rank);
      this.select(leaf);
    });
    this.step = 0;
    this.selection = 0;
    this.choose();
    this.show(tree.step);
    this.select(tree.selected ?? this.selection, false);
    this.tree.auto();
    this.showTruth();
  }

  choose() {
    const rule = this.data.rules.find((each) => each.name === this.rule.value);
    this.tree.mark(rule ? rule.chosen : null);
    const lines = [...this.data.comparison, ...(rule ? [rule.line] : [])];
    showComparison(this.comparison, lines);
    // Where there is no room for every rule's scores, those of this rule stay.
    for (const cell of this.paths.querySelectorAll("[data-rule]")) cell.classList.toggle("st-other", cell.dataset.rule !== rule?.name);
    if (this.step) this.show(this.step, true);
  }

  // ---- stepping and selecting --------------------------------------------------------------

  show(step, again = false) {
    if (!this.data || (step === this.step && !again)) return;
    this.step = Math.max(1, Math.min(Math.round(step) || 1, this.data.steps.length));
    const { node, phase, text, states } = this.data.steps[this.step - 1];
    this.tree.show(this.step);
    this.player.show(this.step);
    this.root.dataset.step = this.step;
    this.root.dataset.count = this.data.steps.length;
    const last = this.step === this.data.steps.length;
    this.root.classList.toggle("st-ended", last);
    const rule = this.data.rules.find((each) => each.name === this.rule.value);
    this.story.replaceChildren();
    make(this.story, "b", { "data-kind": this.data.phases[phase].kind }, this.data.phases[phase].title);
    this.story.append(` ${last && rule ? rule.text : text}`);
    const about = node ?? states[0] ?? this.tree.nodeOf(this.step) ?? 0;
    // Where the reader walks in the tree, the step's node is read out by taking the focus.
    const inside = this.tree.view.svg.contains(document.activeElement);
    this.story.setAttribute("aria-live", inside ? "off" : "polite");
    this.select(this.tree.shown(about), inside);
  }

  select(id, focus = true) {
    if (!this.data || !this.data.nodes[id]) return;
    const node = this.data.nodes[id];
    this.selection = id;
    this.tree.select(id, focus);
    this.selectedName.textContent = `Selected: ${node.name}`;
    this.foldButton.disabled = !this.tree.folds.children[id].length;
    this.foldButton.textContent = this.tree.folds.isOpen(id) ? "Fold" : "Unfold";
    showDetails(this.details, this.data, node, this.truth.checked);
    this.enable();
  }

  showTruth() {
    this.root.classList.toggle("st-show-truth", this.truth.checked);
    if (this.truth.checked) this.tree.showTruth();
    this.truthKey.toggleAttribute("hidden", !this.truth.checked);
    this.select(this.selection, false);
  }

  showMode(mode) {
    this.tree.setMode(mode);
    this.tree.auto();
    this.select(this.tree.shown(this.selection), false);
  }

  fit() {
    this.mode.value = this.tree.fit();
  }

  // ---- one state, never a mixture ------------------------------------------------------------

  // Whether the fields still say what the tree was made of.
  compare() {
    const now = this.form?.values();
    const made = this.data?.values;
    this.differs = Boolean(now && made) && Object.keys(made).some((name) => name in now && now[name] !== made[name]);
    this.root.classList.toggle("st-differs", this.differs);
    this.stale.toggleAttribute("hidden", !this.differs);
    if (this.differs) this.stale.textContent = `The fields have changed. What follows is still ${this.data.title} (${this.data.made}): press Run, or Enter, to search what the fields say.`;
    this.enable();
  }

  enable() {
    if (!this.live || !this.data) return;
    const ended = !["root", "step"].includes(this.data.nodes[this.selection]?.kind);
    for (const part of [this.expand, this.ownStep, this.playStep]) part.disabled = ended || this.differs;
  }

  // ---- the kernel --------------------------------------------------------------------------

  ask(message) {
    clearTimeout(this.waiting);
    const doing = { page: "Writing the page …", stop: "Stopping …", run: "Starting …", random: "Starting …" };
    this.showMessage({ kind: "busy", text: doing[message.type] || "Asking the model …" });
    this.waiting = setTimeout(() => this.showMessage({
      kind: "error", text: "The kernel does not answer: it is busy, or was restarted (then run this cell again).",
    }), ANSWER_MS);
    try {
      this.model.send(message);
    } catch (error) {
      this.kernelChanged();
    }
  }

  answered(message) {
    clearTimeout(this.waiting);
    if (message?.type !== "page") return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([message.text], { type: "text/html" }));
    link.download = message.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
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

export function mountPage(host, { tree, guide }) {
  const values = { tree, guide, message: {} };
  const nothing = () => {};
  return new Explorer(host, { get: (name) => values[name], on: nothing, off: nothing });
}

export default {
  render({ model, el }) {
    const explorer = new Explorer(el, model);
    return () => explorer.dispose();
  },
};
