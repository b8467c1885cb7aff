"use strict";
// What happens in the browser alone.  Listeners are at the document, because parts of the pages are
// replaced while they are open.

const studio = {
  // Send a file or what was painted, and return the answer; an answer of {error} is told.
  async send(address, body, name = "") {
    const headers = { "x-dipfast": "1", "x-name": encodeURIComponent(name) };
    try {
      const answer = await fetch(address, { method: "POST", body, headers });
      const text = await answer.text();
      try {
        return JSON.parse(text);
      } catch {
        return { error: text || answer.statusText };
      }
    } catch {
      return { error: "the studio does not answer; is it still running?" };
    }
  },

  // Return the fields of the form, after the mask that was painted was sent.
  async fields(form) {
    const fields = Object.fromEntries(new FormData(form));
    const button = document.getElementById("start");
    button.disabled = true;
    if (fields.task === "inpaint" && fields.mask_kind === "painted") {
      if (!paint.isUsed) return { ...fields, error: "paint over what is missing, or load a mask" };
      const answer = await studio.send(
        `/picture/${paint.canvas().dataset.picture}/mask/painted`, await paint.blob());
      if (answer.error) return { ...fields, error: answer.error };
      fields.mask = String(answer.mask);
    }
    delete fields.file;
    return fields;
  },

  ready() {
    const button = document.getElementById("start");
    if (button) button.disabled = false;
  },
};
window.studio = studio;

// --- the picture to begin with -----------------------------------------------------------------

let uploads = 0;

async function upload(file) {
  const number = ++uploads;
  const drop = document.getElementById("drop");
  const error = document.getElementById("upload-error");
  const bar = document.getElementById("upload");
  error.textContent = "";
  bar.hidden = true;
  const most = Number(drop.dataset.most);
  if (file.size > most) {
    error.textContent =
      `${file.name} has ${Math.ceil(file.size / 1e6)} MB, expected ${most / 1e6} MB at most; ` +
      "use the command line for it";
    return;
  }
  bar.hidden = false;
  bar.removeAttribute("value");
  const answer = await studio.send("/upload", file, file.name);
  if (number !== uploads) return; // another one was chosen meanwhile
  bar.hidden = true;
  if (answer.error) {
    error.textContent = answer.error;
    document.getElementById("file").value = "";
  } else {
    location.assign(answer.url);
  }
}

for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    const drop = document.getElementById("drop");
    event.preventDefault(); // a file that misses the field must not replace the page
    if (!drop) return;
    drop.classList.toggle("over", name === "dragover");
    if (name !== "drop" || !event.dataTransfer.files.length) return;
    // A folder comes as a file that cannot be read.
    const [item] = event.dataTransfer.items;
    if (item?.webkitGetAsEntry?.()?.isDirectory) {
      document.getElementById("upload-error").textContent =
        `${item.webkitGetAsEntry().name} is a folder: drop a picture in it, or use the command line`;
      return;
    }
    upload(event.dataTransfer.files[0]);
  });
}

async function readMask(input) {
  const [file] = input.files;
  const note = document.getElementById("mask-note");
  const mask = document.getElementById("mask");
  mask.value = ""; // the mask before it is not the one that was chosen
  note.classList.remove("error");
  note.textContent = file ? "Reading ..." : "No mask is loaded.";
  if (!file) return;
  const picture = paint.canvas().dataset.picture;
  const answer = await studio.send(`/picture/${picture}/mask/file`, file, file.name);
  if (input.files[0] !== file) return; // another one was chosen meanwhile
  mask.value = answer.error ? "" : String(answer.mask);
  note.textContent = answer.error ?? answer.note;
  note.classList.toggle("error", Boolean(answer.error));
}

document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.id === "file" && input.files.length) upload(input.files[0]);
  if (input.id === "mask-file") readMask(input);
  if (input.name === "zoom") {
    document.querySelector(".frame").dataset.zoom = input.value;
  }
  if (input.name === "task" || input.name === "mask_kind") paint.follow();
});

// --- painting ------------------------------------------------------------------------------------

const paint = {
  isUsed: false,
  last: null,
  canvas: () => document.getElementById("canvas"),
  // The canvas is there only where something is painted.
  follow() {
    const canvas = paint.canvas();
    if (!canvas) return;
    const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;
    canvas.hidden = !(chosen("task") === "inpaint" && chosen("mask_kind") === "painted");
  },
  // Return where the pointer is, in pixels of the canvas.
  place(event) {
    const canvas = paint.canvas();
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  },
  stroke(event) {
    const canvas = paint.canvas();
    const context = canvas.getContext("2d");
    const erases = document.getElementById("eraser").getAttribute("aria-pressed") === "true";
    const [x, y] = paint.place(event);
    const [lastX, lastY] = paint.last ?? [x, y];
    context.globalCompositeOperation = erases ? "destination-out" : "source-over";
    context.strokeStyle = "#e5007d";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Number(document.getElementById("brush").value);
    context.beginPath();
    context.moveTo(lastX, lastY);
    // A line of no length would not be drawn, and a click makes a dot.
    context.lineTo(x + (x === lastX && y === lastY ? 1e-3 : 0), y);
    context.stroke();
    paint.last = [x, y];
    paint.isUsed = true;
  },
  clear() {
    const canvas = paint.canvas();
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    paint.isUsed = false;
  },
  // Return what was painted, white on black.
  blob() {
    const canvas = paint.canvas();
    const mask = document.createElement("canvas");
    [mask.width, mask.height] = [canvas.width, canvas.height];
    const context = mask.getContext("2d");
    context.drawImage(canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, mask.width, mask.height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, mask.width, mask.height);
    return new Promise((resolve) => mask.toBlob(resolve, "image/png"));
  },
};

document.addEventListener("pointerdown", (event) => {
  if (event.target.id === "canvas" && event.isPrimary && event.button === 0) {
    event.target.setPointerCapture(event.pointerId);
    paint.last = null;
    paint.stroke(event);
  } else if (event.target.closest?.(".wipe")) {
    wipe.follow(event);
  }
});
document.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  // A stroke begins on the canvas: what comes from beside it with a button down is none.
  if (event.target.id === "canvas" && event.target.hasPointerCapture(event.pointerId))
    paint.stroke(event);
  else if (event.target.closest?.(".wipe") && event.pointerType === "mouse") wipe.follow(event);
});
document.addEventListener("dragstart", (event) => {
  if (event.target.closest?.(".wipe, .paint")) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (!button) return;
  if (button.id === "clear") paint.clear();
  if (button.id === "eraser") {
    const isOn = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!isOn));
  }
  if (button.id === "copy") copy();
});

async function copy() {
  const note = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    note.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(document.getElementById("command"));
    note.textContent = "Selected: copy it with Ctrl-C.";
  }
}

// --- before and after ------------------------------------------------------------------------------

const wipe = {
  show() {
    const slider = document.getElementById("wipe");
    document.querySelector(".wipe")?.style.setProperty("--at", `${slider.value}%`);
  },
  follow(event) {
    const slider = document.getElementById("wipe");
    const box = document.querySelector(".wipe").getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    wipe.show();
  },
};

document.addEventListener("input", (event) => {
  const input = event.target;
  if (input.id === "wipe") wipe.show();
  if (input.id === "brush") document.getElementById("brush-size").textContent = input.value;
  if (input.id === "scrub") {
    const name = JSON.parse(input.dataset.names)[input.value];
    input.setAttribute("aria-valuetext", name);
    document.getElementById("scrub-name").textContent = name;
  }
});
