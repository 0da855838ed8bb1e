'use strict';
// What the pages share: elements, numbers in writing, and the frame of a chart. A page's own script follows it. Text from outside is only
// ever set as text, never as markup.

const data = JSON.parse(document.getElementById('data').textContent);
const page = document.getElementById('page');

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return made;
}

function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const whole = new Intl.NumberFormat('en');
const percent = (value, digits = 1) => (100 * value).toFixed(digits) + ' %';
const significant = (value, digits = 3) => {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 1000 || size < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
};
/// A share that may be far below a percent.
const share = value => value === 0 ? '0 %' : value < 0.001 ? '1 in ' + whole.format(Math.round(1 / value)) : percent(value, value < 0.01 ? 2 : 1);
const has = value => value !== null && value !== undefined;
const quoted = text => '“' + text + '”';
const list = words => words.length < 2 ? words.join('') : words.slice(0, -1).join(', ') + ' and ' + words[words.length - 1];

// Charts, redrawn when their width changes so that their text keeps its size.

/// Of each chart, once the page has its parts.
const redraws = [];

function chart(title, explanation, height, draw) {
  const place = element('div');
  const figure = element('figure', {}, element('figcaption', {}, element('b', {}, title), ' ' + explanation), place);
  let width = 0;
  const redraw = () => {
    const now = Math.round(place.clientWidth);
    if (now === 0 || now === width) return;
    width = now;
    place.replaceChildren(draw(width, height, title));
  };
  new ResizeObserver(redraw).observe(place);
  redraws.push(redraw);
  return figure;
}

/// Round steps that cover [low, high] in about `wanted` parts.
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(part => part * unit).find(part => part >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

const short = value => value >= 1e6 ? Number((value / 1e6).toPrecision(3)) + 'M' : value >= 1e4 ? Number((value / 1e3).toPrecision(3)) + 'k' : String(value);

function frame(width, height, label, xs, ys, xTicks, yTicks, xShow, yShow) {
  const [left, right, top, bottom] = [46, 10, 8, 26];
  const x = value => left + (value - xs[0]) / (xs[1] - xs[0]) * (width - left - right);
  const y = value => height - bottom - (value - ys[0]) / (ys[1] - ys[0]) * (height - top - bottom);
  const root = drawn('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': label});
  for (const value of yTicks)
    root.append(drawn('line', {class: 'grid', x1: left, x2: width - right, y1: y(value), y2: y(value)}),
      drawn('text', {x: left - 7, y: y(value) + 4, 'text-anchor': 'end'}, yShow(value)));
  for (const value of xTicks)
    root.append(drawn('text', {x: x(value), y: height - 7, 'text-anchor': x(value) > width - 24 ? 'end' : 'middle'}, xShow(value)));
  return {root, x, y};
}

/// The last part of a page: terms and what they mean here, as [name, what].
function explain(entries) {
  page.append(element('section', {}, element('h2', {}, 'How to read this'),
    element('dl', {class: 'method'}, entries.flatMap(([name, what]) => [element('dt', {}, name), element('dd', {}, what)]))));
}

/// Draws the parts of a page in order; where one fails, the page says so.
function draw(...parts) {
  try {
    for (const part of parts) part();
    for (const redraw of redraws) redraw();  // not at the next frame: a page in the background has none
    document.body.dataset.ready = 'yes';
  } catch (error) {
    document.body.dataset.error = String(error);
    page.append(element('p', {role: 'alert'}, 'This page could not be drawn: ' + error));
    throw error;
  }
}
