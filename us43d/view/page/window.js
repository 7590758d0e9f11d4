// @ts-check
/** Window and level: of 8 bits on the page, of deeper pixels in their own values, by the server. */
import { h } from '/static/dom.js';

/** @typedef {{low: number, high: number}} Window values shown black and white */

const value = new Intl.NumberFormat('en', { maximumSignificantDigits: 5 });

/** @param {string} text @param {number} least @param {number} most @param {number} now @param {(value: number) => void} change */
function slider(text, least, most, now, change) {
  const input = /** @type {HTMLInputElement} */ (h('input', { type: 'range', min: least, max: most, step: 'any', value: now, input: () => change(Number(input.value)) }));
  return { input, label: h('label', { class: 'slider' }, h('span', {}, text), input) };
}

/**
 * The controls of an image's window.
 * @param {import('/static/viewer.js').Viewer} viewer @param {number[]|null} range smallest and largest value of the file, null for 8 bits
 * @param {Window|null} now null for the range @param {(now: Window|null) => void} change
 */
export function windowing(viewer, range, now, change) {
  if (!range) return flatWindow(viewer);
  viewer.setWindow(127.5, 255);
  return deepWindow(range, now, change);
}

/** @param {import('/static/viewer.js').Viewer} viewer */
function flatWindow(viewer) {
  const level = slider('Level', 0, 255, viewer.level, (to) => viewer.setWindow(to, viewer.range));
  const width = slider('Width', 1, 510, viewer.range, (to) => viewer.setWindow(viewer.level, to));
  return [level.label, width.label, h('button', { class: 'more', click: () => {
    viewer.setWindow(127.5, 255);
    level.input.value = String(viewer.level);
    width.input.value = String(viewer.range);
  } }, 'Reset')];
}

/** @param {number[]} range @param {Window|null} now @param {(now: Window|null) => void} change */
function deepWindow([least, largest], now, change) {
  let { low, high } = now ?? { low: least, high: largest };
  const whole = Number.isInteger(least) && Number.isInteger(largest);
  const narrowest = whole ? 1 : (largest - least) / 1000;
  const text = h('p', { class: 'soft', id: 'values' });
  const say = () => (text.textContent = `${value.format(low)} to ${value.format(high)} of ${value.format(least)} to ${value.format(largest)}`);
  let waiting = 0;
  /** @param {number} middle @param {number} span */
  const set = (middle, span) => {
    [low, high] = [middle - span / 2, middle + span / 2].map((end) => (whole ? Math.round(end) : end));
    high = Math.max(high, low + narrowest);
    say();
    clearTimeout(waiting);
    waiting = window.setTimeout(() => change({ low, high }), 50);
  };
  const level = slider('Level', least, largest, (low + high) / 2, (to) => set(to, high - low));
  const width = slider('Width', narrowest, Math.max(narrowest, largest - least), high - low, (to) => set((low + high) / 2, to));
  say();
  return [level.label, width.label, text, h('button', { class: 'more', click: () => {
    clearTimeout(waiting);
    [low, high] = [least, largest];
    level.input.value = String((low + high) / 2);
    width.input.value = String(high - low);
    say();
    change(null);
  } }, 'Reset')];
}

/** The window as part of an address. @param {Window|null} now */
export const windowed = (now) => (now ? `low=${now.low}&high=${now.high}` : '');
