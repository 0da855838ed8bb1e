// Draws the comparison of dictionaries from the JSON in the page, with drawing.js.

const dictionaries = data.dictionaries;

// A series: dictionaries that differ only in how sparse they are and in their seed.
const seriesOf = dictionary => `${dictionary.architecture}, ${whole.format(dictionary.latents)} latents`;
const series = [...new Set(dictionaries.map(seriesOf))];
const place = dictionary => series.indexOf(seriesOf(dictionary));
const front = new Set(data.front);
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

/// Shape and colour of a series, so that either is enough to tell it.
function mark(index, x, y, size, attributes = {}) {
  const outline = [
    () => drawn('circle', {cx: x, cy: y, r: size}),
    () => drawn('rect', {x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8}),
    () => drawn('path', {d: `M${x} ${y - size * 1.25}L${x + size * 1.15} ${y + size * 0.85}H${x - size * 1.15}Z`}),
    () => drawn('path', {d: `M${x} ${y - size * 1.3}L${x + size * 1.3} ${y}L${x} ${y + size * 1.3}L${x - size * 1.3} ${y}Z`}),
  ][(index + Math.floor(index / 4)) % 4]();
  outline.setAttribute('class', `mark s${index % 4}`);
  for (const [key, value] of Object.entries(attributes)) outline.setAttribute(key, value);
  return outline;
}

const sample = index => drawn('svg', {class: 'sample', viewBox: '0 0 14 14', width: 14, height: 14, 'aria-hidden': 'true'}, mark(index, 7, 7, 4.5));

function opening() {
  const sites = [...new Set(dictionaries.map(dictionary => dictionary.site).filter(site => site))];
  page.append(element('header', {},
    element('p', {class: 'kicker'}, 'Sememe comparison'),
    element('h1', {}, `${whole.format(dictionaries.length)} dictionaries` + (sites.length === 1 ? ` of ${sites[0]}` : '') + ', held against one another'),
    data.findings.map(sentence => element('p', {class: 'lead'}, sentence)),
    data.warnings.map(sentence => element('p', {class: 'aside'}, sentence))));
}

// The picture.

/// Ticks on a logarithmic axis whose values are given as log10: powers of two, which k is most often, or finer where too few of them fit.
function logTicks(low, high, wide) {
  const found = [], doubled = [];
  for (let power = Math.ceil(low / Math.LOG10E / Math.LN2); power * Math.log10(2) <= high; ++power) doubled.push(power * Math.log10(2));
  if (doubled.length > 1 && doubled.length <= wide) return doubled;
  for (const digits of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]]) {
    const fit = [];
    for (let power = Math.floor(low) - 1; power <= Math.ceil(high); ++power)
      for (const digit of digits) if (power + Math.log10(digit) >= low && power + Math.log10(digit) <= high) fit.push(power + Math.log10(digit));
    if (fit.length <= wide) found.splice(0, found.length, ...fit);
  }
  return found;
}

