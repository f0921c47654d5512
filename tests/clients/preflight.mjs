// A headless Chromium sends JSON with sendBeacon and with fetch, with credentials, from a page of another origin:
//
//     LANDFALL_CHROMIUM=chromium node preflight.mjs target/debug/collect
//
// Both need an answer to a preflight request. The local emulator answers those itself, so here the binary of the function
// answers.
//
// Prints {"requests": [{method, origin, headers, status}], "hits": […], "read": {status, bytes}}: what was on the wire, what
// went to the stream, and what the page could read.

import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'

import { listen, start } from './function.mjs'
import { open } from './visitor.mjs'

const TIMEOUT_MS = 60_000
const [binary] = process.argv.slice(2)
if (!binary) throw new Error('usage: node preflight.mjs <binary of collect>')

/** Runs in the page. */
async function visit(url) {
  const hit = (z) => JSON.stringify({ cid: '555', t: 'event', ec: 'page', ea: 'sent', z })
  const json = (z) => new Blob([hit(z)], { type: 'application/json' })
  const queued = navigator.sendBeacon(url, json('beacon'))
  const answer = await fetch(url, { method: 'POST', body: json('fetch'), credentials: 'include' })
  const read = { queued, status: answer.status, bytes: (await answer.arrayBuffer()).byteLength }
  await fetch('/done', { method: 'POST', body: JSON.stringify(read) })
}

const collect = await start(binary)
let done
const finished = new Promise((resolve) => (done = resolve))
const site = await listen(async (request, response) => {
  if (request.url === '/done' || request.url === '/failed') {
    done({ [request.url.slice(1)]: await text(request) })
    return response.end()
  }
  const failed = `(error) => fetch('/failed', { method: 'POST', body: error.stack })`
  const script = `(${visit})('http://${collect.host}/collect').catch(${failed})`
  response.setHeader('Content-Type', 'text/html').end(`<!doctype html><script>${script}</script>`)
})

const browser = await open(`http://${site.host}/`)
try {
  const found = await Promise.race([finished, pause(TIMEOUT_MS, { failed: `nothing in ${TIMEOUT_MS} ms` }, { ref: false })])
  if (found.failed) throw new Error(`${found.failed}\n${browser.log()}`)
  const { requests, events } = collect
  for (let tries = 0; events.length < 2 && tries < 100; tries += 1) await pause(50)
  console.log(JSON.stringify({ requests, hits: events.map(({ request }) => request.body), read: JSON.parse(found.done) }))
} finally {
  await browser.close()
  site.server.closeAllConnections()
  site.server.close()
  collect.close()
}
