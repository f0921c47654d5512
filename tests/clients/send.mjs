// Google Analytics clients, as they are installed from npm, and curl send a fixed set of hits to a deployed collect:
//
//     node send.mjs http://127.0.0.1:4566/_aws/execute-api/1234abcd/$default run-1
//
// Prints {"hits": [{client, method, path, content_type, status, parameters}]}: each hit as it was on the wire, parsed from
// the bytes that a relay in this process copied. The clients get the relay's address through their own options.

import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'

import protocol from 'measurement-protocol'
import universal from 'universal-analytics'

import { hits, relay } from './relay.mjs'

const PROPERTY = 'UA-12345-1'
const PAGE = 'https://shop.example/shoes/?colour=dark%20red&size=42#reviews'
const TITLE = 'Größe & Maß = 100 % + ☕ "quoted" \\ <b>\nline two\t日本語'

const [address, run] = process.argv.slice(2)
if (!address || !run) throw new Error('usage: node send.mjs <base url> <run>')
const api = new URL(address)

const clients = new Map()

/** The client id, a UUID of version 4, by which a client's hits of this run can be found. */
function clientId(client) {
  const digits = createHash('sha256').update(`${run} ${client}`).digest('hex')
  const id = digits.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5')
  clients.set(id, client)
  return id
}

// --- The clients -------------------------------------------------------------------------------------------------------

async function universalAnalytics(base) {
  const visitor = universal({ tid: PROPERTY, cid: clientId('universal-analytics'), uid: 'user 7', hostname: base })
  visitor.set('cd1', 'persistent')
  // Errors that are not of type Error only report the status of the response.
  const send = () =>
    new Promise((resolve, reject) => visitor.send((error) => (error instanceof Error ? reject(error) : resolve())))

  for (const queue of [
    () => visitor.pageview('/shoes?colour=dark red', 'https://shop.example', TITLE),
    () => visitor.pageview({ dl: PAGE, dr: 'https://search.example/?q=shoes&hl=en', sr: '1920x1080', ul: 'de-de' }),
    () => visitor.screenview('Start', 'Shop for Android', '1.2.0', 'example.shop', 'example.store'),
    () => visitor.event('Video', 'play', TITLE, 42, { dp: '/shoes', ni: 1, cm1: 3.5, qt: 250 }),
    () => visitor.transaction('order-1', 51.97, 5.0, 8.3, 'Shop & Söhne', { cu: 'EUR' }),
    () => visitor.item(12.99, 4, 'SKU-1', 'Shoe ☕', 'red', { ti: 'order-1', cu: 'EUR' }),
    () => visitor.exception('TypeError: x is "undefined"', true),
    () => visitor.timing('assets', 'load', 1234, 'css'),
    () =>
      visitor.event({
        ec: 'Ecommerce', ea: 'purchase', dp: '/thanks', cu: 'EUR',
        pa: 'purchase', ti: 'order-2', ta: 'Shop', tr: 35.43, tt: 2.85, ts: 5.34, tcc: 'SUMMER',
        pr1id: 'P1', pr1nm: 'T-shirt, "large"', pr1br: 'Ünder', pr1ca: 'Men/Shirts', pr1va: 'Black', pr1pr: 29.2,
        pr1qt: 1, pr1cc: 'SAVE10', pr1ps: 1, pr1cd2: 'yes', pr2id: 'P2', pr2nm: 'Socks', pr2pr: '6.23', pr2qt: 2,
        il1nm: 'Search', il1pi1id: 'P3', promo1id: 'PROMO', promo1nm: '',
      }),
  ]) {
    queue()
    await send()
  }

  // 23 hits in the queue: three requests to /batch, of 10, 10 and 3.
  visitor
    .pageview('/checkout')
    .event('Checkout', 'pay', TITLE, 1)
    .transaction('order-3', 25.98, 5, 2, 'Shop')
    .item(12.99, 2, 'SKU-1', 'Shoe', 'red')
    .item(0.5, 1, 'SKU-2', 'Lace & more', 'white')
  for (let n = 1; n <= 18; n += 1) visitor.event('Queue', `queued ${n}`, TITLE, n, { dp: `/queue/${n}` })
  await send()
}

