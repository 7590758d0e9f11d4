// @ts-check
/** Labelling: the model answers boxes and clicks, brush and polygon mend, every change is saved at once. */
import { $, Refused, ServerGone, api, h, keepFocus, number, report, shortcuts, toast } from '/static/dom.js';
import { decode, encode } from '/static/rle.js';
import { Viewer, loaded } from '/static/viewer.js';
import { windowed, windowing } from '/static/window.js';

/**
 * @typedef {{box: number[]|null, points: number[][], labels: number[]}} Prompt
 * @typedef {{structure: string, mask: Uint8Array, origin: string, prompt: Prompt|null, base: Uint8Array|null}} Thing
 * prompt: what the model was shown; base: the mask as it was before the first of these clicks, for masks drawn by hand.
 * Things are never changed, only replaced, so that undo keeps lists of them.
 */

/** Below which path the routes are: empty for `us43d label`, else the view of a corpus opened these tools. */
const base = document.body.dataset.base ?? '';
/** The query whose images are gone through, or null: the page that opened these tools gets the image back. */
const query = base && new URLSearchParams(location.search).has('through') ? new URLSearchParams(location.search) : null;
query?.delete('n');
/** @type {number|null} id of the image that follows the last one, in another source */ let following = null;
const viewer = new Viewer($('stage'));
viewer.opacity = 0.32;
/** @type {any} */ let overview = null;
/** @type {number[]} numbers of the items to go through, as the folder or the query has them */ let listed = [];
/** @type {number[]} these numbers in the order they are gone through */ let order = [];
/** @type {any} */ let image = null;
/** @type {Thing[]} */ let things = [];
let chosen = -1;
/** @type {{things: Thing[], chosen: number}[]} */ let past = [];
/** @type {{things: Thing[], chosen: number}[]} */ let future = [];
let width = 0;
let height = 0;
let tool = '';
let model = false;
/** @type {WeakMap<Uint8Array, string>} */ const packed = new WeakMap();
/** @type {Map<string, number[]>} */ const colours = new Map();

const colour = (/** @type {string} */ name) => colours.get(name) ?? [86, 180, 233];
/** Structure of what is drawn before a name is typed; the server knows it, too. */
const UNNAMED = 'unnamed';
const typed = () => /** @type {HTMLInputElement} */ ($('structure')).value.trim().replace(/\s+/g, '_');
const structure = () => typed() || UNNAMED;

// -------------------------------------------------------------------------------------------------------------- saving

/** Milliseconds until what the server could not write is sent again. */
const RETRY = 2000;
let dirty = false;
let timer = 0;
/** @type {Promise<void>|null} */ let saving = null;

/** @param {string} text @param {boolean} [error] */
function say(text, error = false) {
  $('saved').textContent = text;
  $('saved').className = error ? 'error' : '';
}

function changed() {
  if (!width) { // its masks are not on the page: saving would remove them
    toast('An image that cannot be read keeps its labels as they are.', 'error');
    return;
  }
  dirty = true;
  say('Saving…');
  clearTimeout(timer);
  timer = window.setTimeout(() => save().catch(report), 250);
}

/** Save what is on the page; waits for a save that is under way. @returns {Promise<void>} */
async function save() {
  clearTimeout(timer);
  while (saving) await saving;
  if (!dirty || !image) return;
  saving = write().finally(() => (saving = null));
  await saving;
}

async function write() {
  const here = image;
  dirty = false;
  const body = {
    revision: here.revision, patient: here.patient, reviewed: here.reviewed,
    objects: things.filter(({ mask }) => mask.includes(1)).map((thing) => ({ structure: thing.structure, rle: pack(thing.mask), origin: thing.origin })),
  };
  try {
    const answer = await api(`${base}/api/label/image/${here.number}`, { method: 'PUT', body });
    here.revision = answer.revision;
    const item = overview.items[here.number];
    Object.assign(item, { objects: body.objects.length, reviewed: here.reviewed, draft: body.objects.some((o) => o.origin === 'propagated') });
    if (!dirty) say('Saved');
    progress();
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      toast('Another window saved this image; its labels are shown. Undo brings back yours.', 'error');
      const mine = { things, chosen };
      take(error.content.state);
      past = [mine];
      say('Saved');
      draw();
      return;
    }
    dirty = true;
    say('Not saved', true);
    if (error instanceof ServerGone) return; // its return is waited for
    timer = window.setTimeout(() => save().catch(report), RETRY); // a disk has room again some time
    throw error;
  }
}

/** @param {Uint8Array} mask */
function pack(mask) {
  let text = packed.get(mask);
  if (text === undefined) packed.set(mask, (text = encode(mask, height, width)));
  return text;
}

