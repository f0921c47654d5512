// A relay in front of a deployed collect: forwards all bytes unchanged, in both directions, and keeps a copy of them, so that
// tests see what was on the wire.

import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'

/** Starts a relay. `base` is the URL of `api` through the relay. */
export async function relay(api) {
  const connections = []
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(api.port) || 80, api.hostname)
    const kept = { client, upstream, sent: [], answered: [] }
    connections.push(kept)
    client.on('data', (bytes) => kept.sent.push(bytes))
    upstream.on('data', (bytes) => kept.answered.push(bytes))
    client.on('error', () => upstream.destroy())
    upstream.on('error', () => client.destroy())
    client.pipe(upstream).pipe(client)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    base: `http://127.0.0.1:${server.address().port}${api.pathname}`,
    /** Number of responses so far. */
    answers: () => connections.flatMap(statuses).length,
    close() {
      server.close()
      for (const { client, upstream } of connections) {
        client.destroy()
        upstream.destroy()
      }
    },
    /** All requests, in the order of their connections. */
    requests: async () => (await Promise.all(connections.map(requests))).flat(),
  }
}

function statuses({ answered }) {
  // A response follows directly after the GIF of the previous one.
  const answers = Buffer.concat(answered).toString('latin1').matchAll(/HTTP\/1\.1 (\d{3}) /g)
  return Array.from(answers, ([, status]) => Number(status))
}

/** The requests of a connection, parsed by Node's own server, and the statuses of their responses. */
async function requests(connection) {
  const read = []
  const server = http.createServer(async (request, response) => {
    const { method, url, headers } = request
    const kept = { method, url, contentType: headers['content-type'] ?? null, body: '' }
    read.push(kept)
    for await (const text of request.setEncoding('utf8')) kept.body += text
    response.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = net.connect(server.address().port, '127.0.0.1').resume()
  socket.end(Buffer.concat(connection.sent))
  await once(socket, 'close')
  server.close()
  const answers = statuses(connection)
  return read.map((request, at) => ({ ...request, status: answers[at] ?? null }))
}

/** The hits of a request. The last value of a parameter counts, and the body takes precedence over the query string. */
export function hits(api, { method, url, contentType, body, status }) {
  const { pathname, searchParams } = new URL(url, api)
  const path = pathname.slice(api.pathname.length)
  const form = (text) => Object.fromEntries(new URLSearchParams(text))
  const payloads = /^[[{]/.test(body)
    ? [JSON.parse(body)].flat()
    : (path === '/batch' ? body.split('\n') : [body]).map(form)
  return payloads.map((payload) => {
    const parameters = { ...Object.fromEntries(searchParams), ...payload }
    return { method, path, content_type: contentType, status, parameters }
  })
}
