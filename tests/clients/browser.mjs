// A headless Chromium visits examples/collect.html, which sends to a deployed collect on another origin:
//
//     LANDFALL_CHROMIUM=chromium node browser.mjs http://127.0.0.1:4566/_aws/execute-api/1234abcd/$default
//
// Prints {"hits": [{method, path, content_type, status, parameters}], "visits": […]}: the hits that were on the wire, and
// the properties of each page. The page is served with another address in `data-collect` and with a script that removes
// what the snippet likes best on some visits, clicks the button, and on the first visit reads a response.

import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'

import { listen } from './function.mjs'
import { hits, relay } from './relay.mjs'
import { open } from './visitor.mjs'

const TIMEOUT_MS = 60_000
const EXAMPLES = new URL('../../examples/', import.meta.url)

// Scripts that run before those of the page.
const VISITS = {
  fetch: '',
  beacon: 'delete Request.prototype.keepalive',
  missing: 'delete Request.prototype.keepalive; delete Navigator.prototype.sendBeacon',
  refusing: 'delete Request.prototype.keepalive; Navigator.prototype.sendBeacon = () => false',
  blocked: 'Object.defineProperty(window, "localStorage", { get() { throw new Error("blocked") } })',
}

const [address] = process.argv.slice(2)
if (!address) throw new Error('usage: node browser.mjs <base url>')
const api = new URL(address)

/** Runs in the page. */
async function visit(reads) {
  document.getElementById('add').click()
  const { language, userAgent } = navigator
  const known = {
    origin: location.origin, dl: location.href, dr: document.referrer, dt: document.title, ul: language,
    sr: `${screen.width}x${screen.height}`, user_agent: userAgent, answer: null,
  }
  if (reads) {
    // As text/plain, which needs no preflight request: the emulator answers those without invoking the function.
    const body = JSON.stringify({ cid: localStorage.collect_cid, z: 'read' })
    const { collect } = document.querySelector('script[data-collect]').dataset
    const answer = await fetch(collect, { method: 'POST', body })
    const type = answer.headers.get('Content-Type')
    known.answer = { status: answer.status, type, bytes: (await answer.arrayBuffer()).byteLength }
  }
  const next = await fetch(`/visited${location.search}`, { method: 'POST', body: JSON.stringify(known) })
  location.assign(await next.text())
}

const wire = await relay(api)
const visits = []
let finish
const finished = new Promise((resolve) => (finish = resolve))

const site = await listen(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://site.example')
  const names = Object.keys(VISITS)
  const at = names.indexOf(searchParams.get('visit'))
  const respond = (type, body) => response.setHeader('Content-Type', `${type}; charset=utf-8`).end(body)
  switch (pathname) {
    case '/collect.js':
      return respond('text/javascript', await readFile(new URL('collect.js', EXAMPLES)))
    case '/collect.html': {
      const page = await readFile(new URL('collect.html', EXAMPLES), 'utf8')
      const failed = `(error) => fetch('/failed', { method: 'POST', body: error.stack })`
      const visitor = `(${visit})(${at === 0}).catch(${failed})`
      return respond(
        'text/html',
        page
          .replace('<head>', `<head><script>${VISITS[names[at]]}</script>`)
          .replace(/data-collect="[^"]*"/, `data-collect="${wire.base}/collect"`)
          .replace('</body>', `<script>${visitor}</script></body>`),
      )
    }
    case '/visited': {
      visits.push({ visit: names[at], ...JSON.parse(await text(request)) })
      // Leaving a page aborts its images, so wait for two hits per page, and for the response that the first page reads.
      while (wire.answers() < 2 * visits.length + 1) await pause(20)
      respond('text/plain', at + 1 < names.length ? `/collect.html?visit=${names[at + 1]}` : 'about:blank')
      return at + 1 < names.length || finish()
    }
    case '/failed':
      return finish(await text(request))
    default:
      return response.writeHead(404).end()
  }
})
const browser = await open(`http://${site.host}/collect.html?visit=${Object.keys(VISITS)[0]}`)
try {
  const failed = await Promise.race([
    finished,
    browser.ended.then(([code]) => `Chromium ended with code ${code}`),
    pause(TIMEOUT_MS, `${visits.length} pages were visited in ${TIMEOUT_MS} ms`, { ref: false }),
  ])
  if (failed) throw new Error(`${failed}\n${browser.log()}`)
} finally {
  await browser.close()
  site.server.closeAllConnections()
  site.server.close()
  wire.close()
}

const sent = (await wire.requests()).flatMap((request) => hits(api, request))
console.log(JSON.stringify({ hits: sent, visits }))
