// A headless Chromium visits pages with examples/collect.js, while the binary of collect answers, fails, or is out of reach:
//
//     LANDFALL_CHROMIUM=chromium node queue.mjs target/debug/collect
//
// Prints, for each scenario, {"events": […], "requests": [{status, ms}], …}: what went to the stream, what was on the wire, and what the
// scenario saw in its pages.

import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'

import { listen, start } from './function.mjs'
import { open } from './visitor.mjs'

const TIMEOUT_MS = 60_000
const example = (name) => readFile(new URL(`../../examples/${name}`, import.meta.url), 'utf8')
const [SNIPPET, SHOP] = await Promise.all(['collect.js', 'shop.html'].map(example))
const [binary] = process.argv.slice(2)
if (!binary) throw new Error('usage: node queue.mjs <binary of collect>')

/** Runs in every page: does what the scenario says, until it says to leave. */
async function follow(name) {
  for (;;) {
    const command = await (await fetch(`/next/${name}`)).text()
    const result = await eval(command)
    await fetch(`/done/${name}`, { method: 'POST', body: JSON.stringify(result ?? null) })
  }
}

/** A site whose pages have the snippet and do what they are told. Its origin is its own, and so is what a browser keeps of it. */
async function site(collect) {
  const pages = new Map()
  const page = (name) => {
    if (!pages.has(name)) pages.set(name, { commands: [], results: [], wake: null, told: null })
    return pages.get(name)
  }
  const { server, host } = await listen(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://site.example')
    const [, what, name] = pathname.split('/')
    if (what === 'collect.js') return response.setHeader('Content-Type', 'text/javascript').end(SNIPPET)
    if (what === 'next') {
      const { commands } = page(name)
      if (commands.length === 0) await new Promise((resolve) => (page(name).wake = resolve))
      return response.end(page(name).commands.shift())
    }
    if (what === 'done') {
      page(name).told?.(JSON.parse(await text(request)))
      return response.end()
    }
    const driver = (name) => `<script>(${follow})(${JSON.stringify(name)})</script>`
    if (what === 'shop.html') {
      const view = driver(searchParams.get('view') ?? 'list')
      return response.setHeader('Content-Type', 'text/html; charset=utf-8').end(SHOP.replace('</body>', `${view}</body>`))
    }
    if (what !== 'page') return response.writeHead(404).end()
    const frames = searchParams.getAll('frame').map((frame) => `<iframe src="/page/${frame}"></iframe>`).join('')
    const snippet = frames ? '' : `<script src="/collect.js" data-collect="http://${collect.host}/collect"
      data-property="UA-XXXXX-1" ${searchParams.get('attributes') ?? ''}></script>`
    response.setHeader('Content-Type', 'text/html; charset=utf-8').end(
      `<!doctype html><title>${name}</title><script>${searchParams.get('before') ?? ''}</script>${snippet}${frames}${driver(name)}`)
  })
  return {
    host,
    /** Runs a script in a page, and returns what it returns. */
    tell: (name, command) => new Promise((told) => {
      page(name).told = told
      page(name).commands.push(command)
      page(name).wake?.()
    }),
    /** Opens another page from one. */
    leave(name, next, more = '') {
      this.go(name, `/page/${next}?${more}`)
    },
    go(name, url) {
      page(name).commands.push(`new Promise(() => location.assign(${JSON.stringify(url)}))`)
      page(name).wake?.()
    },
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

const until = async (is) => {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await is()) return
    await pause(50)
  }
  throw new Error(`not in 20 s: ${is}`)
}
/** The hits that are stored. A page that is left before it has read the answer leaves the hit to the next page, which sends it again. */
const stored = ({ events }) => new Set(events.map(({ event_id }) => event_id)).size
const DEVICE = 'Object.keys(localStorage).sort()'
const send = (label) => `void collect('event', { ec: 'test', ea: 'sent', el: '${label}' })`

