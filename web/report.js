// Draws the report from the JSON in the page, with drawing.js.

const dictionaries = data.dictionaries;

const swatch = index => element('span', {class: `swatch s${index % 4}` + (index % 2 ? ' dashed' : '')});

/// Text of tokens: line ends and bare spaces made visible.
function visible(text) {
  return text.replace(/\n/g, '↵').replace(/^\s$/, '␣').replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, '�');
}

const token = text => element('span', {class: 'token'}, visible(text));
const tokens = all => element('span', {class: 'words'}, all.map(one => element('span', {}, token(one.text))));

// The head: what was found.

function opening() {
  const model = data.model;
  const sites = [...new Set(dictionaries.map(dictionary => dictionary.site))];
  const evaluated = dictionaries.filter(dictionary => dictionary.evaluation);
  const first = dictionaries[0];
  page.append(element('header', {},
    element('p', {class: 'kicker'}, 'Sememe report'),
    element('h1', {}, model ? `What ${model.name} has learnt` + (sites.length === 1 && sites[0] ? `, seen at ${sites[0]}` : '') : 'What the network has learnt'),
    element('p', {class: 'lead'}, data.findings.join(' '))));
  const figures = element('dl', {class: 'figures'});
  const figure = (label, value, note) => figures.append(element('div', {}, element('dt', {}, label), element('dd', {}, value, element('small', {}, note))));
  if (model && has(model.heldout_bits_per_byte))
    figure('The model predicts held-out text at', model.heldout_bits_per_byte.toFixed(3),
      'bits per byte' + (has(model.kneser_ney_bits_per_byte) ? `; a 5-gram needs ${model.kneser_ney_bits_per_byte.toFixed(3)}` : ''));
  for (const {name, evaluation} of evaluated.slice(0, 2))
    figure(`${name} explains`, percent(evaluation.explained_variance), 'of the activations’ variance');
  if (first && first.description) figure('Latents were described on', whole.format(first.description.tokens), 'held-out tokens');
  if (figures.children.length) page.append(figures);
}

// The table.

const measures = [
  {name: 'Latents', what: 'Entries of the dictionary: directions in the activation space.', of: d => d.latents, show: whole.format},
  {name: 'Latents per token (L0)', what: 'How many of them describe one token, on average.', of: d => d.evaluation?.l0, show: v => v.toFixed(1)},
  {name: 'Variance explained', what: 'How much of the activations the latents rebuild.', of: d => d.evaluation?.explained_variance, show: v => percent(v), better: 1},
  {name: 'Prediction kept', what: 'What the model still knows when the rebuilt activations take the place of the real ones: 100 % loses nothing, 0 % is as bad as zeros (cross-entropy recovered).', of: d => d.evaluation?.ce_recovered, show: v => percent(v, 2), better: 1},
  {name: 'Prediction kept, against the mean', what: 'The same, where 0 % is as bad as the mean activation: a stricter scale.', of: d => d.evaluation?.ce_recovered_mean, show: v => percent(v, 2), better: 1},
  {name: 'Prediction kept, selecting by gradient', what: 'Selection then looks at the next token, which a use of the dictionary does not know: a bound, not a result.', of: d => d.evaluation?.ce_recovered_gradient, show: v => percent(v, 2)},
  {name: 'Cross-entropy', what: d => 'Nats per token with the dictionary in place' + (d ? `; the untouched model has ${d.toFixed(3)}.` : '.'), of: d => d.evaluation?.ce_dictionary, show: v => v.toFixed(3), better: -1},
  {name: 'Divergence (KL)', what: 'How far the predictions move, in nats.', of: d => d.evaluation?.kl, show: v => v.toFixed(4), better: -1},
  {name: 'Never fire', what: 'Latents that fire on no held-out token.', of: d => d.evaluation?.dead, show: whole.format, better: -1},
  {name: 'Fire on more than a tenth', what: 'Latents so common that they tell little.', of: d => d.evaluation?.dense, show: whole.format, better: -1},
  {name: 'Clear latents', what: 'Clarity of at least 0.5 (see below).', of: d => d.description ? d.clear : undefined, show: whole.format, better: 1},
  {name: 'Median clarity', what: 'Of the latents that fire often enough to say.', of: d => d.description?.median_clarity, show: v => v.toFixed(2), better: 1},
  {name: 'Learning speed', what: 'Tokens per second while it was learnt.', of: d => d.training?.tokens_per_second, show: v => whole.format(Math.round(v)), better: 1},
];

