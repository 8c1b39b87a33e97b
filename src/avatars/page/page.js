
'use strict';

const POLL_MS = 2000;
// How long the outcome of a look-up stays in view before the state of the cache replaces it.
const HOLD_MS = 3000;
// The default image of a failed download is valid for 15 s; then the page asks once more, so many times.
const RETRY_MS = 15500;
const RETRIES_MAX = 8;
// An image waits so long for the first look-up of this page, so that the look-up shows its MISS.
const FIRST_MS = 1500;
const ASKED_AT_A_TIME = 3;
const LOG_MAX = 40;

const byId = (id) => document.getElementById(id);
const rows = new Map();
let chosen = null;
let counts = null;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function shownNumber(number) {
  const parts = number.match(/^(1)(\d{3})(\d{3})(\d{4})$/);
  return parts ? `+${parts[1]} ${parts[2]} ${parts[3]} ${parts[4]}` : `+${number}`;
}

function shownTime(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

async function call(path, body) {
  const options = body === undefined ? {} :
    { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? `status ${response.status}`);
  }
  return response.status === 204 ? null : response.json();
}

// The word and the colour of a state: how the answer was found, or why there is none.
function badgeOf(contact) {
  if (contact.error) return [contact.error.reason, 'error'];
  switch (contact.status) {
    case 'HIT': return ['HIT', 'hit'];
    case 'STALE': return ['STALE', 'stale'];
    case 'MISS': return ['MISS', 'fetched'];
    case null: return [contact.note ?? 'NOT ASKED', 'none'];
    default: return [contact.status, 'again'];
  }
}

function answerOf(contact) {
  switch (contact.finding) {
    case 'picture': return 'There is a picture';
    case 'absent': return 'There is no picture';
    case 'not_found': return 'There is no such contact';
    default: return contact.error ? 'None' : 'None is stored';
  }
}

function ageOf(contact) {
  if (contact.age_seconds === null) return '–';
  const fresh = contact.fresh_seconds;
  const rest = fresh >= 0 ? `fresh for ${shownTime(fresh)}` : `stale for ${shownTime(-fresh)}`;
  return `${shownTime(contact.age_seconds)}, ${rest}`;
}

function setBadge(badge, contact) {
  const [word, kind] = badgeOf(contact);
  setText(badge, word);
  badge.dataset.kind = kind;
  badge.title = word;
}

// The address of an image. `v` and `try` are ignored by the service; they make the browser ask when the
// picture has changed, or once more after a failure.
function source(row, size) {
  const { avatar, version } = row.contact;
  if (!avatar) return null;
  const parameters = new URLSearchParams({ size });
  if (version) parameters.set('v', version);
  if (row.tries > 0) parameters.set('try', row.tries);
  return `${avatar}?${parameters}`;
}

function setImage(img, address) {
  if (address && img.getAttribute('src') !== address) img.src = address;
}

// Reads what the image of a contact with a picture is. The browser has the response already.
async function inspect(row) {
  if (row.contact.finding !== 'picture') return;
  const address = row.img.getAttribute('src');
  let status = 'unavailable';
  try {
    const response = await fetch(address, { cache: 'force-cache' });
    status = response.headers.get('Avatar-Status') ?? status;
  } catch { /* The service is away, and the poll says so. */ }
  if (row.img.getAttribute('src') !== address) return;
  row.image = status;
  row.button.dataset.image = status;
  clearTimeout(row.retry);
  // A stale answer gives a stale image. Otherwise the image is from before, because the new one is not available.
  const isLate = status === 'stale' && row.contact.status !== 'STALE';
  if ((status === 'unavailable' || isLate) && row.tries < RETRIES_MAX) {
    row.retry = setTimeout(() => { row.tries += 1; render(row); }, RETRY_MS);
  }
  if (chosen === row) renderCard();
}

function makeRow(contact) {
  const row = { contact, log: [], tries: 0, held: 0, busy: 0, image: null, retry: 0, shows: contact.status !== null, asked: false };
  const button = element('button', 'contact');
  button.type = 'button';
  button.dataset.number = contact.number;
  row.img = element('img');
  row.img.width = 48;
  row.img.height = 48;
  row.img.alt = '';
  row.img.addEventListener('load', () => inspect(row));
  row.img.addEventListener('error', () => inspect(row));
  const [top, bottom] = [element('span', 'top'), element('span', 'bottom')];
  row.when = element('span', 'when');
  row.when.setAttribute('aria-hidden', 'true');
  row.badge = element('span', 'badge');
  top.append(element('span', 'who', shownNumber(contact.number)), row.when);
  bottom.append(element('span', 'what', contact.about), row.badge);
  button.append(row.img, top, bottom);
  button.addEventListener('click', () => choose(row, true));
  row.button = button;
  const item = element('li');
  item.append(button);
  byId('contacts').append(item);
  rows.set(contact.number, row);
  return row;
}

