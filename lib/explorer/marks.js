// What a node is drawn of: its box, its step, its label, the words beside it; and a roll-back's line.
//
// Takes a node of lib/explorer/tree_view.py; gives its elements, which lib/explorer/tree.js places.

import { draw } from "./dom.js";

export const LEAVES = new Set(["goal", "backtrack", "limit"]);

export function drawNode(parent, node, words, height, narrow) {
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
  node.label.forEach((line, index) => {
    const y = 4 + 14 * index - 7 * (node.label.length - 1);
    draw(parts.body, "text", { class: "st-label", x: node.width / 2, y }, line);
  });
  if (node.kind === "goal") drawNote(node, parts, height, narrow);
  return parts;
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
