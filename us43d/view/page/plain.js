// @ts-check
import '/static/dom.js';
