// @ts-check
/** One image: masks, zoom, window and level, ruler, what is known of it, its group and its near-duplicates. */
import { $, api, counted, h, number, report, shortcuts, tail, toast } from '/static/dom.js';
import { decode } from '/static/rle.js';
import { Viewer, loaded, ruler } from '/static/viewer.js';
import { windowed, windowing } from '/static/window.js';

const corpus = document.body.dataset.corpus ?? '';
const viewer = new Viewer($('stage'));
/** @type {any} */ let image = null;
/** @type {{mask: any, layer: any}[]} */ let layers = [];
let measuring = false;
let playing = 0;
/** Structures that are switched off, kept from image to image. @type {Set<string>} */
const off = new Set();

const id = () => Number(location.pathname.split('/').pop());
const address = (/** @type {number} */ to) => `/image/${to}${location.search}`;

// ------------------------------------------------------------------------------------------------------- in the address

/** What decides how an image looks, beside the query that the address has from the grid. */
const LOOKS = ['masks', 'fill', 'outline', 'hide', 'window', 'view'];

/** Write how the image looks into the address; 'view' is the middle and how much of the image the width shows. */
function remember() {
  const parameters = new URLSearchParams(location.search);
  LOOKS.forEach((name) => parameters.delete(name));
  if (viewer.hidden) parameters.set('masks', '0');
  if (!viewer.filled) parameters.set('fill', '0');
  if (!viewer.outlined) parameters.set('outline', '0');
  off.forEach((structure) => parameters.append('hide', structure));
  if (deep) parameters.set('window', `${deep.low},${deep.high}`);
  else if (viewer.level !== 127.5 || viewer.range !== 255) parameters.set('window', `${viewer.level - viewer.range / 2},${viewer.level + viewer.range / 2}`);
  const { clientWidth, clientHeight } = viewer.canvas;
  if (!viewer.fitted) parameters.set('view', [...viewer.toImage(clientWidth / 2, clientHeight / 2), clientWidth / viewer.scale].map((value) => value.toFixed(2)).join(','));
  history.replaceState(null, '', `${location.pathname}${String(parameters) ? `?${parameters}` : ''}`);
}

let remembering = 0;
viewer.changed = () => { // all that counts is painted
  clearTimeout(remembering);
  remembering = window.setTimeout(remember, 200);
};

/** Numbers of a parameter, or none. @param {string} name @param {number} count */
function numbers(name, count) {
  const values = (asked.get(name) ?? '').split(',').map(Number);
  return values.length === count && values.every(Number.isFinite) ? values : [];
}

/** The address with which the page was opened. */
const asked = new URLSearchParams(location.search);
viewer.hidden = asked.get('masks') === '0';
viewer.filled = asked.get('fill') !== '0';
viewer.outlined = asked.get('outline') !== '0';
asked.getAll('hide').forEach((structure) => off.add(structure));
let opening = true;

/** Take the window from the address, once it is known whether the image has 8 bits. */
function openWindow() {
  const [low, high] = numbers('window', 2);
  if (!(low < high)) return;
  if (image.range) deep = { low, high, group: image.group };
  else viewer.setWindow((low + high) / 2, high - low);
}

/** Take zoom and place from the address, once the image has a size. */
function openView() {
  opening = false;
  const [x, y, span] = numbers('view', 3);
  if (!(span > 0)) return;
  viewer.zoom(viewer.canvas.clientWidth / span / viewer.scale);
  viewer.pan(viewer.canvas.clientWidth / 2 - viewer.x - x * viewer.scale, viewer.canvas.clientHeight / 2 - viewer.y - y * viewer.scale);
}

