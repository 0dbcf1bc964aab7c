// What stands around the tree: the form, the player, the words for a step, a node's details, tables.
//
// Each class fills an element from plain data and tells its host what the reader does. Knows nothing
// of how the tree is drawn.

import { button, choice, make, makeSteps, number, onSubmit } from "./dom.js";

// The problem and the search to make; `values()` is what stands in the fields now.
export class Form {
  constructor(parent, host) {
    this.host = host;
    this.form = make(parent, "form", { class: "st-form", "aria-label": "The problem and the search", novalidate: "" });
    this.fields = make(this.form, "div", { class: "st-fields" });
    const bar = make(this.form, "div", { class: "st-bar" });
    this.run = make(bar, "button", { type: "submit", class: "st-primary", title: "Search this problem (Enter in any field does so too)" }, "Run");
    this.stop = button(bar, "Stop", "Stop what is running; the tree stays as it is", () => host.ask({ type: "stop" }));
    this.random = button(bar, "A problem that greedy fails", "Draw random problems until greedy decoding fails one, then search that",
      () => host.ask({ type: "random", values: this.values() }));
    onSubmit(this.form, () => host.ask({ type: "run", values: this.values() }));
    this.form.addEventListener("input", () => host.compare());
    this.inputs = {};
  }

  build(fields) {
    this.fields.replaceChildren();
    this.inputs = {};
    for (const field of fields) {
      const label = make(this.fields, "label", { title: field.tip }, field.label);
      const shape = { "aria-label": field.label, title: field.tip, autocomplete: "off", spellcheck: "false", style: `width: ${field.width}` };
      let input;
      if (field.options) {
        input = make(label, "select", shape);
        for (const option of field.options) make(input, "option", { value: option }, option);
      } else if (field.lines > 1) {
        input = make(label, "textarea", { ...shape, rows: field.lines });
      } else input = make(label, "input", { ...shape, type: "text", inputmode: field.inputmode || "text" });
      this.inputs[field.name] = input;
    }
  }

  values() {
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
  }

  fill(values) {
    for (const [name, value] of Object.entries(values)) if (this.inputs[name]) this.inputs[name].value = value;
  }

  busy(busy) {
    this.stop.disabled = !busy;
    this.form.setAttribute("aria-busy", String(busy));
  }
}

// Steps and phases: buttons, a slider whose track shows the phases, and the speed.
export class Player {
  constructor(parent, host) {
    this.host = host;
    this.bar = make(parent, "div", { class: "st-bar st-player", role: "toolbar", "aria-label": "Step through the search" });
    button(this.bar, "|◀ Start", "Jump to the question", () => host.show(1));
    button(this.bar, "◀ Back", "One step back", () => host.show(this.step - 1));
    this.play = button(this.bar, "▶ Play", "Play or pause", () => this.toggle());
    button(this.bar, "Step ▶", "One step forward", () => host.show(this.step + 1));
    button(this.bar, "End ▶|", "Jump to the choice of a path", () => host.show(this.steps.length));
    const speeds = [0.5, 1, 2, 4, 16].map((speed) => [speed, `${speed}×`]);
    this.speed = choice(this.bar, "Speed", "How fast Play steps", speeds, () => { if (this.playing) this.start(); });
    this.speed.value = "1";
    this.counter = make(this.bar, "output", { class: "st-counter" });
    const track = make(parent, "div", { class: "st-track" });
    this.names = make(track, "div", { class: "st-phases", role: "group", "aria-label": "Phases of the search" });
    this.slider = make(track, "input", { type: "range", min: 1, value: 1, "aria-label": "Step of the search" });
    this.slider.addEventListener("input", () => host.show(Number(this.slider.value)));
  }

  load({ steps, phases }) {
    this.steps = steps;
    this.phases = phases;
    this.slider.max = steps.length;
    this.names.replaceChildren();
    this.buttons = phases.map((phase) => {
      const title = `${phase.title}: ${phase.count} step${phase.count === 1 ? "" : "s"}`;
      const made = button(this.names, phase.title, title, () => this.host.show(phase.first + 1));
      made.dataset.kind = phase.kind;
      made.style.flexGrow = phase.count;
      return made;
    });
    // The track in the phases' colours; its ends are half a thumb inside the element.
    const place = (index) => `calc(8px + (100% - 16px) * ${steps.length > 1 ? index / (steps.length - 1) : 0})`;
    const parts = phases.map((phase) => {
      const colour = `var(--st-${phase.kind})`;
      return `${colour} ${place(phase.first - 0.5)}, ${colour} ${place(phase.first + phase.count - 0.5)}`;
    });
    this.slider.style.setProperty("--track", `linear-gradient(90deg, ${parts.join(", ")})`);
  }

  show(step) {
    this.step = step;
    const { phase } = this.steps[step - 1];
    this.slider.value = step;
    this.slider.setAttribute("aria-valuetext", `step ${step} of ${this.steps.length}, ${this.phases[phase].title}`);
    this.counter.textContent = `${step} / ${this.steps.length}`;
    this.buttons.forEach((each, index) => {
      if (index === phase) each.setAttribute("aria-current", "step");
      else each.removeAttribute("aria-current");
    });
  }

