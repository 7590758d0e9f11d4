// @ts-check
/** The grid: a window over any number of images, filters with counts, everything in the address. */
import { $, api, counted, h, keepFocus, number, report, shortcuts, tail } from '/static/dom.js';

const PAGE = 200; // rows of one request
const TALLEST = 8e6; // browsers draw nothing below some 17 million pixels; beyond this the scroll bar is scaled
const SHOWN = 8; // values of a facet before "all"
const GAP = 10;
const CAPTION = 38;

const corpus = document.body.dataset.corpus ?? '';
const scroller = $('scroller');
const canvas = $('canvas');

/** Filters, search, order: what decides which images, without what only decides how they look. */
let asked = new URLSearchParams();
let total = 0;
let focused = 0;
let masks = true;
let tile = 160;
/** @type {Map<number, any[]|null>} pages by number; null while they come */
const pages = new Map();
/** @type {Map<number, HTMLElement>} tiles on the page by index */
const tiles = new Map();
let requests = new AbortController();
let columns = 1;
let side = 160;
let wanted = 0; // index that should be at the top once the images are counted

const LOOKS = ['at', 'tile', 'masks'];

/** @param {URLSearchParams} parameters */
function address(parameters) {
  const text = parameters.toString();
  return text ? `/?${text}` : '/';
}

/** Take the page's state from the address. */
function read() {
  const parameters = new URLSearchParams(location.search);
  tile = Number(parameters.get('tile')) || Number(localStorage.getItem('us43d-tile')) || (innerWidth < 500 ? 110 : innerWidth > 2200 ? 230 : 160);
  masks = (parameters.get('masks') ?? localStorage.getItem('us43d-masks')) !== '0';
  wanted = focused = Number(parameters.get('at')) || 0;
  LOOKS.forEach((name) => parameters.delete(name));
  asked = parameters;
  /** @type {HTMLInputElement} */ ($('q')).value = asked.get('q') ?? '';
  /** @type {HTMLSelectElement} */ ($('sort')).value = asked.get('sort') ?? 'key';
  /** @type {HTMLSelectElement} */ ($('tile')).value = [...$('tile').querySelectorAll('option')].map((o) => o.value).includes(String(tile)) ? String(tile) : '160';
  tile = Number(/** @type {HTMLSelectElement} */ ($('tile')).value);
  /** @type {HTMLAnchorElement} */ ($('label')).href = String(asked) ? `/correct?${asked}` : '/correct';
  look();
}

function look() {
  document.body.classList.toggle('no-masks', !masks);
  $('masks').setAttribute('aria-pressed', String(masks));
}

/** Write how things look into the address, without a step back for it. */
function remember() {
  const parameters = new URLSearchParams(asked);
  if (first() > 0) parameters.set('at', String(first()));
  if (new URLSearchParams(location.search).has('tile')) parameters.set('tile', String(tile));
  if (!masks) parameters.set('masks', '0');
  history.replaceState(null, '', address(parameters));
}

/** Ask for other images; a step that the back button undoes. @param {(parameters: URLSearchParams) => void} change */
function ask(change) {
  const parameters = new URLSearchParams(asked);
  change(parameters);
  if (!parameters.get('q')) parameters.delete('q');
  if (parameters.get('sort') === 'key') parameters.delete('sort');
  history.pushState(null, '', address(parameters));
  read();
  load();
}

/** Load everything for the state. */
function load() {
  requests.abort();
  requests = new AbortController();
  pages.clear();
  tiles.forEach((element) => element.remove());
  tiles.clear();
  scroller.setAttribute('aria-busy', 'true');
  const at = wanted;
  fetchPage(Math.floor(at / PAGE), true).catch(report);
  api(`/api/facets?${asked}`, { signal: requests.signal }).then(drawFacets).catch(report);
}