/** Show another image of the same query without loading the page anew. @param {number} to @param {boolean} [step] */
async function show(to, step = true) {
  const answer = await api(`/api/image/${to}${location.search}`);
  if (step) history.replaceState(null, '', address(to));
  image = answer;
  if (opening) openWindow();
  if (deep && deep.group !== image.group) deep = null;
  document.title = `${image.key} · us43d`;
  $('key').textContent = image.key;
  $('stage').setAttribute('aria-label', `${image.key}: ${image.masks.map((/** @type {any} */ m) => m.structure.replaceAll('_', ' ')).join(', ') || 'no mask'}`);
  $('position').textContent = image.place === null || image.place === undefined ? '' : `${number.format(image.place + 1)} of ${number.format(image.total)}`;
  /** @type {HTMLButtonElement} */ ($('previous')).disabled = !image.previous;
  /** @type {HTMLButtonElement} */ ($('next')).disabled = !image.next;
  const home = new URLSearchParams(location.search);
  LOOKS.forEach((name) => name !== 'masks' && home.delete(name));
  if (image.place) home.set('at', String(image.place));
  /** @type {HTMLAnchorElement} */ ($('back')).href = String(home) ? `/?${home}` : '/';
  draw();
  facts();
  frames();
  if (image.next) new Image().src = `/pixels/${image.next}?v=${corpus}`;
}

let drawing = 0;
async function draw() {
  const mine = ++drawing;
  $('no-image').hidden = image.shown;
  if (!image.shown) {
    $('no-image').textContent = image.facts.drop ? `Dropped: ${image.facts.drop}` : 'This sample has no image.';
    viewer.setLayers([]);
    viewer.image = null;
    viewer.paint();
    return;
  }
  let picture;
  try {
    picture = await loaded(pixels());
  } catch {
    if (mine !== drawing) return;
    viewer.image = null;
    viewer.paint();
    $('no-image').hidden = false;
    $('no-image').textContent = `The image file cannot be read. Run: us43d check ${image.source}`;
    return;
  }
  if (mine !== drawing) return;
  layers = image.masks.flatMap((/** @type {any} */ mask) => {
    const truth = { mask, layer: { mask: decode(mask.rle, image.height, image.width), colour: mask.colour, visible: !off.has(mask.structure) } };
    if (!mask.prediction) return [truth];
    return [truth, { mask, layer: { mask: decode(mask.prediction.rle, image.height, image.width), colour: [255, 255, 255], dashed: true, fill: false, visible: !off.has('prediction') } }];
  });
  for (const mask of image.other?.masks ?? []) layers.push({ mask, layer: { mask: decode(mask.rle, image.height, image.width), colour: [255, 255, 255], dashed: true, fill: false, visible: !off.has('prediction') } });
  viewer.setImage(picture, image.width, image.height);
  viewer.setLayers(layers.map(({ layer }) => layer));
  if (opening) openView();
  if (measuring) viewer.use(ruler(image.spacing));
}

// --------------------------------------------------------------------------------------------------------- what is known

/** @param {string} head @param {...any} children */
const section = (head, ...children) => h('section', {}, h('h2', {}, head), ...children);
/** @param {string} name @param {any} value */
const line = (name, value) => (value === null || value === undefined || value === '' ? null : h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, value)));

/** @param {string} structure @param {any[]} masks */
function switchOf(structure, masks) {
  const swatch = h('span', { class: 'swatch' });
  const beside = structure === 'prediction' || structure === 'other build'; // drawn dashed
  swatch.style.background = beside ? '#fff' : `rgb(${masks[0].colour.join(',')})`;
  const share = masks.reduce((sum, mask) => sum + mask.area, 0) / (image.width * image.height);
  const said = structure === 'other build' ? 'dashed' : structure === 'prediction' ? `Dice ${masks.map((mask) => mask.prediction.dice.toFixed(3)).join(', ')}` : `${masks.length > 1 ? `${masks.length} masks, ` : ''}${(100 * share).toFixed(1)} %`;
  return h('label', { class: 'structure' }, h('input', { type: 'checkbox', checked: !off.has(beside ? 'prediction' : structure), change: (/** @type {Event} */ event) => {
    /** @type {HTMLInputElement} */ (event.target).checked ? off.delete(beside ? 'prediction' : structure) : off.add(beside ? 'prediction' : structure);
    layers.forEach(({ mask, layer }) => (layer.visible = !off.has(layer.dashed ? 'prediction' : mask.structure)));
    viewer.paint();
  } }), swatch, h('span', { class: 'text' }, structure.replaceAll('_', ' ')), h('span', { class: 'number' }, said));
}