/// Points of all dictionaries that have both numbers; a line joins the means of the recipes of each series.
function scatter({x, y, low, high, yShow, floor, ceiling, stairs}) {
  return (width, height, title) => {
    const points = dictionaries.map((dictionary, index) => ({dictionary, index, x: Math.log10(x(dictionary)), y: y(dictionary)}))
      .filter(point => Number.isFinite(point.x) && Number.isFinite(point.y));
    const xs = points.map(point => point.x), ys = points.flatMap(({dictionary, y: value}) => [value, low?.(dictionary) ?? value, high?.(dictionary) ?? value]);
    const xPad = Math.max(0.06, (Math.max(...xs) - Math.min(...xs)) * 0.08), yPad = Math.max(1e-4, (Math.max(...ys) - Math.min(...ys)) * 0.08);
    const xRange = [Math.min(...xs) - xPad, Math.max(...xs) + xPad];
    const yRange = [Math.max(floor, Math.min(...ys) - yPad), Math.min(ceiling, Math.max(...ys) + yPad)];
    const f = frame(width, height, title, xRange, yRange, logTicks(...xRange, Math.max(3, width / 70)), ticks(...yRange, 5),
      value => String(Number((10 ** value).toPrecision(2))), yShow(yRange[1] - yRange[0]));
    if (stairs) {
      const best = points.filter(point => front.has(point.index)).sort((a, b) => a.x - b.x);
      if (best.length > 1)
        f.root.append(drawn('path', {class: 'stairs', d: best.map((point, i) => i ? `H${f.x(point.x).toFixed(1)}V${f.y(point.y).toFixed(1)}` : `M${f.x(point.x).toFixed(1)} ${f.y(point.y).toFixed(1)}`).join('')}));
    }
    series.forEach((name, index) => {
      const own = points.filter(point => place(point.dictionary) === index);
      const means = [...new Set(own.map(point => point.dictionary.recipe))].map(recipe => own.filter(point => point.dictionary.recipe === recipe))
        .map(same => [mean(same.map(point => point.x)), mean(same.map(point => point.y))]).sort((a, b) => a[0] - b[0]);
      if (means.length > 1)
        f.root.append(drawn('path', {class: `series thin s${index % 4}` + (index % 2 ? ' dashed' : ''), d: means.map(([a, b], i) => (i ? 'L' : 'M') + f.x(a).toFixed(1) + ' ' + f.y(b).toFixed(1)).join('')}));
    });
    for (const point of points) {
      const {dictionary} = point, [a, b] = [low?.(dictionary), high?.(dictionary)];
      if (has(a) && has(b)) f.root.append(drawn('line', {class: `whisker s${place(dictionary) % 4}`, x1: f.x(point.x), x2: f.x(point.x), y1: f.y(a), y2: f.y(b)}));
      const shape = mark(place(dictionary), f.x(point.x), f.y(point.y), 5);
      shape.append(drawn('title', {}, `${dictionary.name}: ${significant(point.y)} at ${significant(10 ** point.x)}`));
      f.root.append(shape);
    }
    return f.root;
  };
}

/// The numbers in which most dictionaries can be compared: where a number is from differs, and numbers from different places do not mix.
function source(key) {
  const places = ['evaluation', 'on_activations', 'training'].map(name => [name, dictionaries.filter(dictionary => has(dictionary[name]?.[key])).length]);
  return places.reduce((best, one) => one[1] > best[1] ? one : best, [null, 0])[0];
}

const sourceName = {evaluation: 'on held-out text', on_activations: 'on the activations given', training: 'at the end of training'};
const percentTicks = range => value => percent(value, range < 0.004 ? 2 : range < 0.04 ? 1 : 0);

function picture() {
  const figures = element('div', {class: 'charts first-wide'});
  if (dictionaries.some(dictionary => dictionary.evaluation))
    figures.append(chart('Prediction kept', 'against latents per token (L0, logarithmic). Up and to the left is better; bars are 95 % intervals, the grey stairs join those that no other beats.', 320,
      scatter({x: d => d.evaluation?.l0, y: d => d.evaluation?.ce_recovered, low: d => d.evaluation?.ce_recovered_low, high: d => d.evaluation?.ce_recovered_high, yShow: percentTicks, floor: -Infinity, ceiling: Infinity, stairs: true})));
  const explained = source('fvu');
  if (explained)
    figures.append(chart('Variance explained', `against latents per token (L0, logarithmic), ${sourceName[explained]}.`, 320,
      scatter({x: d => d[explained]?.l0, y: d => has(d[explained]?.fvu) ? 1 - d[explained].fvu : undefined, yShow: percentTicks, floor: -Infinity, ceiling: 1})));
  const dead = source('dead');
  if (dead)
    figures.append(chart('Dead latents', `as a share, against k (logarithmic; L0 where there is no k), ${sourceName[dead]}. Down is better.`, 320,
      scatter({x: d => d.k ?? d[dead]?.l0, y: d => has(d[dead]?.dead) ? d[dead].dead / d.latents : undefined, yShow: percentTicks, floor: 0, ceiling: 1})));
  if (!figures.children.length) return;
  page.append(element('section', {}, element('h2', {}, 'How much, for how few latents'),
    element('ul', {class: 'legend'}, series.map((name, index) => element('li', {}, sample(index), name))), figures));
}

// Tables. Wide ones scroll inside their own frame.

function table(heads, rows, label) {
  return element('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label}, element('table', {class: 'many'},
    element('thead', {}, element('tr', {}, heads.map((head, index) => element('th', {scope: 'col', class: index ? 'value' : ''}, head)))),
    element('tbody', {}, rows)));
}

