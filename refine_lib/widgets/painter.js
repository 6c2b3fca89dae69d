// A picture to paint a hole on, with mouse, pen or finger. A stroke is drawn here at once, in pixels of the screen, and sent as
// a list of points; Python paints it at the picture's own size and sends back what is to be seen. Files are sent in parts, since
// a server drops a connection that brings more than 10 MB in one message.

const PART = 2 ** 20; // bytes

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "refine-painter";
  const [picture, hole] = ["picture", "hole"].map((name) => {
    const shown = document.createElement("img");
    shown.draggable = false;
    shown.dataset.name = name;
    return shown;
  });
  const fresh = document.createElement("canvas");
  const brush = document.createElement("div");
  brush.className = "refine-brush";
  brush.hidden = true;
  root.append(picture, hole, fresh, brush);

  const files = document.createElement("div");
  files.className = "refine-files";
  const told = document.createElement("span");
  files.append(...["photo", "mask"].map((kind) => fileButton(model, kind, told)), told);
  el.append(root, files);

  const shape = () => {
    const [height, width] = model.get("size");
    root.style.aspectRatio = width / height;
    root.style.maxWidth = `min(640px, ${(640 * width) / height}px)`;
  };
  const showPicture = () => (shape(), swap(picture, model.get("picture")));
  const showHole = () => swap(hole, model.get("hole"));
  // What was drawn here is taken away when Python's answer to the stroke is on the screen: there is no flicker.
  const painted = async (message) => {
    if (!message.painted) return;
    await showHole();
    if (!points.length) fresh.getContext("2d").reset();
  };

  let points = [];
  let finger = null; // or pen, or mouse: the one that paints; another one's do not count
  const scale = () => model.get("size")[1] / root.getBoundingClientRect().width; // pixels of the picture to one of the page
  const place = (event) => {
    const frame = root.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  const isRectangle = () => model.get("rectangle");
  const draw = () => {
    const frame = root.getBoundingClientRect();
    if (points.length === 1) Object.assign(fresh, { width: frame.width, height: frame.height });
    const pen = fresh.getContext("2d");
    pen.clearRect(0, 0, fresh.width, fresh.height);
    pen.strokeStyle = pen.fillStyle = model.get("erases") ? "rgba(255, 255, 255, 0.6)" : "rgba(235, 64, 120, 0.75)";
    const [first, last] = [points[0], points[points.length - 1]];
    if (isRectangle()) return pen.fillRect(...first, last[0] - first[0], last[1] - first[1]);
    Object.assign(pen, { lineWidth: model.get("width") / scale(), lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...first);
    points.forEach((point) => pen.lineTo(...point));
    pen.stroke();
  };
  const follow = (event) => {
    const [x, y] = place(event);
    const across = model.get("width") / scale();
    Object.assign(brush.style, { left: `${x}px`, top: `${y}px`, width: `${across}px`, height: `${across}px` });
    brush.hidden = isRectangle();
  };
  root.addEventListener("pointerdown", (event) => {
    if (finger !== null || event.button > 0) return;
    event.preventDefault();
    finger = event.pointerId;
    root.setPointerCapture(finger);
    points = [place(event)];
    draw();
  });
  root.addEventListener("pointermove", (event) => {
    follow(event);
    if (event.pointerId !== finger) return;
    points.push(...(event.getCoalescedEvents?.() ?? []).map(place), place(event));
    draw();
  });
  root.addEventListener("pointerup", (event) => {
    if (event.pointerId !== finger) return;
    const inPicture = points.map((point) => point.map((at) => Math.round(10 * at * scale()) / 10));
    [points, finger] = [[], null];
    const drawnWith = ["rectangle", "erases", "width", "size"].map((name) => [name, model.get(name)]);
    model.send({ points: inPicture, ...Object.fromEntries(drawnWith) });
  });
  root.addEventListener("pointercancel", (event) => {
    if (event.pointerId !== finger) return;
    [points, finger] = [[], null];
    fresh.getContext("2d").reset();
  });
  root.addEventListener("pointerleave", () => (brush.hidden = true));

  const changes = { "change:picture": showPicture, "change:hole": showHole, "change:size": shape, "msg:custom": painted };
  for (const event in changes) model.on(event, changes[event]);
  showPicture(), showHole();
  return () => {
    for (const event in changes) model.off(event, changes[event]);
    [picture, hole].forEach((shown) => URL.revokeObjectURL(shown.src));
  };
}

// Shows a PNG in the place of another when it is decoded, as in viewer.js: a widget's script is one file.
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

function fileButton(model, kind, told) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: "image/*" });
  input.dataset.kind = kind;
  label.append(kind === "photo" ? "Open a photo ..." : "Open a mask ...", input);
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      await send(model, kind, file, (words) => (told.textContent = words));
    } catch (error) {
      told.textContent = `${file.name} could not be read: ${error.message}`;
    }
  });
  return label;
}

async function send(model, kind, file, tell) {
  const [size, most] = [file.size, model.get("largest_file")].map((bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`);
  if (file.size > model.get("largest_file")) {
    tell(`${file.name} has ${size}; at most ${most} can be sent. Give its path instead.`);
    return;
  }
  const parts = Math.max(Math.ceil(file.size / PART), 1);
  for (let part = 0; part < parts; part++) {
    tell(`sending ${file.name}: ${Math.round((100 * part) / parts)} %`);
    const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
    model.send({ file: file.name, kind, part, parts }, undefined, [bytes]);
    await new Promise((done) => setTimeout(done, 20));
  }
  tell("");
}

export default { render };