  phaseBy(offset) {
    const { phase } = this.steps[this.step - 1];
    const inside = offset < 0 && this.step > this.phases[phase].first + 1;
    const wanted = this.phases[inside ? phase : phase + offset];
    if (wanted) this.host.show(wanted.first + 1);
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.step >= this.steps.length) this.host.show(1);
    return this.start();
  }

  start() {
    clearInterval(this.playing);
    const wait = Math.max(60, Math.min(1200, 90000 / this.steps.length)) / Number(this.speed.value);
    this.playing = setInterval(() => {
      this.host.show(this.step + 1);
      if (this.step >= this.steps.length) this.pause();
    }, Math.max(30, wait));
    this.play.textContent = "❚❚ Pause";
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
    this.play.textContent = "▶ Play";
  }
}

// What is known of one node: its words, its facts, its tokens, and how its path's score adds up.
export function showDetails(panel, tree, node, truth) {
  panel.replaceChildren();
  const left = make(panel, "div", { class: "st-node-facts" });
  make(left, "strong", {}, node.name);
  make(left, "p", {}, tree.steps.find((step) => step.node === node.id).text);
  if (truth && node.truth) make(left, "p", { class: `st-truth-words st-${node.verdict}` }, `Solver: ${node.truth}.`);
  const facts = make(left, "dl", { class: "st-facts" });
  for (const [name, value, tip] of node.facts) {
    const pair = make(facts, "div", tip ? { title: tip } : {});
    make(pair, "dt", {}, name);
    make(pair, "dd", {}, value);
  }
  if (node.tokens.length) {
    make(left, "p", { class: "st-quiet" }, "Its tokens, each with its log-probability:");
    const tokens = make(left, "div", { class: "st-tokens" });
    for (const [text, logprob] of node.tokens) {
      const token = make(tokens, "span");
      make(token, "code", {}, text.replaceAll("\n", "⏎") || " ");
      make(token, "small", {}, number(logprob, 2));
    }
  }
  showSum(make(panel, "div", { class: "st-sum" }), tree, node);
}

// The path to a node, step by step: from a step's log-probability to the path's.
function showSum(parent, tree, node) {
  const path = [];
  for (let at = node; at.parent !== null; at = tree.nodes[at.parent]) path.unshift(at);
  if (!path.length) return make(parent, "pre", {}, tree.prompt);
  const table = make(parent, "table", { "aria-label": "The log-probability of this path, step by step" });
  const head = make(make(table, "thead"), "tr");
  for (const title of ["The path so far", "Log-probability", "Tokens"]) make(head, "th", { scope: "col" }, title);
  const body = make(table, "tbody");
  let [sum, count] = [0, 0];
  for (const step of path) {
    const row = make(body, "tr", step === node ? { class: "st-this" } : {});
    make(row, "td", {}, step.text || step.name);
    make(row, "td", {}, number(step.logprob));
    make(row, "td", {}, step.tokens.length);
    sum += step.logprob ?? 0;
    count += step.tokens.length;
  }
  const total = make(make(table, "tfoot"), "tr");
  make(total, "th", { scope: "row" }, "Sum");
  make(total, "td", {}, number(sum));
  make(total, "td", {}, count);
  const ended = node.kind === "goal" ? " This is the score in the table of finished paths." : "";
  return make(parent, "p", {}, `Mean log-probability: ${number(sum)} / ${count} tokens = ${number(sum / Math.max(count, 1))}.${ended}`);
}

// The finished paths with every rule's score; a path's button shows it in the tree.
export function showPaths(panel, tree, go) {
  panel.replaceChildren();
  const { paths, rules } = tree;
  if (!paths.length) return make(panel, "p", {}, "No path was finished.");
  make(panel, "p", { class: "st-quiet" }, `Finished paths: ${paths.length}. ★ marks the path that a rule chooses. ${tree.samples_note}`);
  const table = make(make(panel, "div", { class: "st-scroll" }), "table", { "aria-label": "Finished paths" });
  const head = make(make(table, "thead"), "tr");
  const titles = [["Path", ""], ["Samples", tree.tips.samples], ["Found", tree.tips.found], ["Right?", tree.tips.check]];
  for (const [title, tip] of titles) make(head, "th", { scope: "col", title: tip }, title);
  for (const { name, title, tip } of rules) make(head, "th", { scope: "col", title: tip, "data-rule": name }, title);
  const body = make(table, "tbody");
  for (const path of paths) {
    const row = make(body, "tr");
    const show = button(make(row, "td"), "", "Show this path in the tree", () => go(path.leaf));
    show.className = "st-path";
    makeSteps(show, path.steps, "(no step)");
    make(row, "td", {}, path.samples);
    make(row, "td", {}, path.found);
    make(row, "td", { class: path.correct ? "st-right" : "st-wrong" }, path.note);
    for (const rule of rules) {
      const chosen = rule.chosen === path.leaf;
      const score = number(path.scores[rule.name]);
      const marked = chosen ? { class: "st-choice", "aria-label": `${score}, chosen` } : {};
      make(row, "td", { "data-rule": rule.name, ...marked }, `${score}${chosen ? " ★" : ""}`);
    }
  }
  return table;
}

// Greedy decoding's one line beside what the search chose.
export function showComparison(panel, lines) {
  panel.replaceChildren();
  for (const line of lines) {
    const row = make(panel, "tr");
    make(row, "th", { scope: "row", title: line.tip }, line.name);
    makeSteps(make(row, "td", { class: "st-code" }), line.steps, "–");
    make(row, "td", { class: line.correct ? "st-right" : "st-wrong" }, line.note);
  }
}

export function showGuide(panel, guide) {
  panel.replaceChildren();
  make(panel, "summary", {}, "How to read this");
  const list = make(panel, "dl");
  for (const [term, text] of guide) {
    make(list, "dt", {}, term);
    make(list, "dd", {}, text);
  }
}