async function measurementProtocol(base) {
  const client = protocol.measure(PROPERTY, { cid: clientId('measurement-protocol'), uid: 'user 8' }, { server: base })
  const kinds = [
    client.pageview(PAGE).set({ dt: TITLE }),
    client.pageview({ host: 'shop.example', path: '/about us' }),
    client.set({ an: 'Shop', av: '1.2.0' }).screenview('High Scores'),
    client.transaction('order-4', 'Member', 15.47, 3.5, 11.2),
    client.item('order-4', 'Shoe ☕', 3.5, 4, 'SKU47', 'Blue'),
    client.social('facebook', 'like', 'https://shop.example/a?b=c&d=e'),
    client.event('error', '404', '/not-found', 7),
    client.timing('deps', 'load', 3200, 'css'),
    client.exception('it broke: 100 %', false),
    client.event('custom', 'all').setCustomDimensions(['ä', '', 'c&d']).setCustomMetrics([1, 2.5]),
  ]
  for (const kind of kinds) await (await kind.send()).arrayBuffer()
  // The maximum of the protocol for one request.
  const batch = [...kinds, ...kinds].map((kind, n) => kind.set({ z: `batched-${n}` }))
  await (await protocol.batchSend(batch)).arrayBuffer()
}

async function curl(base) {
  const common = `v=1&tid=${PROPERTY}&cid=${clientId('curl')}&uip=203.0.113.77&ua=Test%2F1.0`
  const hit = (title) => [
    ['--data', `${common}&t=pageview&dl=${encodeURIComponent(PAGE)}`],
    ['--data', 'cd3=&cd4=a+b%2Bc&cd5=first&cd5=last'],
    ['--data-urlencode', `dt=${title} ${TITLE}`],
  ].flat()
  const json = (title) => ({
    v: '1', tid: PROPERTY, cid: clientId('curl'), t: 'event', ec: 'json', ea: title, el: TITLE, ev: 3, ni: true,
    cm1: -0.25, cd1: null, cd2: '', pr1id: 'P1', pr1pr: 29.95, more: { list: [1, 'two', { three: 3.5 }], none: null },
  })
  const type = (name) => ['--header', name === null ? 'Content-Type:' : `Content-Type: ${name}`]
  const lines = ['one', 'two', 'three'].map((action) => `${common}&t=event&ec=batch&ea=${action}&el=%E2%98%95`)

  for (const [path, ...options] of [
    ['/collect', ...hit('form')],
    ['/collect', ...type('text/plain'), ...hit('text')],
    ['/collect', ...type('text/plain;charset=UTF-8'), ...hit('text of sendBeacon')],
    ['/collect', ...type(null), ...hit('no content type')],
    ['/collect', ...type('application/json'), '--data', JSON.stringify(json('object'))],
    ['/collect', ...type('application/json'), '--data', JSON.stringify([json('first'), json('second')], null, 2)],
    ['/collect', ...type('text/plain'), '--data', JSON.stringify(json('as text'))],
    ['/collect', ...type(null), '--data', JSON.stringify(json('no content type'))],
    ['/collect', '--get', ...hit('query')],
    ['/collect', '--head', '--get', ...hit('head')],
    ['/collect?z=behind&cd5=query&cd6=query%20only', ...hit('query and body')],
    ['/batch', '--data-binary', lines.join('\n')],
  ]) {
    // Ignores the machine's proxy settings and .curlrc.
    const always = ['--disable', '--noproxy', '*', '--silent', '--show-error', '--output', '/dev/null']
    await promisify(execFile)('curl', [...always, ...options, `${base}${path}`])
  }
}

const installed = [universalAnalytics, measurementProtocol]
if (spawnSync('curl', ['--version']).status === 0) installed.push(curl)

const wire = await relay(api)
try {
  for (const client of installed) await client(wire.base)
} finally {
  wire.close()
}
const sent = (await wire.requests()).flatMap((request) => hits(api, request))
console.log(JSON.stringify({ hits: sent.map((hit) => ({ client: clients.get(hit.parameters.cid) ?? null, ...hit })) }))
