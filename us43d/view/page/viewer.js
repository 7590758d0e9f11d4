// @ts-check
/** One image on a canvas with masks above it: zoom, pan, window and level, and tools that draw on it. */

/**
 * @typedef {{mask: Uint8Array, colour: number[], visible?: boolean, dashed?: boolean, fill?: boolean}} Layer
 * mask: row after row, 0 or 1, of the image's size.
 * @typedef {{cursor?: string, down?: (x: number, y: number, event: PointerEvent) => void, move?: (x: number, y: number, event: PointerEvent) => void,
 *   up?: (x: number, y: number, event: PointerEvent) => void, hover?: (x: number, y: number) => void, paint?: (context: CanvasRenderingContext2D, viewer: Viewer) => void}} Tool
 * x, y in pixels of the image, the first pixel reaching from 0 to 1.
 */

export class Viewer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    this.width = this.height = 0;
    /** @type {CanvasImageSource|null} */ this.image = null;
    /** @type {HTMLCanvasElement|null} the image through window and level */ this.shown = null;
    /** @type {Layer[]} */ this.layers = [];
    /** @type {WeakMap<Uint8Array, {picture: HTMLCanvasElement|null, outline: Path2D, left: number, top: number, colour: string}>} */ this.drawn = new WeakMap();
    this.filled = true;
    this.outlined = true;
    this.hidden = false;
    this.opacity = 0.3;
    this.level = 127.5;
    this.range = 255;
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    /** @type {Tool|null} */ this.tool = null;
    /** @type {(x: number, y: number) => void} */ this.hovered = () => {};
    /** @type {() => void} */ this.changed = () => {};
    this.waiting = false;
    /** @type {Map<number, {x: number, y: number}>} */ this.pointers = new Map();
    this.panning = false;
    this.space = false;
    this.#listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** @param {CanvasImageSource} image @param {number} width @param {number} height */
  setImage(image, width, height) {
    const same = width === this.width && height === this.height;
    Object.assign(this, { image, width, height, drawn: new WeakMap() });
    this.#window();
    if (!same || this.fitted) this.fit();
    this.paint();
  }

  /** @param {Layer[]} layers */
  setLayers(layers) {
    this.layers = layers;
    this.paint();
  }

  /** Draw a mask anew that was changed in place. @param {Uint8Array} mask */
  touched(mask) {
    this.drawn.delete(mask);
    this.paint();
  }

  /** @param {number} level @param {number} range the middle and the width of the grey values shown, of 0 to 255 */
  setWindow(level, range) {
    this.level = level;
    this.range = Math.max(1, range);
    this.#window();
    this.paint();
  }

  #window() {
    this.shown = null;
    if (!this.image || (this.level === 127.5 && this.range === 255)) return;
    const canvas = document.createElement('canvas');
    canvas.width = this.width;
    canvas.height = this.height;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
    context.drawImage(this.image, 0, 0);
    const pixels = context.getImageData(0, 0, this.width, this.height);
    const low = this.level - this.range / 2;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => ((value - low) * 255) / this.range);
    const data = pixels.data;
    for (let n = 0; n < data.length; n += 4) {
      data[n] = table[data[n]];
      data[n + 1] = table[data[n + 1]];
      data[n + 2] = table[data[n + 2]];
    }
    context.putImageData(pixels, 0, 0);
    this.shown = canvas;
  }

  // ------------------------------------------------------------------------------------------------------------ place

  resize() {
    const dense = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.round(clientWidth * dense);
    this.canvas.height = Math.round(clientHeight * dense);
    if (this.fitted) this.fit();
    this.paint(true);
  }

  fit() {
    if (!this.width) return;
    const { clientWidth, clientHeight } = this.canvas;
    this.scale = Math.max(0.01, Math.min((clientWidth - 24) / this.width, (clientHeight - 24) / this.height));
    this.x = (clientWidth - this.width * this.scale) / 2;
    this.y = (clientHeight - this.height * this.scale) / 2;
    this.fitted = true;
    this.paint();
  }

  /** @param {number} factor @param {number} [x] @param {number} [y] place on the canvas that stays where it is */
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(64, Math.max(0.05, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.paint();
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.paint();
  }

  /** The place in the image under one of the canvas. @param {number} x @param {number} y @returns {[number, number]} */
  toImage(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  // --------------------------------------------------------------------------------------------------------- pointers

  #listen() {
    const { canvas } = this;
    const at = (/** @type {PointerEvent|WheelEvent|MouseEvent} */ event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      const { x, y } = at(event);
      if (event.shiftKey) this.pan(-event.deltaY - event.deltaX, 0);
      else this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), x, y);
    }, { passive: false });
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, at(event));
      this.panning = this.pointers.size > 1 || !this.tool?.down || event.button === 1 || (event.button === 0 && this.space);
      if (!this.panning) this.tool?.down?.(...this.toImage(at(event).x, at(event).y), event);
      this.paint();
      this.#cursor();
    });
    canvas.addEventListener('pointermove', (event) => {
      const now = at(event);
      const before = this.pointers.get(event.pointerId);
      const place = this.toImage(now.x, now.y);
      this.hovered(...place);
      if (!before) {
        if (this.tool?.hover) {
          this.tool.hover(...place);
          this.paint();
        }
        return;
      }
      if (this.pointers.size === 2) {
        const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
        const spread = Math.hypot(before.x - other.x, before.y - other.y);
        const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
        this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
        if (spread > 10) this.zoom(Math.hypot(now.x - other.x, now.y - other.y) / spread, middle.x, middle.y);
      } else if (this.panning) this.pan(now.x - before.x, now.y - before.y);
      else this.tool?.move?.(...place, event);
      this.paint();
      this.pointers.set(event.pointerId, now);
    });
    const end = (/** @type {PointerEvent} */ event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      if (!this.panning) this.tool?.up?.(...this.toImage(at(event).x, at(event).y), event);
      this.paint();
      if (!this.pointers.size) this.panning = false;
      this.#cursor();
    };
    canvas.addEventListener('pointerup', end);
    canvas.addEventListener('pointercancel', end);
    canvas.addEventListener('pointerleave', () => this.hovered(-1, -1));
    canvas.addEventListener('dblclick', () => !this.tool?.down && this.fit());
    document.addEventListener('keydown', (event) => {
      if (event.key === ' ' && document.activeElement === canvas) {
        this.space = true;
        this.#cursor();
        event.preventDefault();
      }
    });
    document.addEventListener('keyup', (event) => {
      if (event.key === ' ') this.space = false;
      this.#cursor();
    });
  }

  #cursor() {
    this.canvas.style.cursor = this.panning ? 'grabbing' : this.space || !this.tool ? 'grab' : this.tool.cursor ?? 'crosshair';
  }

  /** @param {Tool|null} tool */
  use(tool) {
    this.tool = tool;
    this.#cursor();
    this.paint();
  }

  // --------------------------------------------------------------------------------------------------------- painting

  /** @param {boolean} [now] */
  paint(now = false) {
    if (now) this.#draw();
    else if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.#draw();
      });
    }
  }

  #draw() {
    const { context, canvas, scale } = this;
    const dense = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    context.setTransform(scale * dense, 0, 0, scale * dense, this.x * dense, this.y * dense);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.shown ?? this.image, 0, 0, this.width, this.height);
    if (!this.hidden) {
      for (const layer of this.layers) if (layer.visible !== false) this.#layer(layer);
    }
    this.tool?.paint?.(context, this);
    this.changed();
  }

  /** @param {Layer} layer */
  #layer(layer) {
    const { context } = this;
    const colour = `rgb(${layer.colour.join(',')})`;
    let drawn = this.drawn.get(layer.mask);
    if (!drawn || drawn.colour !== colour) {
      drawn = { ...paintings(layer.mask, this.width, layer.colour), colour };
      this.drawn.set(layer.mask, drawn);
    }
    if (drawn.picture && this.filled && layer.fill !== false) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = false;
      context.drawImage(drawn.picture, drawn.left, drawn.top);
      context.globalAlpha = 1;
    }
    if (this.outlined || layer.fill === false) {
      context.lineWidth = 2 / this.scale;
      context.setLineDash(layer.dashed ? [6 / this.scale, 4 / this.scale] : []);
      context.strokeStyle = colour;
      context.stroke(drawn.outline);
      context.setLineDash([]);
    }
  }
}