document.addEventListener('server-back', () => (dirty ? save().catch(report) : undefined));
window.addEventListener('beforeunload', (event) => {
  if (dirty || saving) event.preventDefault();
});
document.addEventListener('visibilitychange', async () => {
  if (document.hidden) return save();
  if (!image || dirty) return;
  const state = await api(`${base}/api/label/image/${image.number}`);
  if (state.number === image.number && state.revision !== image.revision && !dirty) {
    take(state);
    draw();
  }
});

// ------------------------------------------------------------------------------------------------------------- history

/** Bytes of masks that the steps of one image keep; each step has changed one mask. */
const HISTORY = 200e6;
/** Images whose steps are kept, the last one at the end. @type {Map<number, {revision: number, things: Thing[], chosen: number, past: typeof past, future: typeof past}>} */
const histories = new Map();

/** Keep the steps of the image that is left, so that they can be undone on return. */
function leave() {
  if (!image || !width) return;
  histories.delete(image.number);
  histories.set(image.number, { revision: image.revision, things, chosen, past, future });
  if (histories.size > 3) histories.delete([...histories.keys()][0]);
}

/** Change the labels; a step that can be undone. @param {Thing[]} next @param {number} [choice] */
function commit(next, choice = chosen) {
  past.push({ things, chosen });
  if (past.length > Math.min(200, Math.max(10, HISTORY / (width * height)))) past.shift();
  future = [];
  things = next;
  chosen = Math.min(choice, next.length - 1);
  draw();
  changed();
}

/** @param {{things: Thing[], chosen: number}[]} from @param {{things: Thing[], chosen: number}[]} to */
function step(from, to) {
  const state = from.pop();
  if (!state) return;
  to.push({ things, chosen });
  ({ things, chosen } = state);
  draw();
  changed();
}

/** @param {Partial<Thing>} change @param {number} [index] */
const replaced = (change, index = chosen) => things.map((thing, n) => (n === index ? { ...thing, ...change } : thing));

// --------------------------------------------------------------------------------------------------------------- images

/** @param {any} state */
function take(state) {
  image = state;
  things = state.objects.map((/** @type {any} */ object) => {
    const mask = decode(object.rle, height, width);
    packed.set(mask, object.rle);
    return { structure: object.structure, mask, origin: object.origin, prompt: null, base: null };
  });
  chosen = things.length - 1;
  past = [];
  future = [];
}

/** @param {URLSearchParams} parameters @param {string} name */
function without(parameters, name) {
  const rest = new URLSearchParams(parameters);
  rest.delete(name);
  return rest;
}

let turn = 0;

/** @param {number} to number of an item */
async function show(to) {
  if (polygon.length) closePolygon();
  await save();
  if (dirty) return; // not saved: the image stays until it is
  const mine = ++turn;
  const { group } = overview.items[to];
  if (deep?.group !== group) deep = null;
  const [state, picture] = await Promise.all([
    api(`${base}/api/label/image/${to}`),
    loaded(pixels(to)).catch(() => null),
  ]);
  await save(); // what was drawn while the next image was on its way
  if (mine !== turn || dirty) return;
  leave();
  history.replaceState(null, '', `${base}/label?n=${to + 1}${query ? `&${query}` : ''}`);
  $('no-image').hidden = picture !== null;
  width = picture?.naturalWidth ?? 0;
  height = picture?.naturalHeight ?? 0;
  if (!picture) {
    viewer.image = null;
    Object.assign(state, { objects: [] });
    const why = await api(pixels(to)).catch((error) => error.message);
    if (mine !== turn) return;
    $('no-image').textContent = `This image cannot be read. ${why ?? ''}`;
  } else viewer.setImage(picture, width, height);
  /** @type {HTMLInputElement} */ ($('size')).max = String(Math.max(80, Math.round(Math.max(width, height) / 10)));
  take(state);
  const kept = histories.get(to);
  if (kept && kept.revision === image.revision && width) ({ things, chosen, past, future } = kept);
  $('name').textContent = image.name;
  $('stage').setAttribute('aria-label', image.name);
  /** @type {HTMLInputElement} */ ($('patient')).value = image.patient;
  say(image.saved ? 'Saved' : '');
  if (base) /** @type {HTMLAnchorElement} */ ($('back')).href = query ? `/?${without(query, 'through')}` : `/image/${image.id}`;
  $('window').replaceChildren(...windowing(viewer, image.range, deep, (now) => { deep = now && { ...now, group }; repaint().catch(report); }));
  pending = null;
  polygon = [];
  box = stroke = null;
  $('through-said').textContent = '';
  draw();
  progress();
  $('through').hidden = overview.items.filter((/** @type {any} */ item) => item.group === overview.items[to].group).length < 2;
}

/** Window of an image of more than 8 bits; kept for the frames of its file. @type {{low: number, high: number, group: number}|null} */
let deep = null;
/** @param {number} to number of an item */
const pixels = (to) => `${base}/api/label/pixels/${to}?${windowed(deep)}`;

let painting = 0;