/** @param {number} page @param {boolean} [begins] */
async function fetchPage(page, begins = false) {
  if (pages.has(page)) return;
  pages.set(page, null);
  const signal = requests.signal;
  try {
    const answer = await api(`/api/grid?${asked}${String(asked) ? '&' : ''}start=${page * PAGE}&count=${PAGE}`, { signal });
    pages.set(page, answer.rows);
    total = answer.total;
    if (begins) {
      scroller.removeAttribute('aria-busy');
      $('count').textContent = counted(total, 'image');
      const cleared = total > 0 && $('empty').contains(document.activeElement);
      $('empty').hidden = total > 0;
      scroller.hidden = total === 0;
      if (cleared) scroller.focus();
      layout(Math.min(wanted, Math.max(0, total - 1)));
    } else {
      draw();
    }
  } catch (error) {
    pages.delete(page);
    throw error;
  }
}

document.addEventListener('server-back', () => location.reload());

// ------------------------------------------------------------------------------------------------------------- layout

const rowHeight = () => side + CAPTION + GAP;
const fullHeight = () => Math.ceil(total / columns) * rowHeight() + GAP;
const ratio = () => {
  const height = Math.min(fullHeight(), TALLEST);
  const view = scroller.clientHeight;
  return height > view && fullHeight() > TALLEST ? (fullHeight() - view) / (height - view) : 1;
};
/** Pixels above the top of the window, of all rows. */
const above = () => scroller.scrollTop * ratio();
const first = () => Math.min(Math.max(0, total - 1), Math.max(0, Math.round(above() / rowHeight())) * columns);

/** Fit columns to the width and keep an index at the top. @param {number} [keep] */
function layout(keep = first()) {
  const width = scroller.clientWidth - GAP;
  columns = Math.max(1, Math.floor(width / (tile + GAP)));
  side = Math.floor(width / columns) - GAP;
  canvas.style.height = `${Math.min(fullHeight(), TALLEST)}px`;
  tiles.forEach((element) => element.remove());
  tiles.clear();
  scroller.scrollTop = (Math.floor(keep / columns) * rowHeight()) / ratio();
  draw();
}

let settled = 0;
let fast = false;
let last = { at: 0, top: 0 };

scroller.addEventListener('scroll', () => {
  const now = performance.now();
  const speed = Math.abs(above() - last.top) / Math.max(1, now - last.at);
  last = { at: now, top: above() };
  fast = speed > 12; // pixels a millisecond: the scroll bar is dragged; pictures wait until it stops
  draw();
  clearTimeout(settled);
  settled = window.setTimeout(() => {
    fast = false;
    draw();
    remember();
  }, 120);
}, { passive: true });

new ResizeObserver(() => total && layout()).observe(scroller);

function draw() {
  if (!total) return;
  const view = scroller.clientHeight;
  const top = above();
  const from = Math.max(0, Math.floor(top / rowHeight()) - 2) * columns;
  const to = Math.min(total, (Math.ceil((top + view) / rowHeight()) + 2) * columns);
  for (const [index, element] of tiles) {
    if ((index < from || index >= to) && element !== document.activeElement) {
      element.remove();
      tiles.delete(index);
    }
  }
  if (!fast) for (let page = Math.floor(from / PAGE); page <= Math.floor((to - 1) / PAGE); page++) fetchPage(page).catch(report);
  // What is in view is asked for before what is above it.
  const seen = Math.min(to, Math.max(from, Math.floor(top / rowHeight()) * columns));
  for (let index = seen; index < to; index++) place(index, top);
  for (let index = from; index < seen; index++) place(index, top);
}

/** @param {number} index @param {number} top */
function place(index, top) {
  const row = pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  let element = tiles.get(index);
  if (element && row && element.classList.contains('waiting')) {
    element.remove();
    element = undefined;
  }
  if (!element) {
    element = row ? drawn(row, index) : h('div', { class: 'tile waiting', 'aria-hidden': 'true' });
    element.style.width = `${side}px`;
    element.style.height = `${side + CAPTION}px`;
    canvas.append(element);
    tiles.set(index, element);
  }
  const y = Math.floor(index / columns) * rowHeight() + GAP - top + scroller.scrollTop;
  element.style.transform = `translate(${GAP + (index % columns) * (side + GAP)}px, ${y}px)`;
}

