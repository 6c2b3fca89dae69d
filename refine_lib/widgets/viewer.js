// Two pictures of one size, one over the other, with a line between them that can be moved; and what a box of them shows.
// Python sends the pictures as PNG, as large as they are shown; the page sends nothing but where the box is.

const SENDS_A_SECOND = 12;
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

// Shows a PNG in the place of another when it is decoded: until then the old one stays, so nothing flickers.
async function swap(picture, bytes) {
  if (!bytes?.byteLength) return;
  picture.wanted = bytes;
  picture.ariaBusy = true;
  const next = new Image();
  next.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  await next.decode().catch(() => {}); // then the browser shows that it is broken
  const old = picture.src;
  if (picture.wanted === bytes) Object.assign(picture, { src: next.src, ariaBusy: false });
  URL.revokeObjectURL(picture.src === next.src ? old : next.src);
}

function pane(model, el, before, after) {
  const root = document.createElement("div");
  root.className = "refine-pane";
  const pictures = [shownPicture(model, after), shownPicture(model, before)];
  pictures[1].picture.classList.add("refine-before");
  const line = document.createElement("div");
  line.className = "refine-line";
  root.append(pictures[0].picture, pictures[1].picture, line);
  el.append(root);
  return { root, forget: () => pictures.forEach((p) => p.forget()) };
}

// Calls `move(x, y)` with shares of the element while a pointer, mouse, pen or finger, is down on it.
function onDrag(element, move, end = () => {}) {
  const where = (event) => {
    const frame = element.getBoundingClientRect();
    const share = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1);
    move(share(event.clientX, frame.left, frame.width), share(event.clientY, frame.top, frame.height));
  };
  element.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    where(event);
  });
  element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && where(event));
  element.addEventListener("pointerup", end);
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "refine-viewer";
  const panes = document.createElement("div");
  panes.className = "refine-panes";
  const whole = pane(model, panes, "before", "after");
  const zoom = pane(model, panes, "before_zoom", "after_zoom");
  const box = document.createElement("div");
  box.className = "refine-box";
  whole.root.append(box);

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
  root.append(panes, below, silence);
  el.append(root);

  const divide = () => root.style.setProperty("--line", `${100 * slider.value}%`);
  slider.addEventListener("input", divide);
  onDrag(zoom.root, (x) => {
    slider.value = x;
    divide();
  });

  // The box follows the finger at once; Python is told a dozen times a second, and sends what the box shows.
  let timer = null;
  const place = ([x, y, width, height]) => {
    const sides = { left: x, top: y, width, height };
    for (const side in sides) box.style[side] = `${100 * sides[side]}%`;
  };
  onDrag(whole.root, (x, y) => {
    const [, , width, height] = model.get("box");
    const at = (middle, length) => Math.min(Math.max(middle - length / 2, 0), 1 - length);
    const wanted = [at(x, width), at(y, height), width, height];
    place(wanted);
    root.wanted = wanted;
    timer ??= setTimeout(() => {
      timer = null;
      model.send({ box: root.wanted });
    }, 1000 / SENDS_A_SECOND);
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
  };
  const shape = () => {
    whole.root.style.aspectRatio = model.get("aspect");
    whole.root.style.maxWidth = `${512 * Math.min(model.get("aspect"), 1)}px`; // as large as what is sent, and no larger
    const [, , width, height] = model.get("box");
    zoom.root.style.aspectRatio = (model.get("aspect") * width) / height;
  };
  const follow = { "change:box": () => (placeAsTold(), shape()), "change:aspect": shape };
  follow["change:alive"] = () => ((heard = Date.now()), listen());
  Object.assign(follow, { "change:before_name": name, "change:after_name": name });
  for (const event in follow) model.on(event, follow[event]);
  divide(), place(model.get("box")), name(), shape();

  return () => {
    clearTimeout(timer), clearInterval(clock);
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
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Once for a model, however often it is shown.
function initialize({ model }) {
  model.on("msg:custom", download);
  return () => model.off("msg:custom", download);
}

export default { initialize, render };