function render(row) {
  if (row.contact.status === null) row.contact.note = row.busy ? 'ASKING' : row.asked ? 'NOT STORED' : undefined;
  if (row.shows) setImage(row.img, source(row, 96));
  setBadge(row.badge, row.contact);
  row.button.dataset.kind = row.badge.dataset.kind;
  const age = row.contact.age_seconds;
  setText(row.when, age === null ? '' : shownTime(age));
  if (chosen === row) renderCard();
}

function imageOf(row) {
  const { finding, error } = row.contact;
  if (finding === 'absent' || finding === 'not_found') return 'Default: no picture';
  if (finding !== 'picture') return error ? 'Default: no answer' : 'Default';
  switch (row.image) {
    case 'present': return 'Shown';
    case 'stale': return 'Shown, from before';
    case 'absent': return 'Default: no picture';
    case 'unavailable': return 'Default: it is not available now';
    default: return 'Loading';
  }
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

function renderCard() {
  const row = chosen;
  const { contact } = row;
  setText(byId('chat-title'), shownNumber(contact.number));
  setText(byId('chat-about'), contact.about);
  setBadge(byId('chat-badge'), contact);
  const portrait = byId('portrait');
  portrait.hidden = !(contact.avatar && row.shows);
  portrait.alt = `Avatar of ${shownNumber(contact.number)}`;
  if (row.shows) setImage(portrait, source(row, 192));
  setText(byId('fact-answer'), answerOf(contact));
  setText(byId('fact-age'), ageOf(contact));
  setText(byId('fact-image'), imageOf(row));
  setText(byId('fact-instance'), contact.instance);
  const [lookUps, images] = countsOf(contact.number);
  setText(byId('fact-upstream'), counts ? `${plural(lookUps, 'look-up')}, ${plural(images, 'download')}` : '–');
  const error = byId('fact-error');
  error.hidden = !contact.error;
  setText(error, contact.error ? `${contact.error.reason}: ${contact.error.text}.` : '');
  const root = contact.avatar ? `${location.origin}${contact.avatar}` : 'avatar_url';
  setText(byId('after'), `<img src="${root}?size=96" alt="">`);
}

function countsOf(number) {
  return [counts?.look_ups_by_number[number] ?? 0, counts?.images_by_number[number] ?? 0];
}

function renderLog() {
  const items = chosen.log.map(({ at, text, ours }) => {
    const item = element('li', ours ? 'ours' : '', text);
    const time = element('time', '', at.toLocaleTimeString());
    time.dateTime = at.toISOString();
    item.append(time);
    return item;
  });
  byId('log').replaceChildren(...items);
  byId('log').scrollTop = byId('log').scrollHeight;
}

function note(row, text, ours = false) {
  row.log.push({ at: new Date(), text, ours });
  if (row.log.length > LOG_MAX) row.log.shift();
  if (chosen === row) renderLog();
}

function announce(text) {
  byId('announcer').textContent = text;
}

function choose(row, byHand) {
  chosen = row;
  for (const other of rows.values()) {
    if (other === row) other.button.setAttribute('aria-current', 'true');
    else other.button.removeAttribute('aria-current');
  }
  byId('portrait').removeAttribute('src');
  renderCard();
  renderLog();
  if (byHand) {
    document.body.dataset.view = 'chat';
    // On a narrow screen the list has disappeared, and the focus with it.
    if (byId('contacts').offsetParent === null) byId('chat').focus();
  }
}

// Takes over a newer state of a contact, and notes what has changed.
function update(row, contact) {
  const before = row.contact;
  row.contact = contact;
  if (contact.version && before.version && contact.version !== before.version) {
    note(row, 'The picture is another one. Its image is fetched once for everyone.');
  }
  if (contact.version && contact.version !== before.version) {
    row.tries = 0;
    row.image = null;
    delete row.button.dataset.image;
  }
  render(row);
}

function outcome(contact, again, milliseconds) {
  const took = `${Math.round(milliseconds)} ms`;
  if (contact.error) return `${contact.error.reason} after ${took}. ${contact.error.text}.`;
  const found = `${answerOf(contact)}.`;
  switch (contact.status) {
    case 'HIT':
      return again
        ? `HIT in ${took}. Hypersender was asked ${shownTime(contact.age_seconds)} ago, and is asked about a contact at most `
          + 'once in --refresh-floor, which is 30 s unless it is set.'
        : `HIT in ${took}, from the cache. ${found}`;
    case 'STALE': return `STALE in ${took}: Hypersender has no better answer now. ${found}`;
    default: return `${contact.status} in ${took}: Hypersender was asked. ${found}`;
  }
}

async function ask(row, again) {
  row.busy += 1;
  render(row);
  if (again) note(row, 'Ask again, max_age: 0', true);
  const start = performance.now();
  try {
    const contact = await call('/_page/ask', { number: row.contact.number, again });
    row.held = Date.now() + HOLD_MS;
    row.asked = true;
    row.shows = true;
    const text = outcome(contact, again, performance.now() - start);
    note(row, text);
    if (again) announce(text);
    update(row, contact);
  } catch (error) {
    note(row, `The look-up failed: ${error.message}`);
    if (again) announce(`The look-up failed: ${error.message}`);
  } finally {
    row.busy -= 1;
    render(row);
  }
}

async function change(row) {
  note(row, 'Change picture', true);
  try {
    await call('/_page/change', { number: row.contact.number });
    const text = row.contact.finding === 'picture'
      ? 'Done. The service does not know yet: ask again, or wait until its answer is no longer fresh.'
      : 'Done, but this number shows no picture.';
    note(row, text);
    announce(text);
  } catch (error) {
    note(row, `The picture was not changed: ${error.message}`);
    announce(`The picture was not changed: ${error.message}`);
  }
}

// A button stays focusable while its action runs; further presses do nothing.
function action(button, act) {
  button.addEventListener('click', async () => {
    if (!chosen || button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    await act(chosen);
    button.setAttribute('aria-disabled', 'false');
    await poll();
  });
}

function setLive(state, text) {
  byId('live').dataset.state = state;
  setText(byId('live-text'), text);
}

function renderCounts(upstream) {
  const before = counts;
  counts = upstream;
  setText(byId('count-look-ups'), upstream ? String(upstream.look_ups) : '–');
  setText(byId('count-images'), upstream ? String(upstream.images) : '–');
  if (!before || !upstream) return;
  for (const [number, row] of rows) {
    const [lookUps, images] = ['look_ups_by_number', 'images_by_number']
      .map((name) => (upstream[name][number] ?? 0) - (before[name][number] ?? 0));
    if (lookUps > 0 && row.busy === 0 && Date.now() > row.held) note(row, `Hypersender got ${plural(lookUps, 'look-up')}.`);
    if (images > 0) note(row, `The CDN got ${plural(images, 'download')}.`);
  }
}

async function poll() {
  let state;
  try {
    state = await call('/_page/state');
  } catch {
    setLive('lost', 'The service does not answer');
    return;
  }
  setLive(state.upstream ? 'live' : 'lost', state.upstream ? 'Live' : 'The sandbox does not answer');
  for (const contact of state.contacts) {
    const row = rows.get(contact.number) ?? makeRow(contact);
    // The outcome of a look-up stays in view for a moment.
    if (row.busy === 0 && Date.now() > row.held) update(row, contact);
    else render(row);
  }
  renderCounts(state.upstream);
  if (!chosen && rows.size > 0) choose(rows.values().next().value, false);
  else if (chosen) renderCard();
}

// Asks for the numbers without an answer, a few at a time.
async function askFirst() {
  const unknown = [...rows.values()].filter((row) => row.contact.status === null && !row.contact.error);
  setTimeout(() => {
    for (const row of rows.values()) {
      row.shows = true;
      render(row);
    }
  }, FIRST_MS);
  const worker = async () => {
    for (let row = unknown.shift(); row; row = unknown.shift()) await ask(row, false);
  };
  await Promise.all(Array.from({ length: ASKED_AT_A_TIME }, worker));
}

async function run() {
  await poll();
  askFirst();
  for (;;) {
    await new Promise((done) => setTimeout(done, POLL_MS));
    if (!document.hidden) await poll();
  }
}

action(byId('ask'), (row) => ask(row, true));
action(byId('change'), change);
byId('back').addEventListener('click', () => {
  document.body.dataset.view = 'list';
  chosen?.button.focus();
});
run();