/** Show the image through another window; labels and model are not touched. */
async function repaint() {
  const mine = ++painting;
  const here = image;
  const picture = await loaded(pixels(image.number));
  if (mine === painting && here === image) viewer.setImage(picture, width, height);
}

/** To the page that opened these tools. */
function back() {
  if (dirty) return; // not saved: the page stays until it is
  if (history.length > 1) history.back();
  else location.assign(/** @type {HTMLAnchorElement} */ ($('back')).href);
}

/** @param {number} by */
function go(by) {
  const at = order.indexOf(image?.number ?? 0) + by;
  if (order[at] !== undefined) return show(order[at]).catch(report);
  return undefined;
}

/** To the first image of the next file, or to that of this file, or of the one before. @param {number} by */
function leap(by) {
  const here = order.indexOf(image.number);
  const file = (/** @type {number} */ at) => overview.items[order[at]]?.group;
  const firsts = [...order.keys()].filter((at) => file(at) !== file(at - 1));
  const to = by > 0 ? firsts.find((at) => at > here) : firsts.findLast((at) => at < here);
  return to === undefined ? undefined : show(order[to]).catch(report);
}

/** @param {number} n number of an item */
const unlabelled = (n) => !overview.items[n].reviewed && (!overview.items[n].objects || overview.items[n].draft);
/** Number of images that are labelled. */
const labelled = () => listed.filter((n) => !unlabelled(n)).length;

/** To the next image that is not labelled, from the first one again after the last. */
function onwardToOpen() {
  const at = order.indexOf(image.number);
  const to = [...order.slice(at + 1), ...order.slice(0, at)].find(unlabelled);
  if (to === undefined) return toast(unlabelled(image.number) ? 'All other images are labelled.' : 'All images are labelled.');
  return show(to).catch(report);
}

function progress() {
  const at = order.indexOf(image.number);
  $('position').textContent = `${number.format(at + 1)} of ${number.format(order.length)}`;
  $('frame-of').textContent = `${number.format(labelled())} labelled`;
  const slide = /** @type {HTMLInputElement} */ ($('frame'));
  slide.max = String(order.length - 1);
  slide.value = String(at);
  slide.setAttribute('aria-valuetext', $('position').textContent ?? ''); // counted from 1, unlike the value
  /** @type {HTMLButtonElement} */ ($('previous')).disabled = at === 0;
  /** @type {HTMLButtonElement} */ ($('next')).disabled = at === order.length - 1;
  $('none').setAttribute('aria-pressed', String(image.reviewed));
}

// ------------------------------------------------------------------------------------------------------------- painting

function draw() {
  viewer.setLayers(things.map((thing, n) => ({ mask: thing.mask, colour: colour(thing.structure), dashed: thing.origin === 'propagated', fill: n === chosen })));
  keepFocus($('objects'), $('new'), () => $('objects').replaceChildren(...things.map((thing, n) => {
    const swatch = h('span', { class: 'swatch' });
    swatch.style.background = `rgb(${colour(thing.structure).join(',')})`;
    const name = thing.structure === UNNAMED ? 'no name yet' : thing.structure.replaceAll('_', ' ');
    return h('li', { class: n === chosen ? 'chosen' : '' }, swatch,
      h('button', { class: 'pick', 'aria-pressed': String(n === chosen), click: () => choose(n) }, name),
      h('span', { class: 'number' }, thing.origin === 'propagated' ? 'to check' : thing.origin === 'model' ? 'model' : ''),
      h('button', { class: 'icon', 'aria-label': `Delete ${name}`, title: 'Delete', click: () => remove(n) }, '×'));
  }), ...(things.length ? [] : [h('li', { class: 'soft' }, 'None yet')])));
  if (things[chosen]) /** @type {HTMLInputElement} */ ($('structure')).value = things[chosen].structure === UNNAMED ? '' : things[chosen].structure;
  $('unnamed').hidden = !things.some((thing) => thing.structure === UNNAMED);
  /** @type {HTMLButtonElement} */ ($('undo')).disabled = !past.length;
  /** @type {HTMLButtonElement} */ ($('redo')).disabled = !future.length;
}

/** @param {number} n */
function choose(n) {
  chosen = n;
  draw();
}

/** @param {number} n */
function remove(n) {
  commit(things.filter((_, place) => place !== n), Math.min(chosen, things.length - 2));
}

// ------------------------------------------------------------------------------------------------------------ the model

/** @type {Prompt|null} prompt whose answer is awaited */ let pending = null;
let asked = 0;
/** @type {Promise<void>} the answer to the last box; a further one waits for it */ let boxed = Promise.resolve();

/**
 * Ask the model. @param {Prompt} prompt @param {number} index of the thing, or things.length for a new one
 * @param {Uint8Array|null} drawn
 */