const SCENARIOS = {
  /** The stream is down while a page is left, and up when the next one is there. */
  async survives(collect, shop) {
    await until(() => collect.events.length === 1)
    collect.state.kinesis = false
    await shop.tell('first', send('kept'))
    await until(() => collect.requests.some(({ status }) => status === 503))
    const waiting = (await shop.tell('first', DEVICE)).length
    shop.leave('first', 'second')
    await pause(300)
    collect.state.kinesis = true
    await until(async () => (await shop.tell('second', DEVICE)).length === 1)
    return { waiting, device: await shop.tell('second', DEVICE) }
  },

  /** No network while many hits are on their way, and then one. */
  async offline(collect, shop) {
    await until(() => collect.events.length === 1)
    collect.state.refuse = (request) => request.socket.destroy()
    const labels = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight']
    await shop.tell('first', labels.map(send).join('; '))
    await until(() => collect.requests.length >= 12)
    collect.state.refuse = null
    await until(async () => (await shop.tell('first', DEVICE)).length === 1)
  },

  /** A hit that browsers do not keep alive, and that collect rejects. Those behind it are not held up. */
  async large(collect, shop) {
    await until(() => collect.events.length === 1)
    await shop.tell('first', `void collect('event', { ec: 'test', ea: 'sent', dp: 'x'.repeat(70_000) })`)
    await shop.tell('first', send('next'))
    await until(async () => (await shop.tell('first', DEVICE)).length === 1)
  },

  /** The page asks first, and the visitor agrees. */
  async agreed(collect, shop) {
    await until(() => stored(collect) === 1)
    shop.leave('first', 'asks', `attributes=${encodeURIComponent('data-consent="denied"')}`)
    await until(() => stored(collect) === 2)
    const asked = await shop.tell('asks', DEVICE)
    await shop.tell('asks', `void (document.querySelector('[data-collect]').dataset.consent = 'granted')`)
    await shop.tell('asks', send('agreed'))
    await until(() => stored(collect) === 3)
    shop.leave('asks', 'next')
    await until(() => stored(collect) === 4)
    return { asked, device: await shop.tell('next', DEVICE) }
  },

  /** An app that shows pages may have no storage: it is null. */
  async storageless(collect, shop) {
    await until(() => stored(collect) === 1)
    const none = `Object.defineProperty(window, 'localStorage', { get: () => null })`
    const gpc = `Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { get: () => true })`
    for (const [from, to, before] of [['first', 'second', none], ['second', 'third', `${none}; ${gpc}`]]) {
      const events = stored(collect)
      shop.leave(from, to, `before=${encodeURIComponent(before)}`)
      await until(() => stored(collect) === events + 1)
      await shop.tell(to, `${send(`one of ${to}`)}; ${send(`two of ${to}`)}`)
      await until(() => stored(collect) === events + 3)
    }
  },

  /** API Gateway throttles, without the headers that let a page read that. Then a proxy says when to come back. */
  async throttled(collect, shop) {
    await until(() => collect.events.length === 1)
    let refusals = 0
    collect.state.refuse = (request, response, seen) => {
      refusals += 1
      seen.status = 429
      const readable = {
        'Access-Control-Allow-Origin': request.headers.origin, 'Access-Control-Allow-Credentials': 'true',
        'Access-Control-Expose-Headers': 'Retry-After', 'Retry-After': '3',
      }
      response.writeHead(429, refusals === 1 ? {} : readable).end()
      if (refusals === 2) collect.state.refuse = null
      return true
    }
    await shop.tell('first', send('late'))
    await until(() => collect.events.length === 2)
  },

  /** Two pages of the same origin find the same hits, and add their own. */
  async tabs(collect, shop) {
    collect.state.kinesis = false
    await until(() => collect.requests.some(({ status }) => status === 503))
    await shop.tell('first', send('old'))
    shop.leave('first', 'both', 'frame=left&frame=right')
    await until(async () => (await shop.tell('both', DEVICE)).length >= 5)
    collect.state.kinesis = true
    for (const at of [0, 1, 2]) await Promise.all(['left', 'right'].map((tab) => shop.tell(tab, send(`${tab} ${at}`))))
    await until(async () => (await shop.tell('both', DEVICE)).length === 1)
    return { device: await shop.tell('both', DEVICE) }
  },

  /** A visit to the example shop. Buttons and links are clicked. */
  async shop(collect, shop) {
    await until(() => stored(collect) === 1)
    shop.go('first', `/shop.html?collect=http://${collect.host}/collect`)
    const click = (text) => `[...document.querySelectorAll('section a, section button')].find((link) => link.textContent === '${text}').click()`
    await until(() => stored(collect) === 3)
    await shop.tell('list', `void setTimeout(() => ${click('Look')})`)
    await until(() => stored(collect) === 5)
    await shop.tell('product', `void ${click('Add to cart')}`)
    await shop.tell('product', `void ${click('Add to cart')}`)
    await shop.tell('product', `void setTimeout(() => ${click('To the cart')})`)
    await until(() => stored(collect) === 9)
    await shop.tell('cart', `void setTimeout(() => ${click('Buy')})`)
    await until(() => stored(collect) === 11)
    const told = await shop.tell('thanks', `[...document.querySelectorAll('aside li')].map(({ textContent }) => textContent)`)
    await shop.tell('thanks', `document.getElementById('consent').click()`)
    await until(() => stored(collect) === 12)
    return { told, device: await shop.tell('thanks', DEVICE) }
  },

  /** The visitor says no: as the browser's signal, and to the page's own question, later. */
  async denied(collect, shop) {
    await until(() => collect.events.length === 1)
    await shop.tell('first', `void (localStorage.collect_store_id = 'of the page itself')`)
    const before = await shop.tell('first', DEVICE)
    await shop.tell('first', `void (document.querySelector('[data-collect]').dataset.consent = 'denied')`)
    await shop.tell('first', send('withdrawn'))
    await until(() => collect.events.length === 2)
    const after = await shop.tell('first', DEVICE)
    const gpc = encodeURIComponent(`Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { get: () => true })`)
    const dnt = encodeURIComponent(`Object.defineProperty(Navigator.prototype, 'doNotTrack', { get: () => '1' })`)
    const devices = []
    for (const [from, to, before] of [['first', 'second', gpc], ['second', 'third', gpc], ['third', 'fourth', dnt]]) {
      const events = collect.events.length
      shop.leave(from, to, `before=${before}`)
      await until(() => collect.events.length === events + 1)
      devices.push(await shop.tell(to, DEVICE))
    }
    return { before, after, devices }
  },
}

const found = {}
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  const collect = await start(binary, { DELIVERY_MAX_MS: '200', COOKIE_DAYS: '30' })
  const shop = await site(collect)
  const browser = await open(`http://${shop.host}/page/first`)
  try {
    const seen = await Promise.race([
      scenario(collect, shop),
      browser.ended.then(() => Promise.reject(new Error('Chromium ended'))),
      pause(TIMEOUT_MS, null, { ref: false }).then(() => Promise.reject(new Error(`${name} takes longer than ${TIMEOUT_MS} ms`))),
    ])
    // What is sent twice by mistake has time to come.
    await pause(500)
    const { events, requests } = collect
    found[name] = { ...seen, events, requests: requests.map(({ method, status, ms }) => ({ method, status, ms })) }
  } catch (error) {
    console.error(name, collect.requests, collect.events.map(({ request }) => request.body), browser.log())
    throw error
  } finally {
    await browser.close()
    shop.close()
    collect.close()
  }
}
console.log(JSON.stringify(found))
