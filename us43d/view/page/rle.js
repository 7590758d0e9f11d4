// @ts-check
/** COCO's compressed run lengths: column after column, background first, differences to the run two before, 5 bits a sign. */

/** @param {string} text @param {number} height @param {number} width @returns {Uint8Array} row after row, 0 or 1 */
export function decode(text, height, width) {
  const mask = new Uint8Array(height * width);
  const runs = [];
  let at = 0;
  let place = 0;
  let inside = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const symbol = text.charCodeAt(at++) - 48;
      value |= (symbol & 31) << shift;
      shift += 5;
      more = (symbol & 32) !== 0;
      if (!more && symbol & 16 && shift < 32) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
    if (inside) {
      for (let n = place; n < place + value; n++) mask[(n % height) * width + ((n / height) | 0)] = 1;
    }
    place += value;
    inside ^= 1;
  }
  return mask;
}

/** @param {Uint8Array} mask @param {number} height @param {number} width @returns {string} */
export function encode(mask, height, width) {
  /** @type {number[]} */ const runs = [];
  let current = 0;
  let length = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const value = mask[y * width + x] ? 1 : 0;
      if (value === current) length++;
      else {
        runs.push(length);
        current = value;
        length = 1;
      }
    }
  }
  runs.push(length);
  let text = '';
  runs.forEach((run, n) => {
    let value = n > 2 ? run - runs[n - 2] : run;
    let more = true;
    while (more) {
      let symbol = value & 31;
      value >>= 5;
      more = symbol & 16 ? value !== -1 : value !== 0;
      if (more) symbol |= 32;
      text += String.fromCharCode(symbol + 48);
    }
  });
  return text;
}