async function ask(prompt, index, drawn) {
  const mine = ++asked;
  const here = image;
  const target = things[index];
  pending = prompt;
  viewer.paint();
  const body = { box: prompt.box, points: prompt.points.map(([x, y]) => [x - 0.5, y - 0.5]), labels: prompt.labels };
  // On a mask drawn by hand a click takes away or adds what the model sees there.
  const minus = drawn && prompt.labels.length === 1 && prompt.labels[0] === 0;
  if (minus) body.labels = [1];
  try {
    const answer = await api(`${base}/api/label/prompt/${here.number}`, { method: 'POST', body });
    if (mine !== asked || here !== image || target !== things[index]) return; // it was changed or deleted meanwhile
    let mask = decode(answer.rle, height, width);
    if (drawn) mask = mask.map((value, n) => (minus ? drawn[n] & ~value & 1 : drawn[n] | value));
    const thing = { structure: things[index]?.structure ?? structure(), mask, origin: drawn ? 'person' : 'model', prompt, base: drawn };
    commit(index < things.length ? replaced(thing, index) : [...things, thing], index);
  } finally {
    if (mine === asked) pending = null;
    viewer.paint();
  }
}

/** @param {number} x @param {number} y @param {number} label */
function click(x, y, label) {
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const thing = things[chosen];
  const open = pending ?? thing?.prompt;
  if (open) {
    const prompt = { box: open.box, points: [...open.points, [x, y]], labels: [...open.labels, label] };
    ask(prompt, pending && !thing ? things.length : chosen, thing?.base ?? null).catch(report);
  } else if (thing) ask({ box: null, points: [[x, y]], labels: [label] }, chosen, thing.mask).catch(report);
  else if (label) ask({ box: null, points: [[x, y]], labels: [1] }, things.length, null).catch(report);
  else toast('The first click must be inside the structure.');
}

/** @param {CanvasRenderingContext2D} context */
function paintPrompt(context) {
  const prompt = pending ?? things[chosen]?.prompt;
  if (!prompt) return;
  const unit = 1 / viewer.scale;
  if (prompt.box) {
    const [x0, y0, x1, y1] = prompt.box;
    context.lineWidth = 1.5 * unit;
    context.strokeStyle = '#f0e442';
    context.setLineDash([4 * unit, 3 * unit]);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
  }
  prompt.points.forEach(([x, y], n) => {
    context.beginPath();
    context.arc(x, y, 7 * unit, 0, 7);
    context.fillStyle = prompt.labels[n] ? '#009e73' : '#d55e00';
    context.fill();
    context.lineWidth = 2 * unit;
    context.strokeStyle = '#fff';
    context.beginPath();
    context.moveTo(x - 3.5 * unit, y);
    context.lineTo(x + 3.5 * unit, y);
    if (prompt.labels[n]) {
      context.moveTo(x, y - 3.5 * unit);
      context.lineTo(x, y + 3.5 * unit);
    }
    context.stroke();
  });
}

// --------------------------------------------------------------------------------------------------------------- tools

/** @type {number[]|null} */ let box = null;
/** @type {Uint8Array|null} */ let stroke = null;
/** @type {[number, number]|null} */ let before = null;
/** @type {[number, number]|null} */ let cursor = null;
/** @type {[number, number][]} */ let polygon = [];
const size = () => Number(/** @type {HTMLInputElement} */ ($('size')).value) / 2;

/** Set pixels whose centre lies within the brush along a line. @param {Uint8Array} mask @param {number[]} from @param {number[]} to @param {number} value */
function stamp(mask, [x0, y0], [x1, y1], value) {
  const radius = Math.max(0.5, size());
  const long = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(1, radius / 2)));
  for (let n = 0; n <= long; n++) {
    const x = x0 + ((x1 - x0) * n) / long;
    const y = y0 + ((y1 - y0) * n) / long;
    for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row++) {
      const reach = radius * radius - (row + 0.5 - y) ** 2;
      if (reach < 0) continue;
      const half = Math.sqrt(reach);
      for (let column = Math.max(0, Math.ceil(x - half - 0.5)); column <= Math.min(width - 1, x + half - 0.5); column++) mask[row * width + column] = value;
    }
    const [down, right] = [Math.floor(y), Math.floor(x)];
    if (down >= 0 && right >= 0 && down < height && right < width) mask[down * width + right] = value;
  }
}

/** Pixels whose centre lies inside a polygon, even-odd, as training reads polygons. @param {[number, number][]} corners */
function filled(corners) {
  const mask = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const y = row + 0.5;
    /** @type {number[]} */ const crossings = [];
    corners.forEach(([x0, y0], n) => {
      const [x1, y1] = corners[(n + 1) % corners.length];
      if (Math.min(y0, y1) <= y && y < Math.max(y0, y1)) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
    });
    crossings.sort((a, b) => a - b);
    for (let n = 0; n + 1 < crossings.length; n += 2) {
      for (let column = Math.max(0, Math.ceil(crossings[n] - 0.5)); column < Math.min(width, Math.ceil(crossings[n + 1] - 0.5)); column++) mask[row * width + column] ^= 1;
    }
  }
  return mask;
}