function figuresTable() {
  const best = d => d.evaluation ?? d.on_activations ?? d.training ?? {};
  const bounds = (d, key) => has(best(d)[key + '_low']) ? element('small', {}, `${percent(best(d)[key + '_low'])} to ${percent(best(d)[key + '_high'])}`) : null;
  const columns = [
    ['k', d => d.k, v => significant(v)],
    ['Seed', d => d.seed, v => String(v)],
    ['L0', d => best(d).l0, v => v.toFixed(1)],
    ['Prediction kept', d => best(d).ce_recovered, (v, d) => [percent(v, 2), bounds(d, 'ce_recovered')]],
    ['against the mean', d => best(d).ce_recovered_mean, (v, d) => [percent(v, 2), bounds(d, 'ce_recovered_mean')]],
    ['KL', d => best(d).kl, v => v.toFixed(4)],
    ['Dead', d => has(best(d).dead) ? best(d).dead / d.latents : undefined, v => share(v)],
    ['Explained', d => has(best(d).fvu) ? 1 - best(d).fvu : undefined, v => percent(v)],
    ['NMSE', d => best(d).nmse, v => v.toFixed(3)],
    ['Cosine', d => best(d).cosine, v => v.toFixed(3)],
    ['Norm ratio', d => best(d).l2_ratio, v => v.toFixed(3)],
    ['Dense', d => best(d).dense, v => whole.format(v)],
  ].filter(([, of]) => dictionaries.some(dictionary => has(of(dictionary))));
  const rows = dictionaries.map((dictionary, index) => element('tr', {},
    element('th', {scope: 'row'}, sample(place(dictionary)), dictionary.name),
    columns.map(([head, of, show]) => {
      const value = of(dictionary), marked = head === 'Prediction kept' && front.has(index);
      return element('td', marked ? {class: 'better', title: 'no other beats it'} : {}, has(value) ? show(value, dictionary) : '–');
    })));
  const tokens = dictionaries.map(d => d.evaluation?.tokens).filter(has), sources = [...new Set(dictionaries.map(d => d.evaluation ? 'evaluation' : d.on_activations ? 'on_activations' : 'training'))];
  page.append(element('section', {}, element('h2', {}, 'Figures'),
    element('p', {class: 'aside'}, `Measured ${list(sources.map(name => sourceName[name]))}` + (tokens.length ? `, ${whole.format(Math.min(...tokens))}${Math.min(...tokens) < Math.max(...tokens) ? ' to ' + whole.format(Math.max(...tokens)) : ''} tokens of it. A dot marks those that no other beats in both L0 and prediction kept; the small numbers are 95 % intervals.` : '.')),
    table(['Dictionary', ...columns.map(([head]) => head)], rows, 'Figures of the dictionaries')));
}

function recipes() {
  const several = data.recipes.filter(recipe => recipe.dictionaries.length > 1);
  if (!several.length) return;
  const rows = several.map(recipe => {
    const own = recipe.dictionaries.map(index => dictionaries[index]);
    const spread = (of, show) => {
      const values = own.map(of).filter(has);
      if (values.length !== own.length) return '–';
      return [show(mean(values)), element('small', {}, `${show(Math.min(...values))} to ${show(Math.max(...values))}`)];
    };
    return element('tr', {}, element('th', {scope: 'row'}, sample(place(own[0])), recipe.name), element('td', {}, String(own.length)),
      element('td', {}, has(recipe.stability) ? recipe.stability.toFixed(3) : '–'),
      element('td', {}, spread(d => d.evaluation?.ce_recovered, v => percent(v, 2))),
      element('td', {}, spread(d => d[source('dead')]?.dead / d.latents, v => percent(v))));
  });
  page.append(element('section', {}, element('h2', {}, 'What depends on the seed'),
    element('p', {class: 'aside'}, 'Dictionaries learnt in the same way but from another seed. Stability is the mean cosine of their atoms, matched one to one: 1 means that every seed finds the same atoms. The small numbers are the least and the most.'),
    table(['Recipe', 'Seeds', 'Stability', 'Prediction kept', 'Dead'], rows, 'Recipes and their seeds')));
}