function comparison() {
  const clean = dictionaries.map(dictionary => dictionary.evaluation?.ce_clean).find(has);
  const body = element('tbody');
  for (const measure of measures) {
    const values = dictionaries.map(measure.of);
    if (!values.some(has)) continue;
    const shown = values.map(value => has(value) ? measure.show(value) : '–');
    const known = values.filter(has);
    const best = measure.better && known.length > 1 ? measure.show(measure.better > 0 ? Math.max(...known) : Math.min(...known)) : null;
    const tie = shown.every(text => text === shown[0]);
    body.append(element('tr', {},
      element('th', {scope: 'row'}, measure.name, element('span', {}, typeof measure.what === 'function' ? measure.what(clean) : measure.what)),
      shown.map(text => element('td', text === best && !tie ? {class: 'better', title: 'the better one'} : {}, text))));
  }
  const evaluated = dictionaries.map(dictionary => dictionary.evaluation?.tokens).filter(has);
  page.append(element('section', {},
    element('h2', {}, dictionaries.length === 1 ? 'Is it true?' : 'Side by side'),
    element('p', {class: 'aside'}, evaluated.length ? `Measured on ${whole.format(Math.min(...evaluated))} held-out tokens.` + (dictionaries.length > 1 ? ' A dot marks the better value.' : '') : 'No evaluation was given.'),
    element('table', {},
      element('thead', {}, element('tr', {}, element('th', {scope: 'col'}, 'Measure'),
        dictionaries.map((dictionary, index) => element('th', {scope: 'col', class: 'value'}, swatch(index), dictionary.name)))),
      body)));
}

// Charts.

function curve(key) {
  return (width, height, title) => {
    const all = dictionaries.map(dictionary => (dictionary.training?.curve ?? []).filter(point => Number.isFinite(point[key]) && point[key] > 0));
    const points = all.flat();
    const last = Math.max(...points.map(point => point.tokens));
    // A logarithm, so that the long tail of learning still shows.
    let low = Math.log10(Math.min(...points.map(point => point[key]))), high = Math.log10(Math.max(...points.map(point => point[key])));
    if (high - low < 0.2) [low, high] = [low - 0.1, high + 0.1];
    const candidates = [];
    for (let power = Math.floor(low) - 1; power <= Math.ceil(high); ++power) for (const digit of high - low > 1.4 ? [1, 3] : [1, 1.5, 2, 3, 5, 7]) candidates.push(power + Math.log10(digit));
    const yTicks = candidates.filter(value => value >= low - 0.02 && value <= high + 0.02);
    const f = frame(width, height, title, [0, last], [low - 0.03, high + 0.03], ticks(0, last, Math.max(2, width / 110)), yTicks, short, value => String(Number((10 ** value).toPrecision(2))));
    all.forEach((line, index) => {
      if (line.length === 0) return;
      const path = line.map((point, i) => (i ? 'L' : 'M') + f.x(point.tokens).toFixed(1) + ' ' + f.y(Math.log10(point[key])).toFixed(1)).join('');
      f.root.append(drawn('path', {class: `series s${index % 4}` + (index % 2 ? ' dashed' : ''), d: path}));
    });
    return f.root;
  };
}

/// Latents by log10 of their density, as steps; both dictionaries over one another.
function densities(width, height, title) {
  const bins = dictionaries.map(dictionary => dictionary.densities);
  const used = bins.flatMap(({first, width: step, latents}) => latents.flatMap((count, i) => count ? [first + i * step, first + (i + 1) * step] : []));
  const xs = [Math.floor(Math.min(...used) * 2) / 2, Math.max(...used)], most = Math.max(...bins.flatMap(({latents}) => latents));
  const f = frame(width, height, title, xs, [0, most * 1.05], [-6, -5, -4, -3, -2, -1, 0].filter(v => v >= xs[0] && v <= xs[1]), ticks(0, most, 4),
    value => value === 0 ? 'always' : '1 in ' + short(Number((10 ** -value).toPrecision(1))), short);
  bins.forEach(({first, width: step, latents}, index) => {
    let path = '';
    latents.forEach((count, i) => {
      const a = first + i * step, b = a + step;
      if (b <= xs[0] || a >= xs[1]) return;
      path += (path ? 'V' : `M${f.x(a).toFixed(1)} `) + f.y(count).toFixed(1) + `H${f.x(b).toFixed(1)}`;
    });
    f.root.append(drawn('path', {class: `series s${index % 4}` + (index % 2 ? ' dashed' : ''), d: path}));
  });
  return f.root;
}