/** Add a mask to the thing that is chosen, or make it a new one. @param {Uint8Array} mask */
function add(mask) {
  const thing = things[chosen];
  if (!thing) commit([...things, { structure: structure(), mask, origin: 'person', prompt: null, base: null }], things.length);
  else commit(replaced({ mask, origin: 'person', prompt: null, base: null }));
}

/** @param {number} value @returns {import('/static/viewer.js').Tool} */
const brush = (value) => ({
  cursor: 'none',
  down: (x, y) => {
    if (!width || (!value && !things[chosen])) return;
    stroke = things[chosen] ? things[chosen].mask.slice() : new Uint8Array(width * height);
    stamp(stroke, [x, y], [x, y], value);
    before = [x, y];
    preview();
  },
  move: (x, y) => {
    cursor = [x, y];
    if (!stroke || !before) return;
    stamp(stroke, before, [x, y], value);
    before = [x, y];
    viewer.touched(stroke);
  },
  up: () => {
    if (stroke) add(stroke);
    stroke = null;
  },
  hover: (x, y) => (cursor = [x, y]),
  paint: (context) => {
    if (!cursor) return;
    context.beginPath();
    context.arc(cursor[0], cursor[1], Math.max(0.5, size()), 0, 7);
    context.lineWidth = 1.5 / viewer.scale;
    context.strokeStyle = value ? '#fff' : '#ff9b80';
    context.stroke();
  },
});

/** Show the mask that is being drawn in place of the one that is kept. */
function preview() {
  const mask = /** @type {Uint8Array} */ (stroke);
  const layers = things.map((thing, n) => ({ mask: n === chosen ? mask : thing.mask, colour: colour(thing.structure), fill: n === chosen }));
  if (!things[chosen]) layers.push({ mask, colour: colour(structure()), fill: true });
  viewer.setLayers(layers);
}

function closePolygon() {
  if (polygon.length > 2) {
    const mask = filled(polygon);
    const thing = things[chosen];
    if (mask.includes(1)) add(thing ? mask.map((value, n) => value | thing.mask[n]) : mask);
  }
  polygon = [];
  viewer.paint();
}

/** @type {Record<string, import('/static/viewer.js').Tool|null>} */
const tools = {
  v: null,
  b: {
    down: (x, y) => (box = [x, y, x, y]),
    move: (x, y) => box && (box = [box[0], box[1], x, y]),
    up: (x, y, event) => {
      const [x0, y0] = box ?? [x, y];
      box = null;
      const corners = [Math.max(0, Math.min(x0, x)), Math.max(0, Math.min(y0, y)), Math.min(width, Math.max(x0, x)), Math.min(height, Math.max(y0, y))];
      if ((corners[2] - corners[0]) * viewer.scale < 4 || (corners[3] - corners[1]) * viewer.scale < 4) click(x, y, event.button === 2 || event.shiftKey ? 0 : 1);
      else {
        const here = image;
        boxed = boxed.then(() => (here === image ? ask({ box: corners, points: [], labels: [] }, things.length, null) : undefined)).catch(report);
      }
    },
    paint: (context) => {
      if (box) {
        context.lineWidth = 1.5 / viewer.scale;
        context.strokeStyle = '#f0e442';
        context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
      }
      paintPrompt(context);
    },
  },
  c: {
    down: (x, y, event) => click(x, y, event.button === 2 || event.shiftKey ? 0 : 1),
    paint: paintPrompt,
  },
  d: brush(1),
  e: brush(0),
  g: {
    down: (x, y) => {
      const near = polygon.length > 2 && Math.hypot(x - polygon[0][0], y - polygon[0][1]) * viewer.scale < 10;
      if (near) closePolygon();
      else polygon.push([x, y]);
    },
    hover: (x, y) => (cursor = [x, y]),
    paint: (context) => {
      if (!polygon.length) return;
      const unit = 1 / viewer.scale;
      context.beginPath();
      polygon.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (cursor) context.lineTo(...cursor);
      context.lineWidth = 1.5 * unit;
      context.strokeStyle = '#f0e442';
      context.stroke();
      context.fillStyle = '#f0e442';
      polygon.forEach(([x, y]) => context.fillRect(x - 3 * unit, y - 3 * unit, 6 * unit, 6 * unit));
    },
  },
};

/** @param {string} name */
function use(name) {
  if ((name === 'b' || name === 'c') && !model) return toast('No model: start us43d label with --weights.');
  if (polygon.length) closePolygon();
  tool = name;
  box = null;
  stroke = null;
  cursor = null;
  polygon = [];
  document.querySelectorAll('[data-tool]').forEach((button) => button.setAttribute('aria-pressed', String(button.getAttribute('data-tool') === name)));
  $('brush-size').hidden = name !== 'd' && name !== 'e';
  viewer.use(tools[name]);
  return undefined;
}

