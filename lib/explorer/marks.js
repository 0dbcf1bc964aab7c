// What a node is drawn of: its box, its step, its label, the words beside it; and a roll-back's line.
//
// Takes a node of lib/explorer/tree_view.py; gives its elements, which lib/explorer/tree.js places.

import { draw } from "./dom.js";

export const LEAVES = new Set(["goal", "backtrack", "limit"]);

const SIDE = 14; // pixels of a cell, and of a line of text, as lib/explorer/layout.py has them

export function drawNode(parent, node, words, { box: height, grid }, narrow) {
  const half = height / 2;
  const marks = ["struck", "again", "own"].filter((name) => node[name]).map((name) => ` st-${name}`);
  const group = draw(parent, "g", {
    class: `st-node st-${node.kind} st-hidden${marks.join("")}`, role: "treeitem", tabindex: -1, "data-id": node.id,
    "aria-level": node.depth + 1, "aria-selected": "false", "aria-label": words,
  });
  const parts = { group };
  parts.edge = node.parent === null ? null : draw(group, "path", { class: "st-edge" });
  parts.body = draw(group, "g", { class: "st-body" });
  if (node.edge) {
    parts.text = draw(parts.body, "text", { class: "st-step" }, node.edge);
    if (node.struck) parts.strike = draw(parts.body, "line", { class: "st-strike" });
  }
  const round = LEAVES.has(node.kind) ? Math.min(half, 11) : 3;
  draw(parts.body, "rect", { class: "st-box", y: -half, width: node.width, height: 2 * half, rx: round, fill: node.colour });
  if (node.written !== undefined) drawGrid(parts.body, node, grid);
  else {
    node.label.forEach((line, index) => {
      const y = 4 + SIDE * index - (SIDE / 2) * (node.label.length - 1);
      draw(parts.body, "text", { class: "st-label", x: node.width / 2, y }, line);
    });
  }
  if (node.kind === "goal") drawNote(node, parts, height, narrow);
  return parts;
}

// A state's lines as the rows of a grid: what was given is bold, the cell just written has a frame.
function drawGrid(body, node, { box, empty, given }) {
  const sides = [node.label.length, [...node.label[0]].length];
  const [top, left] = [(-SIDE * sides[0]) / 2, (node.width - SIDE * sides[1]) / 2];
  const [down, right] = [top + SIDE * sides[0], left + SIDE * sides[1]];
  const lines = { thin: "", thick: "" };
  sides.forEach((count, axis) => {
    for (let at = 0; at <= count; at += 1) {
      const line = axis ? `M${left + SIDE * at} ${top}V${down}` : `M${left} ${top + SIDE * at}H${right}`;
      lines[at % box[axis] ? "thin" : "thick"] += line;
    }
  });
  for (const [name, d] of Object.entries(lines)) draw(body, "path", { class: `st-lines st-${name}`, d });
  if (node.written) {
    const [row, column] = node.written;
    draw(body, "rect", { class: "st-written", x: left + SIDE * column, y: top + SIDE * row, width: SIDE, height: SIDE });
  }
  // One element for all digits of a kind, each with a place of its own: a tree has thousands of cells.
  const places = { given: [[], [], []], filled: [[], [], []] };
  node.label.forEach((line, row) => [...line].forEach((text, column) => {
    if (text === empty) return;
    const [texts, x, y] = places[given[row][column] === empty ? "filled" : "given"];
    texts.push(text);
    x.push(left + SIDE * (column + 0.5));
    y.push(top + SIDE * (row + 0.5) + 4);
  }));
  for (const [name, [texts, x, y]] of Object.entries(places)) {
    draw(body, "text", { class: `st-label st-${name}`, x: x.join(" "), y: y.join(" ") }, texts.join(""));
  }
}

export function drawNote(node, parts, height, narrow) {
  const at = narrow ? { x: 1, y: -height / 2 - 4 } : { x: node.width + 5, y: 4 };
  const text = narrow ? node.short_note : node.note;
  parts.note ??= draw(parts.body, "text", { class: `st-note st-${node.verdict}` });
  parts.note.textContent = text;
  for (const [name, value] of Object.entries(at)) parts.note.setAttribute(name, value);
}

// The line of a roll-back: from above one node back to another, whose width it is.
export function arrowPath(from, to, width, half) {
  const side = from.y <= to.y ? -half : half;
  const [x1, y1, x2, y2] = [from.x + 8, from.y - half, to.x + width - 10, to.y + side];
  const bow = Math.sign(side) * Math.min(44, 14 + Math.abs(y1 - y2) / 4);
  const head = `M${x2 - 4} ${y2 + Math.sign(side) * 6}L${x2} ${y2}L${x2 + 5} ${y2 + Math.sign(side) * 5}`;
  return `M${x1} ${y1}C${x1 - 20} ${y1 - 14} ${x2 + 10} ${y2 + bow} ${x2} ${y2}${head}`;
}
