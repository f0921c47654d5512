// The binary of collect, run by a process that plays API Gateway, Lambda's Runtime API and Kinesis.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import { text } from 'node:stream/consumers'

export async function listen(handle) {
  const server = http.createServer(handle)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { server, host: `127.0.0.1:${server.address().port}` }
}

/**
 * Starts `binary` with these variables. `requests` and `events` are what came and what the stream has; `state.kinesis` says whether the stream takes
 * records, and `state.refuse` may answer a request instead of the function.
 */
export async function start(binary, variables = {}) {
  const [waiting, open, requests, events] = [[], [], [], []]
  const state = { kinesis: true, refuse: null }
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
    } else if (state.kinesis) {
      const records = JSON.parse(body).Records
      events.push(...records.map(({ Data }) => JSON.parse(Buffer.from(Data, 'base64').toString())))
      const stored = records.map(() => ({ SequenceNumber: '1', ShardId: 'shardId-000000000000' }))
      response.setHeader('Content-Type', 'application/x-amz-json-1.1')
      response.end(JSON.stringify({ FailedRecordCount: 0, Records: stored }))
    } else {
      response.writeHead(500, { 'Content-Type': 'application/x-amz-json-1.1' }).end('{"__type": "InternalFailure"}')
    }
  })

  /** Every request, OPTIONS too, becomes an event. */
  const api = await listen(async (request, response) => {
    const { method, headers } = request
    const url = new URL(request.url, `http://${api.host}`)
    const seen = { method, origin: headers.origin ?? null, headers: null, status: null, ms: Date.now() }
    requests.push(seen)
    if (state.refuse?.(request, response, seen)) return
    // As API Gateway has it: cookies are a member of their own.
    const { cookie, ...others } = headers
    const event = {
      version: '2.0', rawPath: url.pathname, rawQueryString: url.search.slice(1), headers: others, cookies: cookie?.split('; '),
      body: await text(request), isBase64Encoded: false,
      requestContext: { domainName: api.host, stage: '$default', timeEpoch: Date.now(), http: { method, path: url.pathname, sourceIp: '127.0.0.1' } },
    }
    const answer = await new Promise((answered) => {
      waiting.push({ event, answered })
      idle?.()
      idle = undefined
    })
    seen.status = answer.statusCode
    seen.headers = answer.headers
    seen.cookies = answer.cookies ?? []
    response.writeHead(answer.statusCode, { ...answer.headers, ...(answer.cookies && { 'Set-Cookie': answer.cookies }) })
    response.end(Buffer.from(answer.body ?? '', answer.isBase64Encoded ? 'base64' : 'utf8'))
  })

  const lambda = spawn(binary, {
    env: {
      AWS_LAMBDA_RUNTIME_API: aws.host, AWS_ENDPOINT_URL: `http://${aws.host}`, AWS_LAMBDA_FUNCTION_NAME: 'collect',
      AWS_LAMBDA_FUNCTION_VERSION: '1', AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256', AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test',
      AWS_REGION: 'us-east-1', STREAM_NAME: 'clicks', ...variables,
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const close = () => {
    lambda.kill()
    for (const { server } of [api, aws]) {
      server.closeAllConnections()
      server.close()
    }
  }
  return { host: api.host, requests, events, state, close }
}