// ---------------------------------------------------------------------------------------------------- through the frames

/** The image before this one in its file that has labels, or after it. @param {number} by */
function neighbour(by) {
  const { items } = overview;
  for (let n = image.number + by; items[n] && items[n].group === items[image.number].group; n += by) if (items[n].objects) return n;
  return -1;
}

async function carry() {
  const from = neighbour(-1);
  if (from < 0) return toast('No frame before this one has labels.');
  $('through-said').textContent = 'Following the masks…';
  try {
    const here = image;
    const answer = await api(`${base}/api/label/carry/${here.number}`, { method: 'POST', body: { from } });
    if (here !== image) return undefined;
    const checked = things.filter((thing) => thing.origin !== 'propagated'); // taken over again, they are not there twice
    commit([...checked, ...answer.objects.map((/** @type {any} */ object) => ({ structure: object.structure, mask: decode(object.rle, height, width), origin: 'propagated', prompt: null, base: null }))], checked.length);
    if (answer.skipped) toast(`Objects of another image size, not taken over: ${answer.skipped}.`);
  } finally {
    $('through-said').textContent = '';
  }
  return undefined;
}

/** To the next image; an unlabelled frame starts from the masks of the one before. */
async function onward() {
  const from = image.number;
  if (from === order.at(-1)) {
    await save();
    const left = order.length - labelled();
    if (dirty) return; // not saved: the page stays until it is
    if (query && following !== null) location.assign(`/correct/${following}?${query}`);
    else toast(`This is the last image. ${left ? `Not labelled yet: ${number.format(left)} (u).` : `Next: ${overview.command}`}`);
    return;
  }
  await go(1);
  const [last, item] = [overview.items[from], overview.items[image.number]];
  const follows = image.number === from + 1 && item.group === last.group && item.frame !== null && last.objects;
  if (follows && !image.saved && !things.length && /** @type {HTMLInputElement} */ ($('follow')).checked) await carry();
}

async function fill() {
  await save();
  const first = neighbour(-1);
  if (first < 0 || !things.length) return toast('Label this frame and one before it; the frames between are filled.');
  const last = image.number;
  if (last - first < 2) return toast('No frames are between this one and the labelled frame before it.');
  let filledFrames = 0;
  let skipped = 0;
  let [agreement, doubtful] = [1, 0];
  try {
    for (let n = last - 1; overview.model && n > first; n--) {
      $('through-said').textContent = `Following the objects back, frame ${last - n} of ${last - first - 1}…`;
      await api(`${base}/api/label/back/${n}`, { method: 'POST', body: { first, last } });
    }
    for (let n = first + 1; n < last; n++) {
      $('through-said').textContent = `Frame ${n - first} of ${last - first - 1}…`;
      const answer = await api(`${base}/api/label/fill/${n}`, { method: 'POST', body: { first, last } });
      filledFrames += answer.filled ? 1 : 0;
      skipped = Math.max(skipped, answer.skipped); // the same objects in every frame
      if (answer.agreement < agreement) [agreement, doubtful] = [answer.agreement, n];
    }
  } finally {
    const alone = skipped ? ` Objects without a counterpart of their structure, not filled: ${skipped}.` : '';
    const check = doubtful && overview.model ? ` Check ${number.format(order.indexOf(doubtful) + 1)} first: both ways agree least there (IoU ${agreement.toFixed(2)}).` : '';
    $('through-said').textContent = `${filledFrames} frames filled; they are marked “to check”.${check}${alone}`;
    overview = await api(`${base}/api/label`);
    progress();
  }
  return undefined;
}

/** Put the images the model knows least first; those that are labelled stay at the end. */
async function sortUncertain() {
  const scores = new Map();
  /** @type {Refused|null} */ let fault = null;
  const bare = listed.filter((n) => !overview.items[n].objects && !overview.items[n].reviewed);
  const began = performance.now();
  for (const [at, n] of bare.entries()) {
    if (/** @type {HTMLSelectElement} */ ($('order')).value !== 'uncertain') return say('');
    const left = at > 2 ? `, about ${Math.ceil(((performance.now() - began) / at) * (bare.length - at) / 60000)} min` : '';
    say(`Ranking image ${number.format(at + 1)} of ${number.format(bare.length)}${left}…`);
    try {
      scores.set(n, (await api(`${base}/api/label/certainty/${n}`)).certainty);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      fault = error; // an image that cannot be read comes last
    }
  }
  if (fault && !scores.size) throw fault;
  order = [...listed].sort((a, b) => (scores.get(a) ?? 2) - (scores.get(b) ?? 2) || a - b);
  say('');
  return show(order[0]);
}

// ------------------------------------------------------------------------------------------------------------- controls