/** @param {any} row @param {number} index */
function drawn(row, index) {
  const parameters = new URLSearchParams(asked);
  const href = `/image/${row.id}${String(parameters) ? `?${parameters}` : ''}`;
  const shown = row.split !== 'dropped' && row.split !== 'not in the corpus';
  const caption = [row.source, row.split, row.dice !== undefined ? `Dice ${row.dice.toFixed(2)}` : row.annotations ? counted(row.annotations, 'mask') : 'no mask'].join(' · ');
  const picture = shown
    ? [h('img', { src: `/thumb/${row.id}?v=${corpus}`, alt: '', decoding: 'async', draggable: 'false', error: broken }),
       row.annotations ? h('img', { class: 'over', src: `/overlay/${row.id}?v=${corpus}`, alt: '', decoding: 'async', draggable: 'false' }) : null]
    : [h('span', { class: 'no-picture' }, row.split)];
  const link = h('a', {
    class: 'tile', href, title: row.key, tabindex: index === focused ? '0' : '-1', 'aria-label': `${row.key}, ${caption}`,
    focus: () => moveTo(index, false), click: remember,
  }, h('span', { class: 'picture' }, ...picture), h('span', { class: 'name' }, tail(row.key)), h('span', { class: 'said' }, caption));
  const item = h('div', { role: 'listitem', 'aria-setsize': total, 'aria-posinset': index + 1, class: 'item' }, link);
  return item;
}

/** @param {Event} event */
function broken(event) {
  const image = /** @type {HTMLElement} */ (event.target);
  image.replaceWith(h('span', { class: 'no-picture' }, 'cannot be read'));
}

// ----------------------------------------------------------------------------------------------------------- keyboard

/** @param {number} index @param {boolean} [focus] */
function moveTo(index, focus = true) {
  const to = Math.min(total - 1, Math.max(0, index));
  tiles.get(focused)?.querySelector('a')?.setAttribute('tabindex', '-1');
  focused = to;
  const y = Math.floor(to / columns) * rowHeight();
  if (y < above()) scroller.scrollTop = y / ratio();
  else if (y + rowHeight() > above() + scroller.clientHeight) scroller.scrollTop = (y + rowHeight() - scroller.clientHeight + GAP) / ratio();
  draw();
  const link = tiles.get(to)?.querySelector('a');
  link?.setAttribute('tabindex', '0');
  if (focus) link?.focus({ preventScroll: true });
}

const rowsInView = () => Math.max(1, Math.floor(scroller.clientHeight / rowHeight()));
shortcuts({
  ArrowRight: { does: 'Move between images', run: () => moveTo(focused + 1) },
  ArrowLeft: { does: 'Move between images', run: () => moveTo(focused - 1) },
  ArrowDown: { does: 'Move between images', run: () => moveTo(focused + columns) },
  ArrowUp: { does: 'Move between images', run: () => moveTo(focused - columns) },
  PageDown: { does: 'A screen further or back', run: () => moveTo(focused + rowsInView() * columns) },
  PageUp: { does: 'A screen further or back', run: () => moveTo(focused - rowsInView() * columns) },
  Home: { does: 'First or last image', run: () => moveTo(0) },
  End: { does: 'First or last image', run: () => moveTo(total - 1) },
  Enter: { does: 'Open the image', run: (event) => /** @type {HTMLElement} */ (event.target).matches('input') || tiles.get(focused)?.querySelector('a')?.click() },
  '/': { does: 'Search', run: () => $('q').focus() },
  m: { does: 'Masks on or off', run: () => $('masks').click() },
  l: { does: 'Label these images, one after the other', run: () => $('label').click() },
  f: { does: 'To the filters', run: () => openFacets(true) },
  c: { does: 'Clear all filters', run: () => ask(clear) },
});

// ------------------------------------------------------------------------------------------------------------- facets