function charts() {
  const figures = element('div', {class: 'charts'});
  if (dictionaries.some(dictionary => dictionary.training?.curve?.length > 1))
    figures.append(chart('Loss', 'while learning, by tokens seen; logarithmic.', 230, curve('loss')),
      chart('Variance left unexplained', '(FVU) while learning; logarithmic.', 230, curve('fvu')));
  if (dictionaries.every(dictionary => dictionary.densities?.latents.some(count => count > 0)))
    figures.append(chart('How often latents fire', '— latents by the share of tokens they fire on; those that never fire are left out.', 230, densities));
  if (!figures.children.length) return;
  page.append(element('section', {}, element('h2', {}, 'How they were learnt, and how often they fire'),
    element('ul', {class: 'legend'}, dictionaries.map((dictionary, index) => element('li', {}, swatch(index), dictionary.name))), figures));
}

// Latents.

function histogram(counts, maximum) {
  const width = 260, height = 54, most = Math.max(...counts, 1), step = width / counts.length;
  const root = drawn('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img', preserveAspectRatio: 'none', 'aria-label': `firings by activation, from 0 to ${significant(maximum)}`});
  counts.forEach((count, i) => {
    // The square root keeps the rare strong firings visible beside the many weak ones.
    const tall = count ? Math.max(1.5, Math.sqrt(count / most) * (height - 2)) : 0;
    root.append(drawn('rect', {class: 'bar', x: (i * step + 0.5).toFixed(1), y: (height - tall).toFixed(1), width: (step - 1).toFixed(1), height: tall.toFixed(1)}));
  });
  root.append(drawn('line', {class: 'grid', x1: 0, x2: width, y1: height, y2: height}));
  return root;
}

/// A passage with the places where the latent fires coloured by how strongly.
function passage(example, maximum) {
  const text = element('span', {class: 'passage', lang: ''});
  const strengths = new Map(example.activations);
  let plain = '';
  const flush = () => { if (plain) text.append(plain); plain = ''; };
  example.parts.forEach((part, i) => {
    const strength = strengths.get(i);
    const seen = part.replace(/\n+/g, ' ↵ ').replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, ' ');
    if (!strength) { plain += seen; return; }
    flush();
    // Leading space belongs between the words, not under the colour.
    const lead = seen.match(/^\s*/)[0], rest = seen.slice(lead.length);
    if (rest) text.append(lead);
    const mark = element('mark', {title: `activation ${significant(strength)}`, class: i === example.peak ? 'peak' : 'fires'}, rest || '␣');
    mark.style.setProperty('--a', Math.max(0.12, Math.min(1, strength / maximum)).toFixed(2));
    text.append(mark);
  });
  flush();
  return text;
}

const groupNames = {top: 'strongest', '75%': 'stronger than 75 %', '50%': 'middling', '25%': 'stronger than 25 %'};

function passages(examples, maximum) {
  let group = '';
  return element('ol', {class: 'passages'}, examples.map(example => {
    const label = example.group !== group ? element('b', {}, groupNames[example.group] ?? example.group, element('br')) : null;
    group = example.group;
    return element('li', {}, element('span', {class: 'where'}, label, significant(example.activation)), passage(example, maximum));
  }));
}