// After a click with the mouse the keys belong to the image again.
document.addEventListener('click', (event) => {
  if (event.detail && /** @type {HTMLElement} */ (event.target).closest('button')) $('stage').focus({ preventScroll: true });
});

document.querySelectorAll('[data-tool]').forEach((button) => button.addEventListener('click', () => use(button.getAttribute('data-tool') ?? 'v')));
$('undo').addEventListener('click', () => step(past, future));
$('redo').addEventListener('click', () => step(future, past));
$('previous').addEventListener('click', () => go(-1));
$('next').addEventListener('click', () => go(1));
$('new').addEventListener('click', () => choose(-1));
$('carry').addEventListener('click', () => carry().catch(report));
$('fill').addEventListener('click', () => fill().catch(report));
$('frame').addEventListener('change', () => show(order[Number(/** @type {HTMLInputElement} */ ($('frame')).value)]).catch(report));
$('none').addEventListener('click', reviewed);
$('order').addEventListener('change', () => {
  if (/** @type {HTMLSelectElement} */ ($('order')).value === 'uncertain') sortUncertain().catch(report);
  else {
    order = [...listed];
    progress();
  }
});
$('patient').addEventListener('change', () => {
  image.patient = /** @type {HTMLInputElement} */ ($('patient')).value;
  changed();
});
$('structure').addEventListener('change', () => {
  const name = typed();
  if (!name) return draw();
  if (!overview.open && !overview.structures.some((/** @type {any} */ entry) => entry.name === name)) {
    toast(`${name} is not in the taxonomy, and masks of a source take no other names.`, 'error');
    /** @type {HTMLInputElement} */ ($('structure')).value = '';
    return draw();
  }
  /** @type {HTMLInputElement} */ ($('structure')).value = name;
  if (!colours.has(name)) colours.set(name, [[86, 180, 233], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [160, 130, 255]][colours.size % 6]);
  if (things[chosen] && things[chosen].structure !== name) commit(replaced({ structure: name }));
  /** @type {HTMLInputElement} */ ($('structure')).blur();
  return undefined;
});
$('structure').addEventListener('keydown', (event) => event.key === 'Enter' && $('stage').focus({ preventScroll: true }));

/** What was carried over is confirmed, an image without structures is one on purpose. */
function reviewed() {
  const nameless = things.findIndex((thing) => thing.structure === UNNAMED);
  if (nameless >= 0) {
    choose(nameless);
    $('structure').focus();
    return toast('Type the name of the structure first.', 'error');
  }
  if (width) image.reviewed = !image.reviewed;
  if (image.reviewed) things = things.map((thing) => (thing.origin === 'propagated' ? { ...thing, origin: 'person' } : thing));
  draw();
  changed();
  return progress();
}

viewer.hovered = (/** @type {number} */ x, /** @type {number} */ y) => {
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  $('readout').textContent = inside ? `x ${Math.floor(x)}  y ${Math.floor(y)}` : '';
};

/** Places for the keyboard: a cursor that arrows move and Space presses. @param {number} dx @param {number} dy */
function nudge(dx, dy) {
  const far = Math.max(1, Math.round(6 / viewer.scale));
  const { clientWidth, clientHeight } = viewer.canvas;
  cursor = cursor ?? viewer.toImage(clientWidth / 2, clientHeight / 2);
  cursor = [Math.min(width - 1, Math.max(0, cursor[0] + dx * far)), Math.min(height - 1, Math.max(0, cursor[1] + dy * far))];
  $('readout').textContent = `x ${Math.floor(cursor[0])}  y ${Math.floor(cursor[1])}`;
  marker = true;
  const beyond = (/** @type {number} */ at, /** @type {number} */ extent) => Math.max(0, 8 - at) - Math.max(0, at + 8 - extent);
  const [right, down] = [beyond(cursor[0] * viewer.scale + viewer.x, clientWidth), beyond(cursor[1] * viewer.scale + viewer.y, clientHeight)];
  if (right || down) viewer.pan(right, down); // the cursor stays in sight
  viewer.paint();
}
let marker = false;
viewer.changed = () => {
  if (!marker || !cursor) return;
  const { context } = viewer;
  context.beginPath();
  context.lineWidth = 2 / viewer.scale;
  context.strokeStyle = '#fff';
  context.arc(cursor[0], cursor[1], 9 / viewer.scale, 0, 7);
  context.stroke();
};
$('stage').addEventListener('pointermove', () => (marker = false));

/** @param {number} label */
function press(label) {
  if (!cursor) return;
  if (tool === 'g') polygon.push([...cursor]);
  else if (tool === 'd' || (tool === 'e' && things[chosen])) {
    const mask = things[chosen] ? things[chosen].mask.slice() : new Uint8Array(width * height);
    stamp(mask, cursor, cursor, tool === 'd' ? 1 : 0);
    add(mask);
  } else if (model) click(cursor[0], cursor[1], label);
  viewer.paint();
}