function facts() {
  const { facts: row } = image;
  /** @type {Map<string, any[]>} */ const structures = new Map();
  for (const mask of image.masks) structures.set(mask.structure, [...(structures.get(mask.structure) ?? []), mask]);
  const tags = Object.entries(JSON.parse(row.tags || '{}'));
  const remarks = JSON.parse(row.remarks || '[]');
  const diagnoses = [...new Set(image.masks.map((/** @type {any} */ mask) => mask.diagnosis).filter(Boolean))];
  const switches = [...structures].map(([structure, masks]) => switchOf(structure, masks));
  const predicted = image.masks.filter((/** @type {any} */ mask) => mask.prediction);
  $('facts').replaceChildren(...[
    section('Masks',
      h('div', { class: 'row' }, toggle('shown', 'Show', 'm', !viewer.hidden), toggle('fill', 'Fill', 'i', viewer.filled), toggle('outline', 'Outline', 'o', viewer.outlined), toggle('ruler', 'Ruler', 'r', measuring)),
      ...(switches.length ? switches : [h('p', { class: 'soft' }, image.shown ? 'No mask.' : 'Dropped samples have no mask.')]),
      predicted.length ? switchOf('prediction', predicted) : null,
      image.other?.masks.length ? switchOf('other build', image.other.masks) : null,
      image.other ? h('p', { class: 'soft', id: 'other' }, `Compared with the other build: ${image.other.state}${image.other.masks.length ? `, Dice ${image.other.dice.toFixed(3)}` : ''}.`) : null,
      image.correctable ? h('div', { class: 'row' }, h('a', { class: 'more', id: 'correct', href: `/correct/${image.id}`, title: 'Correct the masks (e)' }, 'Correct the masks')) : null,
      decision('fix', 'Corrected', image.fix), decision('wrong', 'Marked wrong', image.wrong)),
    section('Window', ...windowing(viewer, image.range, deep, (now) => { deep = now && { ...now, group: image.group }; draw().catch(report); })),
    image.twins.length ? section('Near-duplicates', strip(image.twins.map((/** @type {any} */ twin) => ({ ...twin, note: `${twin.why} · ${twin.split}` })))) : null,
    image.nearest.length ? section('In the group', strip(image.nearest.map((/** @type {any} */ other) => ({ ...other, note: `${other.at} of ${image.group_size}` })))) : null,
    section('Image', h('dl', {},
      line('Key', image.key), line('Id', String(image.id)), line('Source', h('a', { href: `/source/${image.slug}` }, image.source + (image.specimen ? ' (synthetic sample dataset)' : ''))), line('Build', image.build),
      line('Split', image.split), line('Split, why', image.why), line('Published split', row.official_split), line('Dropped because', row.drop),
      line(`Group${row.group_kind ? ` (${row.group_kind})` : ''}`, h('a', { href: `/?${new URLSearchParams({ source: image.source, group: image.group })}` }, `${image.group}, ${counted(image.group_size, 'image')}`)),
      line('Size', image.width ? `${number.format(image.width)} × ${number.format(image.height)} px${image.range ? ', 16 bits' : ''}` : null),
      line('Pixel spacing', image.spacing.length ? `${image.spacing.map((/** @type {number} */ v) => v.toPrecision(3)).join(' × ')} mm` : 'unknown'),
      line('Diagnosis', diagnoses.join(', ')), ...tags.map(([name, value]) => line(name.replaceAll('_', ' '), String(value))),
      ...remarks.map((/** @type {string} */ text) => line('Remark', text)),
      line('File', row.file), line('SHA-256', row.sha256))),
    image.shown ? h('a', { class: 'more', href: `/?${new URLSearchParams({ like: String(image.id) })}` }, 'Most similar images') : null,
    section('Licence', h('p', {}, image.licence.title || image.licence.id || 'unknown'), h('p', { class: 'soft' }, image.caveat),
      ...image.citations.map((/** @type {any} */ c) => h('p', { class: 'cite' }, [c.authors, c.title, c.venue, c.year].flat().filter(Boolean).join('. '))))].filter((part) => part !== null));
}

