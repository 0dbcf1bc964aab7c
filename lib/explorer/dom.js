// Elements and numbers: the few helpers that every part of the view uses.
//
// Text from a model reaches the page as text nodes and attributes only, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, parent, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  parent?.append(node);
  return node;
}

export function make(parent, tag, attributes = {}, text = null) {
  return filled(document.createElement(tag), parent, attributes, text);
}

export function draw(parent, tag, attributes = {}, text = null) {
  return filled(document.createElementNS(SVG, tag), parent, attributes, text);
}

export function button(parent, label, title, action) {
  const made = make(parent, "button", { type: "button", title }, label);
  if (action) made.addEventListener("click", action);
  return made;
}

export function choice(parent, label, title, options, action) {
  const box = make(parent, "label", { class: "st-group", title }, `${label} `);
  const select = make(box, "select", { "aria-label": label });
  for (const [value, text] of options) make(select, "option", { value }, text);
  select.addEventListener("change", () => action(select.value));
  return select;
}

// Steps in one line of text, which breaks between two steps rather than at a minus sign.
export function makeSteps(parent, steps, otherwise) {
  if (!steps.length) parent.append(otherwise);
  steps.forEach((step, index) => {
    if (index) parent.append(", ");
    make(parent, "span", { class: "st-whole" }, step);
  });
}

// Enter in any field does what the form's button does, in a field of several lines too (a page that
// hosts the form may take the browser's own way from it).
export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName === "BUTTON") return;
    event.preventDefault();
    action();
  });
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1 && Number.isInteger(value) ? String(value) : value.toFixed(digits);
}