function likeness() {
  const between = new Map(data.pairs.flatMap(pair => [[`${pair.first} ${pair.second}`, pair], [`${pair.second} ${pair.first}`, pair]]));
  const rows = dictionaries.map((dictionary, row) => element('tr', {},
    element('th', {scope: 'row'}, element('b', {}, String(row + 1)), ' ' + dictionary.name),
    dictionaries.map((other, column) => {
      if (row === column) return element('td', {class: 'self', 'aria-label': 'the same'});
      const pair = between.get(`${row} ${column}`), nearest = row === pair.first ? pair.first_nearest : pair.second_nearest;
      const value = row < column ? pair.matched_cosine : nearest.mean_cosine;
      const what = row < column ? 'matched' : 'nearest';
      const cell = element('td', {class: 'heat', title: `${dictionary.name} and ${other.name}: ${what} ${has(value) ? value.toFixed(3) : 'unknown'}` + (pair.seeds ? ', seeds of one recipe' : '')},
        has(value) ? (pair.seeds ? element('b', {}, value.toFixed(2)) : value.toFixed(2)) : '–');
      if (has(value)) cell.style.setProperty('--a', Math.max(0, Math.min(1, value)).toFixed(2));
      return cell;
    })));
  page.append(element('section', {}, element('h2', {}, 'How alike their atoms are'),
    element('p', {class: 'aside'}, 'Above the diagonal: mean cosine of the atoms, matched one to one. Below it: mean cosine of each of the row’s atoms with the nearest of the column’s, which several may share. Bold: seeds of one recipe. Columns are numbered as the rows.'),
    table(['Dictionary', ...dictionaries.map((dictionary, index) => String(index + 1))], rows, 'Likeness of each pair')));
}

function splitting() {
  const pairs = data.pairs.filter(pair => pair.splitting);
  if (!pairs.length) return;
  const fired = pairs.some(pair => has(pair.splitting.rows));
  const rows = pairs.map(({first, second, splitting: found}) => {
    const larger = first + second - found.smaller;
    const cells = [whole.format(found.atoms), whole.format(found.atoms_with_parts), whole.format(found.atoms_split), found.mean_parts.toFixed(2), whole.format(found.largest)];
    if (fired) cells.push(has(found.nested) ? whole.format(found.nested) : '–', has(found.mean_inside) ? percent(found.mean_inside) : '–', has(found.mean_covered) ? percent(found.mean_covered) : '–');
    return element('tr', {}, element('th', {scope: 'row'}, `${dictionaries[found.smaller].name} in ${dictionaries[larger].name}`), cells.map(cell => element('td', {}, cell)));
  });
  page.append(element('section', {}, element('h2', {}, 'How atoms split'),
    element('p', {class: 'aside'}, `For each atom of the smaller dictionary, its parts: atoms of the larger with a cosine above ${pairs[0].splitting.threshold}.` +
      (fired ? ' Nested: at least two parts fire, and each of them on places where the atom fires, at least nine times in ten. Inside: share of the parts’ firings where the atom fires. Covered: share of the atom’s firings where a part fires.' : ' With --activations it is also said whether they fire inside it.')),
    table(['Smaller in larger', 'Atoms', 'With parts', 'Split', 'Mean parts', 'Most', ...(fired ? ['Nested', 'Inside', 'Covered'] : [])], rows, 'Feature splitting')));
}

function method() {
  explain([
    ['Prediction kept', 'Cross-entropy recovered: (zeros − dictionary) / (zeros − clean), where each is the model’s cross-entropy with zeros, the reconstruction, or nothing in the place of the activations. Against the mean: with the mean activation instead of zeros.'],
    ['95 % intervals', 'By bootstrap: contexts of the text are drawn again with replacement, 1000 times, and the figure computed anew. They say how much the text matters, not the seed.'],
    ['Dead', 'Latents that fire on no token of the text or the rows. On a longer text fewer are dead. At the end of training: not selected lately.'],
    ['Matched one to one', 'Of all ways to give each atom of the smaller dictionary an atom of its own in the larger, the one with the largest sum of cosines (the assignment problem, solved exactly). The cosine has a sign: an atom and its negative are different.'],
    ['Explained', 'One minus squared error over the variance around the mean of the whole set.'],
    ['NMSE, cosine, norm ratio', 'Means over tokens of squared error over squared norm, of the cosine between activation and reconstruction, and of the reconstruction’s norm over the activation’s.'],
  ]);
}

draw(opening, picture, figuresTable, recipes, likeness, splitting, method);
