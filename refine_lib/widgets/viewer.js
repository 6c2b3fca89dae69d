// Two pictures of one size, one over the other, and what a box of them shows. They are compared by a line between them that can
// be moved, side by side, or by their difference; while a key or a button is held, the first covers the second. Python sends the
// pictures as PNG, as large as they are shown; the page sends nothing but where the box is.

const SENDS_A_SECOND = 12;
const WAYS = { line: "line between", beside: "side by side", difference: "difference, 4 times" };
const HOLD_KEY = "b";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PATIENCE = 10; // seconds without a sign of life, after which the page says so

function shownPicture(model, name) {
  const picture = document.createElement("img");
  picture.draggable = false;
  picture.dataset.name = name;
  const show = () => swap(picture, model.get(name));
  model.on(`change:${name}`, show);
  show();
  const forget = () => {
    model.off(`change:${name}`, show);
    URL.revokeObjectURL(picture.src);
  };
  return { picture, forget };
}

function pane(model, el, before, after, words) {
  const root = document.createElement("div");
  root.className = "refine-pane";
  const pictures = [shownPicture(model, after), shownPicture(model, before)];
  pictures[1].picture.classList.add("refine-before");
  const line = document.createElement("div");
  line.className = "refine-line";
  root.append(pictures[0].picture, pictures[1].picture, line);
  el.append(root);
  const name = () =>
    ["after_name", "before_name"].forEach((which, i) => (pictures[i].picture.alt = `${model.get(which)}, ${words}`));
  return { root, name, forget: () => pictures.forEach((p) => p.forget()) };
}

// Calls `move(x, y)` with shares of the element while a pointer, mouse, pen or finger, is down on it. A finger may also be about
// to scroll the page: it counts when it moves, or leaves, on this element.
function onDrag(element, move) {
  const where = (event) => {
    const frame = element.getBoundingClientRect();
    const share = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1);
    move(share(event.clientX, frame.left, frame.width), share(event.clientY, frame.top, frame.height));
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    element.setPointerCapture(event.pointerId);
    if (event.pointerType !== "touch") where(event);
  });
  for (const kind of ["pointermove", "pointerup"])
    element.addEventListener(kind, (event) => element.hasPointerCapture(event.pointerId) && where(event));
}

