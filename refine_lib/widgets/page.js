// What a widget's page needs beside its own work: pictures in their places, files on their way, and names for the controls of
// ipywidgets. Nothing is exported: this is put behind another script, since a widget's script is one text.

const PART = 2 ** 20; // bytes of a file in a message: a server drops a connection that brings more than 10 MB in one

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

function add(parent, kind, className, properties) {
  const element = Object.assign(document.createElement(kind), { className }, properties);
  parent.append(element);
  return element;
}

// Names the controls of the panel around an element, now and when they change. Returns a function that ends it.
function nameControls(root, panel) {
  const named = new MutationObserver(() => describe(panel(), root));
  const placed = new ResizeObserver(() => {
    named.observe(panel(), { subtree: true, childList: true, attributeFilter: ["class"] }); // now it has a panel around it
    describe(panel(), root);
  });
  placed.observe(root);
  return () => (named.disconnect(), placed.disconnect());
}

// What ipywidgets leaves out for those who do not see its controls: names of sliders, states of buttons, news.
function describe(panel, root) {
  const keys = panel.querySelector(".refine-keys p");
  if (keys) root.setAttribute("aria-describedby", (keys.id ||= `refine-keys-${Math.random().toString(36).slice(2)}`));
  for (const slider of panel.querySelectorAll(".widget-slider")) {
    const name = slider.querySelector(".widget-label").textContent;
    slider.querySelector(".noUi-handle")?.setAttribute("aria-label", name);
    const readout = { role: "textbox", "aria-label": `${name}, typed` };
    for (const key in readout) slider.querySelector(".widget-readout").setAttribute(key, readout[key]);
  }
  for (const button of panel.querySelectorAll(".widget-toggle-button")) {
    button.ariaPressed = button.classList.contains("mod-active");
  }
  for (const input of panel.querySelectorAll("input[type=number]")) {
    const [label] = input.labels;
    const name = label?.title || input.title || input.closest("[title]")?.title;
    if (name && !label?.textContent.trim()) input.ariaLabel = name;
  }
  panel.querySelectorAll("img.widget-image").forEach((img) => (img.alt = "the hole of each level, yellow where the loss sees it"));
  panel.querySelectorAll("button i").forEach((icon) => (icon.ariaHidden = true)); // a letter of a font of pictures
  panel.querySelector(".refine-problem")?.setAttribute("role", "status");
}

// Shows a PNG in the place of another when it is decoded.
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

function fileButton(parent, kind, take) {
  const button = add(parent, "button", "", { type: "button", textContent: `Open a ${kind} ...` });
  const input = add(parent, "input", "", { type: "file", accept: "image/*,.avif,.heic,.heif,.npy", hidden: true });
  input.dataset.kind = button.dataset.kind = kind;
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(kind, input.files);
    input.value = "";
  });
}

async function send(model, kind, file, tell, goesOn) {
  const [size, most] = [file.size, model.get("largest_file")].map((bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`);
  if (file.size > model.get("largest_file")) {
    return tell(`${file.name} has ${size}; at most ${most} can be sent. Give its path instead.`);
  }
  const parts = Math.max(Math.ceil(file.size / PART), 1);
  try {
    for (let part = 0; part < parts && goesOn(); part++) {
      const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
      const isLast = part + 1 === parts;
      tell(isLast ? `reading ${file.name}` : `sending ${file.name}: ${Math.round((100 * part) / parts)} %`);
      model.send({ file: file.name, kind, part, parts }, undefined, [bytes]);
      await new Promise((done) => setTimeout(done, 20));
    }
  } catch (error) {
    tell(`${file.name} could not be read: ${error.message}`);
  }
}