/** A correction or verdict that the next build applies. @param {string} name @param {string} text @param {any} entry */
const decision = (name, text, entry) => (entry ? h('p', { class: 'soft', id: name }, `${text} by ${entry.who} on ${entry.when}${entry.built ? '' : `; the next build applies it: ${image.rebuild}`}. `,
  h('button', { class: 'more', click: () => withdraw(entry).catch(report) }, 'Undo')) : null);

/** Undo a correction or verdict. @param {any} entry */
async function withdraw(entry) {
  await api('/api/review/undo', { method: 'POST', body: { id: entry.id } });
  toast(entry.built ? `Undone; the next build is made without it: ${image.rebuild}` : 'Undone.');
  await show(image.id, false);
}

/** Window of a 16-bit image; kept for the images of its group. @type {{low: number, high: number, group: string}|null} */
let deep = null;
const pixels = () => `/pixels/${image.id}?v=${corpus}&${windowed(deep)}`;

/** Show darker or brighter. @param {number} by share of the grey values by which the window's middle moves */
function shift(by) {
  if (image.range) {
    const { low, high } = deep ?? { low: image.range[0], high: image.range[1] };
    const far = Math.round(by * (image.range[1] - image.range[0]));
    deep = { low: low + far, high: high + far, group: image.group };
    draw().catch(report);
  } else viewer.setWindow(viewer.level + by * 255, viewer.range);
  facts();
}

/** @param {string} name @param {string} text @param {string} key @param {boolean} pressed */
const toggle = (name, text, key, pressed) => h('button', { class: 'toggle', id: `toggle-${name}`, 'aria-pressed': String(pressed), title: `${text} (${key})`, click: () => toggled[name]() }, text);
/** @type {Record<string, () => void>} */
const toggled = {
  shown: () => set('shown', (viewer.hidden = !viewer.hidden) === false),
  fill: () => set('fill', (viewer.filled = !viewer.filled)),
  outline: () => set('outline', (viewer.outlined = !viewer.outlined)),
  ruler: () => { measuring = !measuring; set('ruler', measuring); viewer.use(measuring ? ruler(image.spacing) : null); },
};
/** @param {string} name @param {boolean} pressed */
function set(name, pressed) {
  $(`toggle-${name}`)?.setAttribute('aria-pressed', String(pressed));
  viewer.paint();
}

/** @param {any[]} rows */
const strip = (rows) => h('div', { class: 'strip' }, ...rows.map((row) => h('a', { href: address(row.id), title: row.key, 'aria-label': `${row.key}, ${row.note}` },
  h('img', { src: `/thumb/${row.id}?v=${corpus}`, alt: '', loading: 'lazy' }), h('span', {}, tail(row.key)), h('span', { class: 'soft' }, row.note))));

// --------------------------------------------------------------------------------------------------------------- frames

function frames() {
  const many = image.members.length > 1;
  $('frames').hidden = !many;
  const slide = /** @type {HTMLInputElement} */ ($('frame'));
  slide.max = String(image.members.length - 1);
  slide.value = String(Math.max(0, image.members.indexOf(image.id)));
  slide.setAttribute('aria-valuetext', `${Number(slide.value) + 1} of ${image.members.length}`); // counted from 1, unlike the value
  $('frame-of').textContent = `${number.format(Number(slide.value) + 1)} / ${number.format(image.members.length)} in group ${image.group}`;
}

