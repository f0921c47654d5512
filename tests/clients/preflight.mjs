// A headless Chromium sends JSON with sendBeacon and with fetch, with credentials, from a page of another origin:
//
//     LANDFALL_CHROMIUM=chromium node preflight.mjs target/debug/collect
//
// Both need an answer to a preflight request. The local emulator answers those itself, so here the binary of the function
// answers: this process plays API Gateway, Lambda's Runtime API and Kinesis.
//
// Prints {"requests": [{method, origin, headers, status}], "hits": […], "read": {status, bytes}}: what was on the wire, what
// went to the stream, and what the page could read.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'

const TIMEOUT_MS = 60_000
const [binary] = process.argv.slice(2)
if (!binary) throw new Error('usage: node preflight.mjs <binary of collect>')

async function listen(handle) {
  const server = http.createServer(handle)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { server, host: `127.0.0.1:${server.address().port}` }
}

// --- Lambda and Kinesis ------------------------------------------------------------------------------------------------

const [waiting, open, requests, hits] = [[], [], [], []]
let idle

const aws = await listen(async (request, response) => {
  const body = await text(request)
  if (request.url.endsWith('/invocation/next')) {
    if (waiting.length === 0) await new Promise((resolve) => (idle = resolve))
    const { event, answered } = waiting.shift()
    open.push(answered)
    response.setHeader('Lambda-Runtime-Aws-Request-Id', '1')
    response.setHeader('Lambda-Runtime-Deadline-Ms', String(Date.now() + 10_000))
    response.setHeader('Lambda-Runtime-Invoked-Function-Arn', 'arn')
    response.end(JSON.stringify(event))
  } else if (request.url.includes('/invocation/')) {
    open.shift()(JSON.parse(body))
    response.writeHead(202).end()
  } else {
    const records = JSON.parse(body).Records
    hits.push(...records.map(({ Data }) => JSON.parse(Buffer.from(Data, 'base64').toString()).request.body))
    const stored = records.map(() => ({ SequenceNumber: '1', ShardId: 'shardId-000000000000' }))
    response.setHeader('Content-Type', 'application/x-amz-json-1.1')
    response.end(JSON.stringify({ FailedRecordCount: 0, Records: stored }))
  }
})

/** Every request, OPTIONS too, becomes an event. */
const api = await listen(async (request, response) => {
  const { method, headers } = request
  const url = new URL(request.url, `http://${api.host}`)
  const event = {
    version: '2.0', rawPath: url.pathname, rawQueryString: url.search.slice(1), headers, body: await text(request), isBase64Encoded: false,
    requestContext: { domainName: api.host, stage: '$default', timeEpoch: Date.now(), http: { method, path: url.pathname, sourceIp: '127.0.0.1' } },
  }
  const answer = await new Promise((answered) => {
    waiting.push({ event, answered })
    idle?.()
    idle = undefined
  })
  requests.push({ method, origin: headers.origin ?? null, headers: answer.headers, status: answer.statusCode })
  response.writeHead(answer.statusCode, answer.headers)
  response.end(Buffer.from(answer.body ?? '', answer.isBase64Encoded ? 'base64' : 'utf8'))
})

// --- The page ----------------------------------------------------------------------------------------------------------

/** Runs in the page. */
async function visit(url) {
  const hit = (z) => JSON.stringify({ cid: '555', t: 'event', ec: 'page', ea: 'sent', z })
  const json = (z) => new Blob([hit(z)], { type: 'application/json' })
  const queued = navigator.sendBeacon(url, json('beacon'))
  const answer = await fetch(url, { method: 'POST', body: json('fetch'), credentials: 'include' })
  const read = { queued, status: answer.status, bytes: (await answer.arrayBuffer()).byteLength }
  await fetch('/done', { method: 'POST', body: JSON.stringify(read) })
}

let done
const finished = new Promise((resolve) => (done = resolve))
const site = await listen(async (request, response) => {
  if (request.url === '/done' || request.url === '/failed') {
    done({ [request.url.slice(1)]: await text(request) })
    return response.end()
  }
  const failed = `(error) => fetch('/failed', { method: 'POST', body: error.stack })`
  const script = `(${visit})('http://${api.host}/collect').catch(${failed})`
  response.setHeader('Content-Type', 'text/html').end(`<!doctype html><script>${script}</script>`)
})

const lambda = spawn(binary, {
  env: {
    AWS_LAMBDA_RUNTIME_API: aws.host, AWS_ENDPOINT_URL: `http://${aws.host}`, AWS_LAMBDA_FUNCTION_NAME: 'collect',
    AWS_LAMBDA_FUNCTION_VERSION: '1', AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256', AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test',
    AWS_REGION: 'us-east-1', STREAM_NAME: 'clicks',
  },
  stdio: ['ignore', 'ignore', 'inherit'],
})
const profile = await mkdtemp(path.join(os.tmpdir(), 'landfall-chromium-'))
const chromium = spawn(process.env.LANDFALL_CHROMIUM ?? 'chromium', [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
  '--disable-background-networking', '--disable-component-update', `--user-data-dir=${profile}`, `http://${site.host}/`,
], { stdio: ['ignore', 'ignore', 'pipe'] })
let log = ''
chromium.stderr.setEncoding('utf8').on('data', (line) => (log += line))
const ended = once(chromium, 'close')
try {
  const found = await Promise.race([finished, pause(TIMEOUT_MS, { failed: `nothing in ${TIMEOUT_MS} ms` }, { ref: false })])
  if (found.failed) throw new Error(`${found.failed}\n${log}`)
  for (let tries = 0; hits.length < 2 && tries < 100; tries += 1) await pause(50)
  console.log(JSON.stringify({ requests, hits, read: JSON.parse(found.done) }))
} finally {
  chromium.kill()
  lambda.kill()
  await ended
  for (const { server } of [site, api, aws]) {
    server.closeAllConnections()
    server.close()
  }
  await rm(profile, { recursive: true, force: true, maxRetries: 5 })
}