/**
 * The first and last column and row of a mask's pixels. @param {Uint8Array} mask @param {number} width
 * @returns {[number, number, number, number]} left, top, right, bottom; right is before left if the mask is empty
 */
function extent(mask, width) {
  const top = Math.floor(mask.indexOf(1) / width);
  const bottom = Math.floor(mask.lastIndexOf(1) / width);
  let [left, right] = [width, -1];
  for (let y = Math.max(0, top); y <= bottom; y++) {
    const row = mask.subarray(y * width, (y + 1) * width);
    const first = row.indexOf(1);
    if (first < 0) continue;
    left = Math.min(left, first);
    right = Math.max(right, row.lastIndexOf(1));
  }
  return [left, top, right, bottom];
}

/**
 * A mask as a picture of its colour, no larger than its pixels, and as the path around them.
 * @param {Uint8Array} mask @param {number} width @param {number[]} colour
 */
function paintings(mask, width, [red, green, blue]) {
  const [left, top, right, bottom] = extent(mask, width);
  const outline = new Path2D();
  const picture = document.createElement('canvas');
  if (right < left) return { picture: null, outline, left, top };
  const wide = right - left + 1;
  picture.width = wide;
  picture.height = bottom - top + 1;
  const context = /** @type {CanvasRenderingContext2D} */ (picture.getContext('2d'));
  const pixels = context.createImageData(picture.width, picture.height);
  const words = new Uint32Array(pixels.data.buffer);
  const word = (255 << 24) | (blue << 16) | (green << 8) | red;
  for (let y = top; y <= bottom + 1; y++) {
    let from = -1; // a level edge between row y − 1 and row y
    for (let x = left; x <= right + 1; x++) {
      const inside = x <= right && y <= bottom && mask[y * width + x];
      if (inside) words[(y - top) * wide + x - left] = word;
      const edge = x <= right && (y <= bottom ? mask[y * width + x] : 0) !== (y > top ? mask[(y - 1) * width + x] : 0);
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        outline.moveTo(from, y);
        outline.lineTo(x, y);
        from = -1;
      }
    }
  }
  for (let x = left; x <= right + 1; x++) {
    let from = -1;
    for (let y = top; y <= bottom + 1; y++) {
      const edge = y <= bottom && (x <= right ? mask[y * width + x] : 0) !== (x > left ? mask[y * width + x - 1] : 0);
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        outline.moveTo(x, from);
        outline.lineTo(x, y);
        from = -1;
      }
    }
  }
  context.putImageData(pixels, 0, 0);
  return { picture, outline, left, top };
}