/** @type {Set<string>} facets of which all values are shown */
const whole = new Set();
/** @type {Map<string, string>} text that is sought in the values of a facet */
const sought = new Map();
/** @type {Map<string, boolean>} facets that were opened or closed by hand */
const opened = new Map();

/** @param {any} answer */
function drawFacets(answer) {
  const open = ['source', 'split', 'organ', 'structure'];
  const active = document.activeElement instanceof HTMLInputElement ? document.activeElement.name + '\n' + document.activeElement.value : '';
  const scroll = $('facets').scrollTop;
  $('facets').replaceChildren(
    h('div', { class: 'facets-head' }, h('h2', {}, 'Filters'), h('button', { class: 'icon only-narrow', 'aria-label': 'Close the filters', click: () => openFacets(false) }, '×')),
    ...answer.facets.map((/** @type {any} */ facet) => {
      const chosen = facet.values.some((/** @type {any} */ value) => value.chosen);
      const isOpen = opened.get(facet.name) ?? (open.includes(facet.name) || chosen);
      return h('details', { open: isOpen, toggle: (/** @type {Event} */ e) => opened.set(facet.name, /** @type {HTMLDetailsElement} */ (e.target).open) },
        h('summary', {}, h('span', {}, facet.title), chosen ? h('span', { class: 'mark', title: 'chosen' }, '●') : null),
        ...values(facet));
    }));
  $('facets').scrollTop = scroll;
  if (active) for (const input of $('facets').querySelectorAll('input')) if (input.name + '\n' + input.value === active) input.focus();
  chips(answer.facets);
}

/** @param {string} facet @param {string} value */
const said = (facet, value) => (facet === 'structure' || facet === 'organ' ? value.replaceAll('_', ' ') : value) || '(empty)';

/** @param {any} facet */
function values(facet) {
  const sorted = [...facet.values].sort((a, b) => Number(b.chosen) - Number(a.chosen) || b.count - a.count || a.value.localeCompare(b.value));
  const most = Math.max(1, ...sorted.map((value) => value.count));
  const row = (/** @type {any} */ value) => {
    const bar = h('span', { class: 'share' });
    bar.style.width = `${(100 * value.count) / most}%`;
    return h('label', { class: 'value' }, h('input', { type: 'checkbox', name: facet.name, value: value.value, checked: value.chosen, change: choose }),
      h('span', { class: 'text', title: value.value }, said(facet.name, value.value)), h('span', { class: 'number' }, number.format(value.count)), bar);
  };
  const box = h('div', { class: 'values' });
  const count = facet.total ?? sorted.length; // of groups, the server lists the largest
  const more = h('button', { class: 'more', click: () => { whole.has(facet.name) ? whole.delete(facet.name) : whole.add(facet.name); list(); } });
  const list = () => {
    const text = (sought.get(facet.name) ?? '').toLowerCase();
    const found = sorted.filter((value) => said(facet.name, value.value).toLowerCase().includes(text));
    box.replaceChildren(...(whole.has(facet.name) ? found : found.slice(0, SHOWN)).map(row), ...(found.length ? [] : [h('p', { class: 'soft' }, 'None')]));
    more.hidden = found.length <= SHOWN;
    more.textContent = whole.has(facet.name) ? 'Fewer' : facet.total > sorted.length ? `The ${found.length} largest` : `All ${number.format(found.length)}`;
  };
  const listGroups = async () => {
    const answer = await api(`/api/groups?${new URLSearchParams([...asked, ['text', sought.get(facet.name) ?? '']])}`);
    sorted.splice(0, sorted.length, ...answer.values);
    list();
  };
  list();
  if (count <= SHOWN) return [box];
  let pausing = 0;
  const find = /** @type {HTMLInputElement} */ (h('input', {
    type: 'search', class: 'find', name: `find ${facet.name}`, 'aria-label': `Find in ${facet.title}`, placeholder: `Find in ${number.format(count)}`, autocomplete: 'off', spellcheck: 'false', maxlength: '400', value: sought.get(facet.name) ?? '',
    input: () => {
      sought.set(facet.name, find.value.trim());
      clearTimeout(pausing);
      if (facet.total > facet.values.length) pausing = window.setTimeout(() => listGroups().catch(report), 200);
      else list();
    },
  }));
  if (facet.total > facet.values.length && sought.get(facet.name)) listGroups().catch(report);
  return [find, box, more];
}

