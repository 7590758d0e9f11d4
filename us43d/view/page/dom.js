// @ts-check
/** What all pages share: elements, requests, messages, theme, the list of keys. Text is never parsed as HTML. */

/** @template {HTMLElement} T @param {string} id @returns {T} */
export const $ = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * Make an element. Attributes that are functions become listeners, true and false set or leave out the attribute.
 * @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node|string|null|undefined|false)} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(node));
  return element;
}

/** @param {any} child */
const node = (child) => (child instanceof Node ? child : String(child));

export const number = new Intl.NumberFormat('en');

let gone = false;

/** Ask until the server answers again, then say so. */
async function waitForServer() {
  if (gone) return;
  gone = true;
  $('gone').hidden = false;
  while (gone) {
    await new Promise((done) => setTimeout(done, 2000));
    const answer = await fetch('/api/alive').catch(() => null);
    if (answer?.ok) {
      gone = false;
      $('gone').hidden = true;
      document.dispatchEvent(new Event('server-back'));
    }
  }
}

export class ServerGone extends Error {}

/** A refusal by the server. status: of HTTP. content: the JSON that came with it. */
export class Refused extends Error {
  /** @param {number} status @param {any} content */
  constructor(status, content) {
    super(content?.error ?? `The server answered ${status}.`);
    this.status = status;
    this.content = content;
  }
}

/**
 * JSON from the server. Throws ServerGone, Refused, and what AbortSignal throws.
 * @param {string} path @param {{method?: string, body?: any, signal?: AbortSignal}} [options]
 */
export async function api(path, { method = 'GET', body, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method, signal, ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    waitForServer();
    throw new ServerGone('The server has stopped.');
  }
  const content = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, content);
  return content;
}

let clearing = 0;

/** A short message at the bottom. @param {string} text @param {'error'|'note'} [kind] */
export function toast(text, kind = 'note') {
  const place = $('toast');
  place.textContent = text;
  place.className = `shown ${kind}`;
  clearTimeout(clearing);
  clearing = window.setTimeout(() => (place.className = ''), kind === 'error' ? 8000 : 3000);
}

/** Show what failed; a request that was given up, or a server that ended, has its own sign. @param {any} error */
export function report(error) {
  if (error instanceof ServerGone || error?.name === 'AbortError') return;
  const disk = error instanceof Refused && error.status >= 500 ? error.content?.disk : '';
  toast([error.message, disk].filter(Boolean).join(' '), 'error');
  console.error(error);
}

window.addEventListener('unhandledrejection', (event) => {
  event.preventDefault();
  report(event.reason);
});

/** Whether keys belong to a field at the moment. @param {KeyboardEvent} event */
function typing(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  return target.matches?.('input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]');
}

/** Whether a control that has the focus answers this key itself. @param {KeyboardEvent} event */
function own(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key === 'Enter') return target.matches('button, a, summary');
  if (event.key === ' ') return target.matches('button, a, summary, input');
  return target.matches('input[type=range]') && /^(Arrow|Page|Home|End)/.test(event.key);
}

/**
 * The keys of a page, by `event.key`, with Shift+, Ctrl+ before it where that is meant; and their help.
 * once: a key that is held does it once, as it decides on what is seen.
 * @param {Record<string, {does: string, run: (event: KeyboardEvent) => void, show?: string, once?: boolean}>} keys
 */
export function shortcuts(keys) {
  document.addEventListener('keydown', (event) => {
    const third = event.getModifierState('AltGraph'); // types [ and ] on many keyboards; on Windows with Ctrl and Alt
    if (typing(event) || (event.altKey && !third) || document.querySelector('dialog[open]')) return;
    const ctrl = (event.ctrlKey || event.metaKey) && !third ? 'Ctrl+' : '';
    const shift = event.shiftKey && (event.key.length > 1 || ctrl) ? 'Shift+' : '';
    const lower = event.key.length === 1 && (ctrl || event.getModifierState('CapsLock'));
    const name = ctrl + shift + (lower ? event.key.toLowerCase() : event.key);
    const found = keys[name];
    if (!found || own(event)) return;
    event.preventDefault();
    if (!event.repeat || !found.once) found.run(event);
  });
  const rows = new Map();
  for (const [key, { does, show }] of Object.entries(keys)) {
    if (!rows.has(does)) rows.set(does, []);
    rows.get(does).push(show ?? key.replace('Arrow', '').replace(' ', 'Space'));
  }
  const dialog = /** @type {HTMLDialogElement} */ (h('dialog', { 'aria-label': 'Keyboard shortcuts' },
    h('h2', {}, 'Keyboard'),
    h('table', { class: 'keys' }, h('tbody', {}, ...[...rows].map(([does, names]) =>
      h('tr', {}, h('td', {}, ...names.filter(Boolean).flatMap((/** @type {string} */ name) => [h('kbd', {}, name), ' '])), h('td', {}, does))))),
    h('form', { method: 'dialog' }, h('button', { class: 'primary' }, 'Close'))));
  document.body.append(dialog);
  const open = (/** @type {Event|undefined} */ event) => {
    // Opened with the mouse, it returns the keys to the page, not to its button, which Enter would press again.
    if (event instanceof MouseEvent && event.detail) /** @type {HTMLElement} */ (event.currentTarget).blur();
    dialog.showModal();
    dialog.scrollTop = 0; // the button that gets the focus is its last line
  };
  document.querySelectorAll('[data-help]').forEach((button) => button.addEventListener('click', open));
  document.addEventListener('keydown', (event) => {
    if (event.key === '?' && !typing(event) && !dialog.open) open();
  });
}

/**
 * Make the buttons of an element anew; the focus stays at its place among them, or goes to `other` with the last one.
 * @param {HTMLElement} element @param {HTMLElement} other @param {() => void} change
 */
export function keepFocus(element, other, change) {
  const buttons = () => [...element.querySelectorAll('button')];
  const at = buttons().findIndex((button) => button === document.activeElement);
  change();
  if (at >= 0) (buttons()[at] ?? buttons().at(-1) ?? other).focus();
}

document.querySelectorAll('[data-theme-switch]').forEach((button) => button.addEventListener('click', () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem('us43d-theme', root.dataset.theme);
}));

/** The last part of a key. @param {string} key */
export const tail = (key) => key.replace(/\/+$/, '').split('/').pop() || key;

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;