/** Load a picture, decoded. @param {string} path @returns {Promise<HTMLImageElement>} */
export async function loaded(path) {
  const image = new Image();
  image.src = path;
  await image.decode();
  return image;
}

/** A ruler: drag from end to end. @param {[number, number]|[]} spacing mm a pixel in x and y, empty where unknown @returns {Tool} */
export function ruler(spacing) {
  /** @type {number[]|null} */ let line = null;
  return {
    down: (x, y) => (line = [x, y, x, y]),
    move: (x, y) => line && (line = [line[0], line[1], x, y]),
    paint: (context, viewer) => {
      if (!line) return;
      const [x0, y0, x1, y1] = line;
      const unit = 1 / viewer.scale;
      const long = Math.hypot(x1 - x0, y1 - y0);
      const text = spacing.length === 2 ? `${Math.hypot((x1 - x0) * spacing[0], (y1 - y0) * spacing[1]).toFixed(1)} mm` : `${long.toFixed(0)} px`;
      for (const [style, width] of /** @type {[string, number][]} */ ([['#000', 4], ['#fff', 1.6]])) {
        context.strokeStyle = style;
        context.lineWidth = width * unit;
        context.beginPath();
        context.moveTo(x0, y0);
        context.lineTo(x1, y1);
        for (const [endX, endY] of [[x0, y0], [x1, y1]]) {
          context.moveTo(endX + 5 * unit, endY);
          context.arc(endX, endY, 5 * unit, 0, 7);
        }
        context.stroke();
      }
      context.font = `600 ${13 * unit}px system-ui, sans-serif`;
      const [x, y] = [(x0 + x1) / 2 + 10 * unit, (y0 + y1) / 2 - 10 * unit];
      context.lineWidth = 4 * unit;
      context.strokeStyle = '#000';
      context.strokeText(text, x, y);
      context.fillStyle = '#fff';
      context.fillText(text, x, y);
    },
  };
}