/** @param {number} by */
function frame(by) {
  const at = image.members.indexOf(image.id) + by;
  if (image.members[at]) return show(image.members[at]);
  return by > 0 && playing ? show(image.members[0]) : undefined;
}

let sliding = false;
$('frame').addEventListener('input', async () => {
  if (sliding) return;
  sliding = true;
  try {
    let to;
    do {
      to = Number(/** @type {HTMLInputElement} */ ($('frame')).value);
      const wanted = to;
      await show(image.members[wanted]);
      /** @type {HTMLInputElement} */ ($('frame')).value = String(wanted);
    } while (to !== Number(/** @type {HTMLInputElement} */ ($('frame')).value));
  } finally {
    sliding = false;
  }
});

function play() {
  const start = !playing;
  clearTimeout(playing);
  playing = 0;
  $('play').setAttribute('aria-pressed', String(start));
  $('play').textContent = start ? 'Pause' : 'Play';
  const step = async () => {
    const began = performance.now();
    await frame(1);
    if (playing) playing = window.setTimeout(step, Math.max(0, 60 - (performance.now() - began)));
  };
  if (start) playing = window.setTimeout(step, 0);
}
$('play').addEventListener('click', play);

// ------------------------------------------------------------------------------------------------------------- controls

viewer.hovered = (/** @type {number} */ x, /** @type {number} */ y) => {
  const inside = image?.shown && x >= 0 && y >= 0 && x < image.width && y < image.height;
  const names = inside ? layers.filter(({ layer }) => !layer.dashed && layer.mask[Math.floor(y) * image.width + Math.floor(x)]).map(({ mask }) => mask.structure.replaceAll('_', ' ')) : [];
  $('readout').textContent = inside ? [`x ${Math.floor(x)}  y ${Math.floor(y)}`, ...new Set(names)].join('  ·  ') : '';
};

const go = (/** @type {number|undefined} */ to) => to && show(to).catch(report);
$('previous').addEventListener('click', () => go(image.previous));
$('next').addEventListener('click', () => go(image.next));
shortcuts({
  ArrowLeft: { does: 'Previous or next image', run: () => go(image?.previous) },
  ArrowRight: { does: 'Previous or next image', run: () => go(image?.next) },
  ArrowUp: { does: 'Previous or next frame of the group', run: () => frame(-1) },
  ArrowDown: { does: 'Previous or next frame of the group', run: () => frame(1) },
  p: { does: 'Play the group', run: play },
  m: { does: 'Masks on or off', run: () => toggled.shown() },
  i: { does: 'Fill', run: () => toggled.fill() },
  o: { does: 'Outline', run: () => toggled.outline() },
  r: { does: 'Ruler: drag from end to end', run: () => toggled.ruler() },
  e: { does: 'Correct the masks', run: () => $('correct')?.click() },
  '+': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(1.25) },
  '=': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(1.25), show: '' },
  '-': { does: 'Zoom (also the wheel)', run: () => viewer.zoom(0.8) },
  '0': { does: 'Fit the image to the window', run: () => viewer.fit() },
  'Shift+ArrowLeft': { does: 'Move the image (also by dragging)', run: () => viewer.pan(60, 0) },
  'Shift+ArrowRight': { does: 'Move the image (also by dragging)', run: () => viewer.pan(-60, 0) },
  'Shift+ArrowUp': { does: 'Move the image (also by dragging)', run: () => viewer.pan(0, 60) },
  'Shift+ArrowDown': { does: 'Move the image (also by dragging)', run: () => viewer.pan(0, -60) },
  '[': { does: 'Darker or brighter', run: () => shift(0.04) },
  ']': { does: 'Darker or brighter', run: () => shift(-0.04) },
  Escape: { does: 'Back to the grid', run: () => /** @type {HTMLAnchorElement} */ ($('back')).click() },
});
window.addEventListener('pageshow', (event) => event.persisted && show(id(), false).catch(report));
window.addEventListener('popstate', () => show(id(), false).catch(report));
show(id(), false).catch(report);
