// A picture to paint a hole on, with mouse, pen, finger or keys. A stroke is drawn here at once and sent as a list of points;
// Python paints it at the picture's own size and sends back what is to be seen. All points are in pixels of the picture.
// Zooming and panning happen here alone: when they rest, Python is asked for what the page does not have at that size.
// The functions of page.js stand behind this file, in one script.

const REST = 250; // ms without zoom and pan, after which the part that is seen is asked for
const SHARPEST = 16; // of the page's pixels to one of the picture, when it is zoomed all the way
const TAP = { ms: 400, px: 6 }; // two taps so near in time and place are a double click
const CONTROL = "button, a, summary, input, select, [role=slider]"; // what has its own use for the space bar
const TYPED = "input:not([type=file]), textarea, select, [contenteditable]:not([contenteditable=false])";

function render({ model, el }) {
  const root = add(el, "div", "refine-painter", { tabIndex: 0, role: "application" });
  const stage = add(root, "div", "refine-stage");
  const [picture, hole, detail, detailHole] = ["picture", "hole", "detail", "detail_hole"].map((name) => {
    const shown = add(stage, "img", "", { draggable: false, alt: "" });
    shown.dataset.name = name;
    return shown;
  });
  const fresh = add(root, "canvas");
  const brush = add(root, "div", "refine-brush", { hidden: true });
  const files = add(el, "div", "refine-files");
  let turn = 0; // of what is sent: a later file ends what is still being sent
  const take = async (kind, list) => {
    const mine = ++turn;
    const tell = (words) => mine === turn && (told.textContent = words);
    for (const file of [...list]) await send(model, kind, file, tell, () => mine === turn);
  };
  fileButton(files, "photo", take);
  fileButton(files, "mask", take);
  const showAll = add(files, "button", "", { type: "button", textContent: "Show all", hidden: true });
  const told = add(files, "span", "", { role: "status" });

  let view = { x: 0, y: 0, zoom: 1 }; // the picture's corner, in shares of the frame, and how much it is enlarged
  let strokes = []; // to be seen until Python has painted them; the last may be the one that is being drawn
  let stroke = null; // that one
  let cursor = null; // where the pointer or the keys are
  let last = null; // where the last stroke ended
  let tap = null; // the last stroke, where it was a tap
  let finger = null; // or pen, or mouse: the one that paints or pans; another one's events do not count
  let pan = null; // what is seen, and from where, when a pan began
  let isSpaceDown = false;
  let resting = null; // the timer until zoom and pan rest
  let isDetailed = false; // whether Python sends the part that is seen with more pixels
  const touches = new Set();

  const size = () => model.get("size").toReversed(); // [width, height]
  const share = (event) => {
    const frame = root.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  const corner = () => [view.x, view.y];
  const place = (event) => share(event).map((at, i) => ((at - corner()[i]) / view.zoom) * size()[i]);
  const shareOf = (point) => point.map((at, i) => corner()[i] + (at / size()[i]) * view.zoom);
  const middle = () => size().map((side, i) => ((0.5 - corner()[i]) / view.zoom) * side);
  const scale = () => (root.getBoundingClientRect().width / size()[0]) * view.zoom; // of the page's pixels to the picture's

  // Pictures.
  const shape = () => {
    const [width, height] = size();
    root.style.aspectRatio = width / height;
    root.style.maxWidth = `min(640px, ${(640 * width) / height}px)`;
    root.ariaLabel = `picture to paint a hole on, ${width} x ${height} pixels`;
  };
  const showPicture = () => (shape(), swap(picture, model.get("picture")));
  const forget = () => {
    [strokes, stroke, last, tap, cursor] = [[], null, null, null, null];
    all();
  };
  const showHole = () => swap(hole, model.get("hole"));
  const showDetail = ([left, top, right, bottom], parts) => {
    const [width, height] = size();
    const sides = { left: left / width, top: top / height, width: (right - left) / width, height: (bottom - top) / height };
    const swaps = [detail, detailHole].map(async (part, i) => {
      if (!parts[i].byteLength) return; // the picture is as it was
      await swap(part, parts[i]);
      for (const side in sides) part.style[side] = `${100 * sides[side]}%`;
      part.hidden = view.zoom === 1;
    });
    return Promise.all(swaps);
  };
  // What was drawn here is taken away when Python's answer to the stroke is on the screen: there is no flicker.
  let answered = null;
  const answer = async (message, parts) => {
    if (message.taken) forget();
    if (message.received) told.textContent = "";
    if (message.detail) answered = showDetail(message.detail, parts);
    if (!("painted" in message)) return;
    await Promise.all([showHole(), answered]);
    strokes = strokes.filter((one) => one.id !== message.painted);
    draw();
  };

  // What is seen of them.
  const look = (zoom, x, y) => {
    view = { zoom, x: clamp(x, 1 - zoom, 0), y: clamp(y, 1 - zoom, 0) };
    stage.style.transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${zoom})`;
    showAll.hidden = zoom === 1;
    if (zoom === 1) [detail, detailHole].forEach((part) => (part.hidden = true));
    draw();
    showBrush();
    clearTimeout(resting);
    resting = setTimeout(() => {
      const box = [0, 1].flatMap((end) => size().map((side, i) => ((end - corner()[i]) / zoom) * side));
      const isCoarse = zoom > 1 && picture.naturalWidth < size()[0];
      if (isCoarse || isDetailed) model.send({ view: isCoarse ? box : null, size: model.get("size") });
      isDetailed = isCoarse;
    }, REST);
  };
  const zoomBy = (factor, [x, y]) => {
    const most = Math.max((SHARPEST * size()[0]) / root.getBoundingClientRect().width, 4);
    const zoom = clamp(view.zoom * factor, 1, most);
    look(zoom, x - ((x - view.x) * zoom) / view.zoom, y - ((y - view.y) * zoom) / view.zoom);
  };
  const showBrush = (isShown = !brush.hidden) => {
    brush.hidden = !isShown || !cursor;
    if (brush.hidden) return;
    const [x, y] = shareOf(cursor);
    const across = `${model.get("rectangle") ? 7 : Math.max(model.get("width") * scale(), 3)}px`;
    Object.assign(brush.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: across, height: across });
  };

  // Strokes.
  const draw = () => {
    const frame = root.getBoundingClientRect();
    const [wide, high] = [frame.width, frame.height].map((side) => Math.round(side * devicePixelRatio));
    Object.assign(fresh, { width: wide, height: high }); // which clears it
    if (stroke) equip();
    const pen = fresh.getContext("2d");
    const by = scale() * devicePixelRatio;
    pen.setTransform(by, 0, 0, by, view.x * wide, view.y * high);
    for (const { points, rectangle, erases, width } of strokes) {
      pen.strokeStyle = pen.fillStyle = erases ? "rgba(255, 255, 255, 0.6)" : "rgba(235, 64, 120, 0.75)";
      const [first, end] = [points[0], points.at(-1)];
      if (rectangle) {
        pen.fillRect(...first, end[0] - first[0], end[1] - first[1]);
        continue;
      }
      Object.assign(pen, { lineWidth: width, lineCap: "round", lineJoin: "round" });
      pen.beginPath();
      pen.moveTo(...first);
      points.forEach((point) => pen.lineTo(...point));
      pen.stroke();
    }
  };
  // A tool that was clicked comes by way of Python: until the stroke ends it is not too late.
  const equip = () => ["rectangle", "erases", "width", "size"].forEach((name) => (stroke[name] = model.get(name)));
  const begin = (point) => {
    stroke = { id: Math.random(), points: [point] };
    strokes.push(stroke);
    draw();
  };
  const drop = () => {
    strokes = strokes.filter((one) => one !== stroke);
    stroke = null;
    told.textContent = "";
    draw();
  };
  const finish = () => {
    equip();
    last = stroke.points.at(-1);
    const points = stroke.points.map((point) => point.map((at) => Math.round(10 * at) / 10));
    model.send({ ...stroke, points });
    stroke = null;
    told.textContent = "";
  };
  const all = () => look(1, 0, 0);

  root.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" && touches.add(event.pointerId).size > 1) {
      finger = null; // two fingers are the browser's, which scrolls and zooms the page
      return stroke && drop();
    }
    if (finger !== null || event.button > 1) return;
    event.preventDefault();
    root.focus({ preventScroll: true });
    finger = event.pointerId;
    root.setPointerCapture(finger);
    if (stroke) finish(); // one of the keys
    if (event.button === 1 || isSpaceDown) {
      pan = { view, from: share(event) };
      return;
    }
    const isNear = tap && Math.hypot(event.clientX - tap.clientX, event.clientY - tap.clientY) < TAP.px;
    if (isNear && view.zoom > 1 && event.timeStamp - tap.timeStamp < TAP.ms) {
      model.send({ change: "undo" }); // of the first click's dot
      tap = null;
      return all();
    }
    tap = event;
    cursor = place(event);
    const isStraight = event.shiftKey && last && !model.get("rectangle");
    begin(isStraight ? last : cursor);
    if (isStraight) stroke.points.push(cursor), draw();
    stroke.bend = 0; // the point from which Shift draws straight
  });
  root.addEventListener("pointermove", (event) => {
    if (stroke && finger === null) return; // one of the keys
    if (pan && event.pointerId === finger) {
      const [x, y] = share(event).map((at, i) => at - pan.from[i]);
      look(view.zoom, pan.view.x + x, pan.view.y + y);
    }
    cursor = place(event);
    showBrush(!model.get("rectangle"));
    if (event.pointerId !== finger || !stroke) return;
    if (tap && Math.hypot(event.clientX - tap.clientX, event.clientY - tap.clientY) > TAP.px) tap = null;
    if (event.shiftKey) stroke.points.length = stroke.bend + 1;
    else stroke.points.push(...(event.getCoalescedEvents?.() ?? []).map(place));
    stroke.points.push(cursor);
    if (!event.shiftKey) stroke.bend = stroke.points.length - 1;
    draw();
  });
  const up = (event) => {
    touches.delete(event.pointerId);
    if (event.pointerId !== finger) return;
    [finger, pan] = [null, null];
    if (stroke) event.type === "pointerup" ? finish() : drop();
  };
  root.addEventListener("pointerup", up);
  root.addEventListener("pointercancel", up);
  root.addEventListener("pointerleave", () => showBrush(false));
  root.addEventListener("wheel", (event) => {
    if (view.zoom === 1 && event.deltaY > 0) return; // the page's
    event.preventDefault();
    zoomBy(2 ** (-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), share(event));
    cursor = place(event);
    showBrush();
  }, { passive: false });
  showAll.addEventListener("click", () => (all(), root.focus()));

  // Keys, where the focus or the pointer is here. Those that are used reach nobody else, and all others do: JupyterLab has
  // shortcuts of its own, so this listens before it.
  const panel = () => el.closest(".refine-mask-painter") ?? el;
  const isHere = (event) => {
    const target = event.composedPath()[0];
    if (target.closest?.(TYPED)) return false;
    return panel().contains(target) || root.matches(":hover");
  };
  const widen = (sign) => {
    const width = model.get("width");
    model.set("width", Math.max(width + sign * Math.max(Math.round(0.15 * width), 1), 1));
    model.save_changes();
  };
  const move = (x, y, isFar) => {
    const step = ((isFar ? 0.1 : 0.01) * Math.max(...size())) / view.zoom;
    cursor = [x, y].map((by, i) => clamp(cursor[i] + by * Math.max(step, 1), 0, size()[i] - 1));
    const [left, top] = shareOf(cursor).map((at, i) => corner()[i] - (at - clamp(at, 0.05, 0.95)));
    look(view.zoom, left, top); // the cursor stays in sight
    if (stroke) stroke.points.push(cursor), draw();
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const pressed = (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isCommand = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");
    const hasFocus = document.activeElement === root;
    if (isCommand && key === "z") return () => model.send({ change: event.shiftKey ? "redo" : "undo" });
    if (isCommand && key === "y") return () => model.send({ change: "redo" });
    if (isCommand || (event.altKey && !event.getModifierState("AltGraph"))) return null;
    if (key === "[" || key === "]") return () => widen(key === "]" ? 1 : -1);
    if (key === "0") return all;
    if ("+=-".includes(key)) return () => zoomBy(key === "-" ? 0.8 : 1.25, cursor ? shareOf(cursor) : [0.5, 0.5]);
    if (key === " " && (hasFocus || !event.target.closest?.(CONTROL))) return () => hold(true);
    if (key === "Escape" && stroke) return drop;
    if (!hasFocus || (key !== "Enter" && !(key in ARROWS))) return null;
    return () => {
      cursor ??= middle();
      showBrush(true);
      if (key in ARROWS) return move(...ARROWS[key], event.shiftKey);
      if (event.repeat || finger !== null) return;
      if (stroke) return finish();
      begin(cursor);
      told.textContent = "The stroke has begun: arrows draw it, Enter ends it, Escape drops it.";
    };
  };
  const hold = (isDown) => {
    isSpaceDown = isDown;
    root.classList.toggle("refine-pans", isDown);
  };
  const onKey = (event) => {
    if (event.type === "keyup") return event.key === " " && isSpaceDown && (event.preventDefault(), hold(false));
    if (!isHere(event)) return;
    const isPaste = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "v"; // the browser's event follows
    const act = isPaste ? () => {} : pressed(event);
    if (!act) return;
    event.stopImmediatePropagation();
    if (!isPaste) event.preventDefault();
    act();
  };
  const onPaste = (event) => {
    if (!isHere(event) || !event.clipboardData.files.length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    take("dropped", event.clipboardData.files);
  };
  root.addEventListener("focus", () => {
    if (root.matches(":focus-visible")) cursor ??= middle(), showBrush(true);
  });
  root.addEventListener("blur", () => {
    if (stroke && finger === null) finish();
    hold(false), showBrush(false);
  });

  // A file that is dropped beside what takes it must not replace the page.
  const onDrop = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    const isOver = panel().contains(event.target);
    const button = isOver && event.target.closest("button[data-kind]");
    const over = event.type === "dragover" && isOver && (button || root);
    for (const one of [root, ...files.children]) one.classList.toggle("refine-over", one === over);
    if (event.type === "dragleave" || (event.defaultPrevented && !isOver)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = isOver ? "copy" : "none";
    if (isOver && event.type === "drop") take(button ? button.dataset.kind : "dropped", event.dataTransfer.files);
  };
  const onBlur = (event) => event.target === window && hold(false);
  const before = { keydown: onKey, keyup: onKey, paste: onPaste, blur: onBlur }; // any other's listeners
  const after = { dragover: onDrop, dragleave: onDrop, drop: onDrop };
  for (const name in before) window.addEventListener(name, before[name], true);
  for (const name in after) window.addEventListener(name, after[name]);

  const stopNaming = nameControls(root, panel);
  const sized = new ResizeObserver(() => draw());
  sized.observe(root);
  const changes = { "change:picture": showPicture, "change:hole": showHole, "change:size": shape, "msg:custom": answer };
  changes["change:width"] = changes["change:rectangle"] = () => showBrush();
  for (const event in changes) model.on(event, changes[event]);
  showPicture(), showHole();
  return () => {
    for (const event in changes) model.off(event, changes[event]);
    for (const name in before) window.removeEventListener(name, before[name], true);
    for (const name in after) window.removeEventListener(name, after[name]);
    stopNaming(), sized.disconnect(), clearTimeout(resting);
    [picture, hole, detail, detailHole].forEach((shown) => URL.revokeObjectURL(shown.src));
  };
}

export default { render };
