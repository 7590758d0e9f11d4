// @ts-check
/** Decide on pairs, masks and predictions, one after the other, by key. */
import { $, api, counted, h, number, report, shortcuts, toast } from '/static/dom.js';
import { decode } from '/static/rle.js';
import { Viewer, loaded } from '/static/viewer.js';

const corpus = document.body.dataset.corpus ?? '';
const first = new Viewer($('first'));
const second = new Viewer($('second'));
/** @type {any[]} */ let rows = [];
let at = 0;
/** Empty until the server has chosen one. */
let kind = new URLSearchParams(location.search).get('kind') ?? '';
/** A verdict, 'open' for things without one, '' for all. */
let wanted = new URLSearchParams(location.search).get('verdict') ?? 'open';
/** @type {any} what is shown, null until it is: a verdict is on what was seen */ let thing = null;
let undecided = 0;
/** @type {any[]} the images of the thing */ let images = [];
/** @type {HTMLImageElement[]} */ let pictures = [];
/** @type {HTMLImageElement|null} the first image laid on the second */ let laid = null;
/** @type {{id: string, kind: string, number: number}[]} verdicts given here, the last one at the end */ const given = [];
let blinking = 0;
let differing = false;

const tab = () => /** @type {HTMLElement} */ (document.querySelector(`[data-kind="${CSS.escape(kind)}"]`) ?? document.querySelector('[data-kind]'));
const verdicts = () => (tab().dataset.verdicts ?? '').split('|');
const KEYS = ['1', '2', '3', '4'];

/** Show other things. @param {string} what kind @param {string} verdict */
function filter(what, verdict) {
  [kind, wanted, at] = [what, verdict, 0];
  history.replaceState(null, '', `/review?${new URLSearchParams({ kind, verdict })}`);
  list().catch(report);
}

/** @param {number} [keep] number of the thing to stay at */
async function list(keep) {
  const answer = await api(`/api/review?${new URLSearchParams({ kind, verdict: wanted })}`);
  ({ kind, rows, open: undecided } = answer);
  thing = null;
  document.querySelectorAll('[data-kind]').forEach((button) => {
    const count = answer.counts[button.getAttribute('data-kind') ?? ''];
    /** @type {HTMLButtonElement} */ (button).disabled = !count;
    button.setAttribute('aria-pressed', String(button.getAttribute('data-kind') === kind));
    /** @type {HTMLElement} */ (button.querySelector('.number')).textContent = number.format(count);
  });
  $('verdict').replaceChildren(...[['open', 'Undecided'], ['', 'All'], ...verdicts().map((verdict) => [verdict, verdict])].map(([value, text]) => h('option', { value, selected: value === wanted }, text)));
  const place = rows.findIndex((row) => row.number === keep);
  at = place >= 0 ? place : Math.min(at, Math.max(0, rows.length - 1));
  if (!rows.length) $('position').textContent = '';
  $('empty').hidden = rows.length > 0;
  $('then').replaceChildren(...(answer.kind === 'near' ? [] : ['An image whose masks are wrong is excluded until they are corrected (e). ']), ...(answer.rebuild ? ['Builds apply these verdicts: ', h('code', {}, answer.rebuild)] : []));
  $('pair').hidden = $('verdicts').hidden = rows.length === 0;
  $('empty-said').textContent = !answer.total ? (kind === 'prediction' ? 'Open the predictions of an evaluation: us43d view --eval FOLDER' : answer.audited ? 'The last us43d audit reported nothing of this kind.' : 'Run us43d audit --all, then open the page again.') : answer.open ? `${counted(answer.open, 'decision')} left; none has this verdict.` : `All ${counted(answer.total, 'verdict')} are given.`;
  if (rows.length) await show();
}