// A button for each way to compare, of which one is chosen; and one that shows the first picture while it is held.
function waysToCompare(root) {
  const ways = document.createElement("fieldset");
  ways.className = "refine-ways";
  const legend = document.createElement("legend");
  legend.textContent = "compare by";
  ways.append(legend);
  const group = `refine-way-${Math.random()}`;
  for (const way in WAYS) {
    const [label, input] = ["label", "input"].map((kind) => document.createElement(kind));
    Object.assign(input, { type: "radio", name: group, value: way, checked: way === "line" });
    input.addEventListener("change", () => (root.dataset.way = way));
    label.append(input, WAYS[way]);
    ways.append(label);
  }
  root.dataset.way = "line";
  const hold = document.createElement("button");
  hold.type = "button";
  hold.textContent = `Hold to see what is left of the line (${HOLD_KEY})`;
  const held = (is) => root.classList.toggle("refine-held", is);
  hold.addEventListener("pointerdown", () => held(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) hold.addEventListener(end, () => held(false));
  hold.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && held(true));
  root.addEventListener("keydown", (event) => {
    if (event.key !== HOLD_KEY || event.ctrlKey || event.metaKey || event.altKey) return;
    held(true);
  });
  root.addEventListener("keyup", (event) => event.key === HOLD_KEY && held(false));
  ways.append(hold);
  return ways;
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "refine-viewer";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's, which would take keys that are meant here
  const panes = document.createElement("div");
  panes.className = "refine-panes";
  const whole = pane(model, panes, "before", "after", "the whole picture");
  const zoom = pane(model, panes, "before_zoom", "after_zoom", "what is in the box");
  const box = document.createElement("div");
  box.className = "refine-box";
  whole.root.append(box);
  Object.assign(whole.root, { tabIndex: 0, role: "group", ariaLabel: "the whole picture; arrow keys move the box" });

  const below = document.createElement("div");
  below.className = "refine-below";
  const [left, right] = ["span", "span"].map((kind) => document.createElement(kind));
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.001, value: 0.5 });
  slider.setAttribute("aria-label", "line between before and after");
  below.append(left, slider, right);
  const silence = document.createElement("div");
  silence.className = "refine-problem";
  silence.setAttribute("role", "status");
  root.append(panes, below, waysToCompare(root), silence);
  el.append(root);

  const divide = () => root.style.setProperty("--line", `${100 * slider.value}%`);
  slider.addEventListener("input", divide);
  onDrag(zoom.root, (x) => {
    if (root.dataset.way !== "line") return;
    slider.value = x;
    divide();
  });

  // The box follows the finger at once; Python is told a dozen times a second, and sends what the box shows.
  let timer = null;
  const place = ([x, y, width, height]) => {
    const sides = { left: x, top: y, width, height };
    for (const side in sides) box.style[side] = `${100 * sides[side]}%`;
  };
  const moveTo = (x, y) => {
    const [, , width, height] = model.get("box");
    const at = (middle, length) => Math.min(Math.max(middle - length / 2, 0), 1 - length);
    const wanted = [at(x, width), at(y, height), width, height];
    place(wanted);
    root.wanted = wanted;
    timer ??= setTimeout(() => {
      timer = null;
      model.send({ box: root.wanted });
    }, 1000 / SENDS_A_SECOND);
  };
  onDrag(whole.root, moveTo);
  whole.root.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault(); // the page would scroll
    const [x, y, width, height] = timer === null ? model.get("box") : root.wanted;
    const far = event.shiftKey ? 0.5 : 0.1; // of the box
    moveTo(x + (0.5 + far * arrow[0]) * width, y + (0.5 + far * arrow[1]) * height);
  });
  // Python counts while a run goes on. A kernel that is gone counts no more.
  let heard = Date.now();
  const listen = () => {
    const seconds = Math.round((Date.now() - heard) / 1000);
    const waits = model.get("alive") > 0 && seconds > PATIENCE;
    silence.textContent = waits ? `no answer from the kernel for ${seconds} s: it may have ended, and its runs with it` : "";
  };
  const clock = setInterval(listen, 1000);
  const placeAsTold = () => timer ?? place(model.get("box"));
  const name = () => {
    left.textContent = model.get("before_name");
    right.textContent = model.get("after_name");
    whole.name(), zoom.name();
  };
  const shape = () => {
    const aspect = model.get("aspect");
    whole.root.style.aspectRatio = aspect;
    whole.root.style.maxWidth = `${512 * Math.min(aspect, 1)}px`; // as large as what is sent, and no larger
    const [, , width, height] = model.get("box");
    zoom.root.style.setProperty("--aspect", (aspect * width) / height);
    root.classList.toggle("refine-all", width * height === 1);
  };
  const follow = { "change:box": () => (placeAsTold(), shape()), "change:aspect": shape };
  follow["change:alive"] = () => ((heard = Date.now()), listen());
  Object.assign(follow, { "change:before_name": name, "change:after_name": name });
  for (const event in follow) model.on(event, follow[event]);
  divide(), place(model.get("box")), name(), shape();
  const stopNaming = nameControls(root, () => el.closest(".refine-tuner") ?? el);

  return () => {
    clearTimeout(timer), clearInterval(clock), stopNaming();
    for (const event in follow) model.off(event, follow[event]);
    whole.forget(), zoom.forget();
  };
}

// Python sends a file to be saved by the browser.
function download(message, buffers) {
  if (!message.download) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(buffers));
  link.download = message.download;
  document.body.append(link); // some pages, VS Code's among them, save nothing by a link that is not on them
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Once for a model, however often it is shown.
function initialize({ model }) {
  model.on("msg:custom", download);
  return () => model.off("msg:custom", download);
}

export default { initialize, render };