function card(dictionary, latent) {
  const facts = element('dl', {class: 'facts'});
  const fact = (label, ...value) => facts.append(element('dt', {}, label), element('dd', {}, value));
  const meter = element('span', {class: 'meter', 'aria-hidden': 'true'}, element('i'));
  meter.firstChild.style.width = percent(latent.clarity ?? 0, 0).replace(' ', '');
  const words = latent.key_words.slice(0, 4).map(word => visible(word.text));
  if (latent.context_words.length) fact('Words before it', element('span', {class: 'words'}, latent.context_words.slice(0, 6).map(word => element('span', {}, visible(word.text)))));
  fact('Tokens it fires on', element('span', {class: 'words'}, latent.fires_on.slice(0, 6).map(one => element('span', {}, token(one.text), ' ' + percent(one.value, 0)))));
  if (latent.promoted.length) {
    fact('Its direction promotes', tokens(latent.promoted.slice(0, 7)));
    fact('and suppresses', tokens(latent.suppressed.slice(0, 7)));
  }
  const near = latent.nearest.slice(0, 3).map(other => {
    const name = `${other.latent} (${other.cosine.toFixed(2)})`;
    return dictionary.embedded.has(other.latent) ? element('a', {href: `#${dictionary.id}-${other.latent}`}, name) : name;
  });
  if (near.length) fact('Nearest by direction (cosine)', near.flatMap((one, i) => i ? [', ', one] : [one]));
  fact(`Activation, 0 to ${significant(latent.maximum)}`, histogram(latent.histogram, latent.maximum));
  // One passage of each strength is in sight, the rest is folded away.
  const first = latent.examples.filter((example, i) => latent.examples.findIndex(other => other.group === example.group) === i || i < 3);
  const rest = latent.examples.filter(example => !first.includes(example));
  const texts = element('div', {}, passages(first, latent.maximum),
    rest.length ? element('details', {}, element('summary', {}, `${rest.length} more passages`), passages(rest, latent.maximum)) : null);
  return element('article', {class: 'card', id: `${dictionary.id}-${latent.latent}`},
    element('header', {}, element('h3', {}, words.length ? words.join(', ') : 'no key words'),
      element('span', {class: 'number'}, `${dictionary.name} latent ${latent.latent}`),
      element('span', {class: 'number'}, meter, has(latent.clarity) ? `clarity ${latent.clarity.toFixed(2)}` : 'clarity unknown'),
      element('span', {class: 'number'}, `fires on ${share(latent.density)} of tokens`)),
    facts, texts);
}

const orders = {
  clarity: ['clearest first', (a, b) => (b.clarity ?? -1) - (a.clarity ?? -1)],
  common: ['most common first', (a, b) => b.density - a.density],
  rare: ['rarest first', (a, b) => a.density - b.density],
  strong: ['strongest first', (a, b) => b.maximum - a.maximum],
  number: ['by number', (a, b) => a.latent - b.latent],
};

/// What a search looks through.
function searchable(latent) {
  return [String(latent.latent), ...latent.key_words.map(word => word.text), ...latent.context_words.map(word => word.text),
    ...latent.fires_on.map(one => one.text), ...latent.promoted.map(one => one.text), ...latent.examples.map(example => example.parts.join(''))].join('\n').toLowerCase();
}

function latents() {
  const described = dictionaries.filter(dictionary => dictionary.cards.length);
  if (!described.length) return;
  for (const dictionary of described) {
    dictionary.embedded = new Set(dictionary.cards.map(latent => latent.latent));
    for (const latent of dictionary.cards) latent.search = searchable(latent);
  }
  const onScreen = 20;
  let chosen = described[0], limit = onScreen;
  const search = element('input', {type: 'search', id: 'search', placeholder: 'word, token or number', autocomplete: 'off'});
  const order = element('select', {id: 'order'}, Object.entries(orders).map(([key, [name]]) => element('option', {value: key}, name)));
  const choice = element('fieldset', {}, element('legend', {}, 'Dictionary'), described.map((dictionary, index) => {
    const input = element('input', {type: 'radio', name: 'dictionary', value: String(index)});
    input.checked = index === 0;
    input.addEventListener('change', () => { chosen = dictionary; limit = onScreen; show(); });
    return element('label', {}, input, element('span', {}, dictionary.name));
  }));
  const count = element('p', {class: 'count', role: 'status'}), cards = element('div'), more = element('button', {type: 'button'}, 'Show more');
  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = chosen.cards.filter(latent => latent.search.includes(wanted)).sort(orders[order.value][1]);
    cards.replaceChildren(...found.slice(0, limit).map(latent => card(chosen, latent)));
    count.textContent = `${whole.format(Math.min(limit, found.length))} of ${whole.format(found.length)} shown` + (wanted ? ` that match ${quoted(wanted)}` : '') + '. ' +
      (chosen.cards.length < chosen.latents ? `This page holds the ${whole.format(chosen.cards.length)} clearest of ${chosen.name}’s ${whole.format(chosen.latents)} latents; the others are in its description: sememe dictionary show.` : '');
    more.hidden = found.length <= limit;
  };
  search.addEventListener('input', () => { limit = onScreen; show(); });
  order.addEventListener('change', () => { limit = onScreen; show(); });
  more.addEventListener('click', () => { limit += onScreen; show(); });
  // A link to a latent that is not on screen brings it there.
  const follow = () => {
    const match = /^#(d\d+)-(\d+)$/.exec(location.hash);
    const dictionary = match && described.find(one => one.id === match[1]);
    if (!dictionary) return;
    chosen = dictionary;
    choice.querySelectorAll('input')[described.indexOf(dictionary)].checked = true;
    search.value = '';
    limit = Math.max(limit, [...chosen.cards].sort(orders[order.value][1]).findIndex(latent => latent.latent === Number(match[2])) + 1);
    show();
    document.getElementById(match[0].slice(1))?.scrollIntoView();
  };
  window.addEventListener('hashchange', follow);
  page.append(element('section', {id: 'latents', tabindex: '-1'}, element('h2', {}, 'The latents'),
    element('p', {}, 'Each latent is shown by the words that set the places where it fires apart from the rest of the text, and by passages of held-out text. Colour shows how strongly it fires; the underlined place is the peak that the passage was chosen for. Key words are counts, not explanations: what a latent stands for is for the reader to judge.'),
    element('div', {class: 'controls'}, choice, element('label', {class: 'grow', for: 'search'}, 'Search', search), element('label', {for: 'order'}, 'Order', order)),
    count, cards, more));
  show();
  follow();
}