let turn = 0;
async function show() {
  const mine = ++turn;
  thing = null;
  stop();
  const row = rows[at];
  const [told, ...facts] = await Promise.all([api(`/api/review/${kind}/${row.number}`), ...row.ids.map((/** @type {number} */ id) => api(`/api/image/${id}`))]);
  const shown = await Promise.all(facts.map((image) => loaded(`/pixels/${image.id}?v=${corpus}`).catch(() => null)));
  if (mine !== turn) return;
  thing = told;
  images = facts;
  pictures = /** @type {HTMLImageElement[]} */ (shown);
  laid = null;
  $('second-figure').hidden = images.length < 2;
  for (const [n, viewer] of [first, second].entries()) {
    const image = images[n];
    if (!image) continue;
    viewer.fitted = true;
    if (pictures[n]) viewer.setImage(pictures[n], image.width, image.height);
    else {
      viewer.image = null;
      viewer.paint();
    }
    viewer.setLayers(layers(image));
    const said = $(n ? 'second-said' : 'first-said');
    said.replaceChildren(h('a', { href: `/image/${image.id}` }, image.key), ...(image.correctable ? [' · ', h('a', { class: 'correct', href: `/correct/${image.id}` }, image.fix ? 'corrected; correct again' : 'correct the masks')] : []), h('br'), h('span', { class: 'soft' }, `${image.source} · ${image.split} · group ${image.group}${pictures[n] ? '' : ' · cannot be read'}`));
    viewer.canvas.setAttribute('aria-label', `${image.key}, ${image.split}`);
  }
  $('detail').textContent = row.detail + (row.crosses ? ' · the two are in different splits' : '');
  /** @type {HTMLButtonElement} */ ($('blink')).disabled = !comparable();
  /** @type {HTMLButtonElement} */ ($('difference')).disabled = !comparable();
  $('choices').replaceChildren(...verdicts().map((verdict, n) => h('button', { class: 'toggle', 'aria-pressed': String(thing.verdict?.verdict === verdict), click: () => decide(verdict) }, verdict, ' ', h('kbd', {}, KEYS[n]))));
  /** @type {HTMLButtonElement} */ ($('previous')).disabled = at === 0;
  /** @type {HTMLButtonElement} */ ($('next')).disabled = at >= rows.length - 1;
  $('position').textContent = `${number.format(at + 1)} of ${number.format(rows.length)} · ${number.format(undecided)} undecided`;
  /** @type {HTMLButtonElement} */ ($('undo')).disabled = !given.length && !thing.verdict;
}

/** @param {any} image */
function layers(image) {
  return image.masks.flatMap((/** @type {any} */ mask) => [
    { mask: decode(mask.rle, image.height, image.width), colour: mask.colour },
    ...(mask.prediction ? [{ mask: decode(mask.prediction.rle, image.height, image.width), colour: [255, 255, 255], dashed: true, fill: false }] : []),
  ]);
}

/** @param {string} verdict */
async function decide(verdict) {
  if (!thing || !verdict) return;
  const here = rows[at].number;
  const seen = thing;
  thing = null;
  try {
    const answer = await api('/api/review', { method: 'POST', body: { kind, number: here, verdict } });
    given.push({ id: answer.id, kind, number: here });
  } catch (error) {
    thing = seen;
    throw error;
  }
  toast(`${verdict[0].toUpperCase()}${verdict.slice(1)}. z undoes it.`);
  const next = rows[at + 1]?.number;
  if (!wanted && next === undefined) await list(here);
  else await list(next);
}

async function undo() {
  const last = given.at(-1);
  const id = last?.id ?? thing?.verdict?.id;
  if (!id) return;
  await api('/api/review/undo', { method: 'POST', body: { id } });
  given.pop();
  toast('Undone.');
  await list(last?.kind === kind ? last.number : rows[at]?.number);
}

// ------------------------------------------------------------------------------------------------------------- comparing

const comparable = () => pictures.length === 2 && pictures.every(Boolean);

/** The first image in the place of the second: aligned where the audit says how, else as it is. */
async function aligned() {
  if (!laid) laid = thing.alignable ? await loaded(`/api/review/${kind}/${rows[at].number}/aligned`) : pictures[0];
  return laid;
}

function stop() {
  clearInterval(blinking);
  blinking = 0;
  differing = false;
  $('blink').setAttribute('aria-pressed', 'false');
  $('difference').setAttribute('aria-pressed', 'false');
}