/** @param {Event} event */
function choose(event) {
  const input = /** @type {HTMLInputElement} */ (event.target);
  ask((parameters) => {
    const kept = parameters.getAll(input.name).filter((value) => value !== input.value);
    parameters.delete(input.name);
    [...kept, ...(input.checked ? [input.value] : [])].forEach((value) => parameters.append(input.name, value));
  });
}

/** @param {any[]} facets */
function chips(facets) {
  const titles = new Map(facets.map((facet) => [facet.name, facet.title]));
  const shown = [...asked].filter(([name]) => name !== 'sort' && name !== 'q');
  keepFocus($('chips'), scroller, () => $('chips').replaceChildren(...shown.map(([name, value]) => {
    const title = titles.get(name) ?? { group: 'Group', like: 'Like image' }[name] ?? name;
    return h('li', {}, h('button', { class: 'chip', 'aria-label': `Remove the filter ${title}: ${value}`, click: () => ask((parameters) => {
      const kept = parameters.getAll(name).filter((other) => other !== value);
      parameters.delete(name);
      kept.forEach((other) => parameters.append(name, other));
    }) }, h('span', { class: 'soft' }, `${title} `), said(name, value), h('span', { 'aria-hidden': 'true', class: 'x' }, '×')));
  }), ...(shown.length > 1 ? [h('li', {}, h('button', { class: 'chip plain', click: () => ask(clear) }, 'Clear'))] : [])));
}

/** @param {URLSearchParams} parameters */
function clear(parameters) {
  [...parameters.keys()].forEach((name) => parameters.delete(name));
}

/** @param {boolean} open */
function openFacets(open) {
  const closes = !open && facetsOpen();
  document.body.classList.toggle('facets-open', open);
  $('facets-open').setAttribute('aria-expanded', String(open));
  if (open) /** @type {HTMLElement|null} */ ($('facets').querySelector('summary, input'))?.focus();
  else if (closes) $('facets-open').focus();
}
const facetsOpen = () => document.body.classList.contains('facets-open');

$('facets-open').addEventListener('click', () => openFacets(!facetsOpen()));
scroller.addEventListener('pointerdown', () => openFacets(false));
document.addEventListener('keydown', (event) => event.key === 'Escape' && openFacets(false));
$('clear').addEventListener('click', () => ask(clear));
$('search').addEventListener('submit', (event) => {
  event.preventDefault();
  ask((parameters) => parameters.set('q', /** @type {HTMLInputElement} */ ($('q')).value.trim()));
  moveTo(0);
});
let pause = 0;
$('q').addEventListener('input', () => {
  clearTimeout(pause);
  pause = window.setTimeout(() => {
    const text = /** @type {HTMLInputElement} */ ($('q')).value.trim();
    if (text !== (asked.get('q') ?? '')) ask((parameters) => parameters.set('q', text));
  }, 250);
});
$('q').addEventListener('keydown', (event) => {
  if (event.key === 'Escape') scroller.focus();
});
$('sort').addEventListener('change', () => ask((parameters) => {
  parameters.delete('like');
  parameters.set('sort', /** @type {HTMLSelectElement} */ ($('sort')).value);
}));
$('tile').addEventListener('change', () => {
  tile = Number(/** @type {HTMLSelectElement} */ ($('tile')).value);
  localStorage.setItem('us43d-tile', String(tile));
  layout();
});
$('masks').addEventListener('click', () => {
  masks = !masks;
  localStorage.setItem('us43d-masks', masks ? '1' : '0');
  look();
  remember();
});
window.addEventListener('popstate', () => {
  read();
  load();
});

read();
load();
