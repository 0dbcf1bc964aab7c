// Which nodes of a tree are folded away, and where the others stand.
//
// Takes nodes (id, parent, kind, own); knows nothing of drawing. The menu “Show” keeps all nodes, those
// of finished paths, or the chosen path's; besides, any branch can be folded or opened by hand.

export class Folds {
  constructor() {
    this.collapsed = new Set();
    this.mode = "all";
    this.load([], false);
  }

  load(nodes, grown) {
    this.nodes = nodes;
    this.children = nodes.map(() => []);
    for (const node of nodes) if (node.parent !== null) this.children[node.parent].push(node.id);
    if (!grown) this.set("all");
    this.keep(null);
  }

  set(mode) {
    this.mode = mode;
    this.collapsed.clear();
    this.keep();
  }

  // `kept`: what the menu leaves; null for everything. `leaf` is the end of the chosen path.
  keep(leaf = this.chosen) {
    this.chosen = leaf ?? null;
    this.kept = null;
    if (this.mode === "all") return;
    const finished = this.nodes.filter((node) => node.kind === "goal").map((node) => node.id);
    const ends = this.mode === "chosen" ? [this.chosen] : finished;
    this.kept = new Set([0]);
    for (const end of [...ends, ...this.nodes.filter((node) => node.own).map((node) => node.id)]) {
      for (let at = end; at !== null && !this.kept.has(at); at = this.nodes[at].parent) this.kept.add(at);
    }
  }

  any() {
    return this.kept !== null || this.collapsed.size > 0;
  }

  // The children of a node that no fold hides.
  open(id) {
    if (this.collapsed.has(id)) return [];
    return this.kept ? this.children[id].filter((child) => this.kept.has(child)) : this.children[id];
  }

  isOpen(id) {
    return this.open(id).length === this.children[id].length;
  }

  toggle(id) {
    if (!this.children[id].length || this.collapsed.delete(id)) return;
    if (this.isOpen(id)) {
      this.collapsed.add(id);
      return;
    }
    const below = [...this.children[id]];
    for (const child of below) below.push(...this.children[child]);
    for (const child of below) this.kept.add(child);
  }

  // For each node how many of those below it, where `seen(id)`, are folded away.
  counts(seen) {
    const shown = new Set([0]);
    for (const node of this.nodes) if (shown.has(node.id)) for (const child of this.open(node.id)) shown.add(child);
    const hidden = this.nodes.map(() => 0);
    for (let id = this.nodes.length - 1; id > 0; id -= 1) {
      if (!shown.has(id)) hidden[this.nodes[id].parent] += hidden[id] + (seen(id) ? 1 : 0);
    }
    return hidden;
  }

  // Each node's row: as they are where nothing is folded, else laid out anew.
  rows() {
    if (!this.any()) return new Map(this.nodes.map((node) => [node.id, node.row]));
    return rowsOf(0, (id) => this.open(id));
  }
}

// Rows for the nodes that `children(id)` gives from `root` on: one apart in every column, a parent
// in the middle of its children, branches as close as their outlines allow.
function rowsOf(root, children) {
  const offset = new Map(); // from the parent's row
  const outline = (id) => {
    const below = children(id).map((child) => [child, outline(child)]);
    if (!below.length) return [[0, 0]];
    const joined = []; // for each depth below: the lowest and the highest row
    const starts = [];
    for (const [, edge] of below) {
      let start = 0;
      edge.forEach(([low], depth) => {
        if (joined[depth]) start = Math.max(start, joined[depth][1] + 1 - low);
      });
      starts.push(start);
      edge.forEach(([low, high], depth) => {
        joined[depth] = [joined[depth] ? joined[depth][0] : low + start, high + start];
      });
    }
    const middle = (starts[0] + starts[starts.length - 1]) / 2;
    below.forEach(([child], index) => offset.set(child, starts[index] - middle));
    return [[0, 0], ...joined.map(([low, high]) => [low - middle, high - middle])];
  };
  const top = Math.min(...outline(root).map(([low]) => low));
  const rows = new Map([[root, -top]]);
  const walk = (id) => {
    for (const child of children(id)) {
      rows.set(child, rows.get(id) + offset.get(child));
      walk(child);
    }
  };
  walk(root);
  return rows;
}