const resize = (/** @type {number} */ by) => {
  const field = /** @type {HTMLInputElement} */ ($('size'));
  field.value = String(Number(field.value) + by);
  viewer.paint();
};
shortcuts({
  b: { does: 'Box: drag around a structure', run: () => use('b') },
  c: { does: 'Clicks: left inside, right (or Shift) outside', run: () => use('c') },
  d: { does: 'Brush', run: () => use('d') },
  e: { does: 'Eraser', run: () => use('e') },
  g: { does: 'Polygon: Enter or a click on the first corner closes it', run: () => use('g') },
  v: { does: 'Move the image (also Space and drag)', run: () => use('v') },
  n: { does: 'New object', run: () => choose(-1) },
  s: { does: 'Name of the structure', run: () => /** @type {HTMLInputElement} */ ($('structure')).select() },
  o: { does: 'Next object', run: () => things.length && choose((chosen + 1) % things.length) },
  Delete: { does: 'Delete the object', run: () => things[chosen] && remove(chosen) },
  Backspace: { does: 'Delete the object', run: () => things[chosen] && remove(chosen) },
  'Ctrl+z': { does: 'Undo', run: () => step(past, future) },
  'Ctrl+Shift+z': { does: 'Redo', run: () => step(future, past) },
  'Ctrl+y': { does: 'Redo', run: () => step(future, past) },
  '[': { does: 'Smaller or larger brush', run: () => resize(-2) },
  ']': { does: 'Smaller or larger brush', run: () => resize(2) },
  '.': { does: 'Next or previous image', run: () => go(1) },
  ',': { does: 'Next or previous image', run: () => go(-1) },
  PageDown: { does: 'First frame of the next clip; of this or the previous one', run: () => image && leap(1) },
  PageUp: { does: 'First frame of the next clip; of this or the previous one', run: () => image && leap(-1) },
  u: { does: 'Next image that is not labelled', run: () => image && onwardToOpen() },
  Enter: { once: true, does: base && !query ? 'Confirm the masks and go back (closes a polygon first)' : 'Reviewed, next image (closes a polygon first)', run: () => {
    if (!image) return undefined; // the first image is on its way
    if (polygon.length) return closePolygon();
    if (!image.reviewed) reviewed();
    if (!image.reviewed && width) return undefined; // a name is missing
    return base && !query ? save().then(back, report) : onward().catch(report);
  } },
  Escape: { does: 'Cancel the polygon; deselect the object', run: () => { polygon = []; choose(-1); } },
  t: { does: 'Take the masks from the labelled frame before', run: () => image && carry().catch(report) },
  y: { does: 'Fill the frames between with masks', run: () => image && fill().catch(report) },
  ArrowUp: { does: 'Move a cursor over the image', run: () => nudge(0, -1) },
  ArrowDown: { does: 'Move a cursor over the image', run: () => nudge(0, 1) },
  ArrowLeft: { does: 'Move a cursor over the image', run: () => nudge(-1, 0) },
  ArrowRight: { does: 'Move a cursor over the image', run: () => nudge(1, 0) },
  x: { does: 'Press there: click inside, brush or corner', run: () => press(1) },
  z: { does: 'Press there: click outside', run: () => press(0) },
  m: { does: 'Masks on or off', run: () => { viewer.hidden = !viewer.hidden; viewer.paint(); } },
  '+': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(1.25) },
  '=': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(1.25), show: '' },
  '-': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(0.8) },
  '0': { does: 'Fit the image to the window', run: () => viewer.fit() },
});

overview = await api(`${base}/api/label`);
model = overview.model;
listed = [...overview.items.keys()];
if (query) {
  const answer = await api(`/api/correct/order/${base.split('/').pop()}?${query}`);
  const places = new Map(overview.items.map((/** @type {any} */ item, /** @type {number} */ n) => [item.id, n]));
  listed = answer.ids.map((/** @type {number} */ id) => places.get(id));
  following = answer.next;
}
order = [...listed];
overview.structures.forEach((/** @type {any} */ entry) => colours.set(entry.name, entry.colour));
$('structures').replaceChildren(...overview.structures.map((/** @type {any} */ entry) => h('option', { value: entry.name }, entry.organ)));
$('folder').textContent = overview.folder;
$('command').textContent = overview.command;
const used = overview.structures.filter((/** @type {any} */ entry) => entry.used);
if (used.length) /** @type {HTMLInputElement} */ ($('structure')).value = used[0].name;
use(model ? 'b' : 'd');
const entered = !new URLSearchParams(location.search).has('n');
await show(Math.min(overview.items.length - 1, Math.max(0, (Number(new URLSearchParams(location.search).get('n')) || 1) - 1)));
if (entered && labelled()) toast(`Labelled: ${number.format(labelled())} of ${number.format(listed.length)}. u goes to the next one that is not.`);