function restore() {
  stop();
  if (pictures[1]) second.setImage(pictures[1], images[1].width, images[1].height);
}

async function blink() {
  if (!comparable()) return;
  if (blinking) return restore();
  restore();
  const other = await aligned();
  let turned = false;
  $('blink').setAttribute('aria-pressed', 'true');
  blinking = window.setInterval(() => {
    turned = !turned;
    second.setImage(turned ? other : pictures[1], images[1].width, images[1].height);
  }, 420);
  return undefined;
}

async function difference() {
  if (!comparable()) return;
  if (differing) return restore();
  restore();
  const other = await aligned();
  const { width, height } = images[1];
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  context.drawImage(pictures[1], 0, 0);
  context.globalCompositeOperation = 'difference';
  context.drawImage(other, 0, 0, width, height);
  second.setImage(canvas, width, height);
  differing = true;
  $('difference').setAttribute('aria-pressed', 'true');
  return undefined;
}

function masks() {
  first.hidden = second.hidden = !first.hidden;
  $('masks').setAttribute('aria-pressed', String(!first.hidden));
  first.paint();
  second.paint();
}

/** Open the label tools. @param {number} n which image */
function open(n) {
  if (images[n]?.correctable) location.assign(`/correct/${images[n].id}`);
}

/** @param {number} by */
function go(by) {
  const to = at + by;
  if (!rows[to]) return;
  at = to;
  show().catch(report);
}

// Both move together, so that the same place is seen in both.
let following = false;
for (const [one, other] of [[first, second], [second, first]]) {
  one.changed = () => {
    if (following || one.fitted || images.length < 2 || !one.width || !other.width) return;
    following = true;
    const ratio = one.width / other.width;
    Object.assign(other, { scale: one.scale * ratio, x: one.x, y: one.y, fitted: false });
    other.paint(true);
    following = false;
  };
}

// After a click with the mouse the keys belong to the images again.
document.addEventListener('click', (event) => {
  if (!event.detail || !/** @type {HTMLElement} */ (event.target).closest('button')) return;
  /** @type {HTMLElement} */ (document.activeElement).blur(); // no image takes the focus while none is shown
  $('first').focus({ preventScroll: true });
});
document.querySelectorAll('[data-kind]').forEach((button) => button.addEventListener('click', () => {
  filter(button.getAttribute('data-kind') ?? '', 'open');
}));
$('verdict').addEventListener('change', () => filter(kind, /** @type {HTMLSelectElement} */ ($('verdict')).value));
$('previous').addEventListener('click', () => go(-1));
$('next').addEventListener('click', () => go(1));
$('blink').addEventListener('click', () => blink().catch(report));
$('difference').addEventListener('click', () => difference().catch(report));
$('masks').addEventListener('click', masks);
$('undo').addEventListener('click', () => undo().catch(report));
shortcuts({
  ...Object.fromEntries(KEYS.map((key, n) => [key, { does: 'Give a verdict, as numbered', run: () => decide(verdicts()[n]).catch(report), once: true }])),
  ' ': { does: 'Blink between the two aligned images', run: () => blink().catch(report), show: 'Space' },
  d: { does: 'Difference', run: () => difference().catch(report) },
  m: { does: 'Masks on or off', run: masks },
  z: { does: 'Undo the last verdict', run: () => undo().catch(report), once: true },
  ArrowRight: { does: 'Next or previous', run: () => go(1) },
  ArrowLeft: { does: 'Next or previous', run: () => go(-1) },
  e: { does: 'Correct the masks (of the second image with Shift)', run: () => open(0) },
  E: { does: 'Correct the masks (of the second image with Shift)', run: () => open(1) },
  '+': { does: 'Zoom (also the wheel)', run: () => first.zoom(1.25) },
  '-': { does: 'Zoom (also the wheel)', run: () => first.zoom(0.8) },
  '0': { does: 'Fit to the window', run: () => { first.fit(); second.fit(); } },
  Escape: { does: 'Back to the grid', run: () => location.assign('/') },
});
list().catch(report);
