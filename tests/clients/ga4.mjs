// Clients of GA4, as they are installed from npm and from the Python index, send a fixed set of events to a collect:
//
//     LANDFALL_CHROMIUM=chromium LANDFALL_GA4_PYTHON=.local/clients/bin/python node ga4.mjs http://127.0.0.1:8080
//
// The clients get the address through their own options. Each has a measurement id of its own, by which its requests can be
// told apart. One of them runs in a page, in a headless Chromium.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import http from 'node:http'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import electron from 'electron-google-analytics4'

const TIMEOUT_MS = 60_000
const NOTE = 'Größe & Maß = 100 % + ☕ "quoted" \\ ~ \n日本語'
const require = createRequire(import.meta.url)

const [base] = process.argv.slice(2)
if (!base) throw new Error('usage: node ga4.mjs <base url>')

// --- The clients -------------------------------------------------------------------------------------------------------

async function analyticsDebugger() {
  const ga4mp = require('@analytics-debugger/ga4mp/dist/ga4mp.umd.js')
  const endpoint = `${base}/g/collect`
  const tracker = ga4mp(['G-DEBUGGER'], { mode: 'node', endpoint, client_id: '1548123456.1795183900', user_id: 'user 7' })
  tracker.setUserProperty('tier', 'gold & silver')
  const items = [
    { item_id: 'P1', item_name: 'T-shirt ~ "large"', price: 29.2, quantity: 2, item_category: 'Men/Shirts', size: 'XL' },
    { item_id: 'P2', item_name: 'Socks', price: 6.23, index: 4 },
  ]
  tracker.trackEvent('purchase', { transaction_id: 'T-1', currency: 'EUR', value: 39.98, tax: 6.38, shipping: 2.5, note: NOTE, items })
  tracker.trackEvent('login', { method: 'mail' })
}

async function electronAnalytics() {
  const { default: Analytics } = electron
  const analytics = new (Analytics ?? electron)('G-ELECTRON', 'not-a-real-secret', '35009a79-1a05-49d7-b876-2b884d0f825b')
  analytics.baseURL = `${base}/mp`
  analytics.setUserProperties({ tier: { value: 'gold' } })
  await analytics.setParams({ engagement_time_msec: 1200, note: NOTE }).event('page_view')
  await analytics.setParams({ value: 5, items: [{ item_id: 7, price: 2.5 }] }).event('add_to_cart')
}

async function python() {
  const program = fileURLToPath(new URL('ga4.py', import.meta.url))
  await promisify(execFile)(process.env.LANDFALL_GA4_PYTHON ?? 'python3', [program, base])
}

/** Sends from a page, which says when it is done. */
async function minimalAnalytics() {
  const library = await readFile(require.resolve('@minimal-analytics/ga4'))
  let done
  const finished = new Promise((resolve) => (done = resolve))
  function visit(endpoint, note) {
    window.minimalAnalytics = { analyticsEndpoint: endpoint }
    window.track('G-MINIMAL')
    window.track('G-MINIMAL', { type: 'select', event: { 'epn.value': 19.99, 'ep.note': note } })
    return fetch('/done', { method: 'POST' })
  }
  const site = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://site.example')
    if (pathname === '/done' || pathname === '/failed') {
      done(pathname === '/failed' ? await text(request) : undefined)
      return response.end()
    }
    if (pathname === '/ga4.js') return response.setHeader('Content-Type', 'text/javascript').end(library)
    const call = `${visit}; visit(${JSON.stringify(`${base}/g/collect`)}, ${JSON.stringify(NOTE)})`
    const failed = `(error) => fetch('/failed', { method: 'POST', body: error.stack })`
    const page = `<!doctype html><meta charset="utf-8"><title>Größe</title><script src="/ga4.js"></script>`
    response.setHeader('Content-Type', 'text/html').end(`${page}<script>${call}.catch(${failed})</script>`)
  })
  await once(site.listen(0, '127.0.0.1'), 'listening')
  const profile = await mkdtemp(path.join(os.tmpdir(), 'landfall-chromium-'))
  const chromium = spawn(process.env.LANDFALL_CHROMIUM ?? 'chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
    '--disable-background-networking', '--disable-component-update', `--user-data-dir=${profile}`,
    `http://127.0.0.1:${site.address().port}/shoes/?q=dark%20red#reviews`,
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  chromium.stderr.setEncoding('utf8').on('data', (line) => (log += line))
  const ended = once(chromium, 'close')
  try {
    const failed = await Promise.race([
      finished,
      ended.then(([code]) => `Chromium ended with code ${code}`),
      pause(TIMEOUT_MS, `nothing in ${TIMEOUT_MS} ms`, { ref: false }),
    ])
    if (failed) throw new Error(`${failed}\n${log}`)
  } finally {
    // Beacons are sent after the page is gone, too.
    await pause(500)
    chromium.kill()
    await ended
    site.closeAllConnections()
    site.close()
    await rm(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}

for (const client of [analyticsDebugger, electronAnalytics, python, minimalAnalytics]) await client()