// Steering.

function steering() {
  if (!data.steering.length) return;
  const section = element('section', {}, element('h2', {}, 'Steering'),
    element('p', {}, 'The activations are edited at every token while the model writes: a latent’s direction is added, or the activations of latents are changed. The texts start from the same prompt and the same random draws; all that differs is the edit.'));
  for (const run of data.steering) {
    const name = dictionaries.find(dictionary => dictionary.folder === run.dictionary)?.name ?? run.dictionary;
    const capital = title => title[0].toUpperCase() + title.slice(1);
    const text = (title, continuation) => element('div', {}, element('h4', {}, title),
      element('p', {}, element('span', {class: 'prompt'}, run.prompt), continuation));
    const words = run.key_words.slice(0, 6);
    section.append(element('div', {class: 'steer'},
      element('h3', {}, `${name} ${run.title}` + (words.length ? `, key words ${list(words.map(visible))}` : '')),
      run.unit === undefined ? [] : element('p', {class: 'aside'}, `One unit of strength has norm ${significant(run.unit)}: ${run.unit_meaning}.`),
      element('div', {class: 'texts'}, text('Before', run.before), run.steered.map(steered => text(capital(steered.title), steered.after))),
      run.steered.map(steered => element('p', {class: 'moves'},
        `${capital(steered.title)}, the next token’s distribution moves by ${significant(steered.kl)} nats. More likely: `,
        steered.raised.slice(0, 5).flatMap(one => [token(one.text), ` ${share(one.before)} → ${share(one.after)}  `]),
        'Less likely: ', steered.lowered.slice(0, 5).flatMap(one => [token(one.text), ` ${share(one.before)} → ${share(one.after)}  `])))));
  }
  page.append(section);
}

function method() {
  explain([
    ['Clarity', 'The text is split in two halves. On the first, the words and tokens that a latent fires on are weighed against all others (log-odds with a Dirichlet prior; those with z of at least 1.96 count). They rank the places of the second half; clarity is the average precision with which that ranking finds the places where the latent fires there. 1 means that a list of words says exactly where it fires. A latent that follows longer patterns than a word scores low here, whatever else it may stand for. With fewer than 8 firings in a half it is unknown.'],
    ['Key words', 'Words at the places where the latent fires, ordered by z of their log-odds against all other places. Words before it: the same for the 8 tokens before a firing.'],
    ['Its direction promotes', 'The tokens whose logits rise most when the latent’s direction is read by the model’s last layer directly (the logit lens). It leaves out what the layers in between do with it.'],
    ['Passages', 'Each is centred on a peak: a firing with none stronger around it. Besides the strongest, some are drawn at random near the 75 %, 50 % and 25 % quantiles of all peaks, so that weak firings are seen too. The bars show firings by activation, their height on a square-root scale.'],
  ]);
}

page.before(element('a', {class: 'skip', href: '#latents'}, 'Skip to the latents'));
draw(opening, comparison, charts, latents, steering, method);
