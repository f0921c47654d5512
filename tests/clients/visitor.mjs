// A headless Chromium with a profile of its own.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'

/** Opens a page. `log` is what the browser printed, `ended` when it ended. */
export async function open(url, ...flags) {
  const profile = await mkdtemp(path.join(os.tmpdir(), 'landfall-chromium-'))
  const chromium = spawn(process.env.LANDFALL_CHROMIUM ?? 'chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
    '--disable-background-networking', '--disable-component-update', `--user-data-dir=${profile}`, ...flags, url,
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  chromium.stderr.setEncoding('utf8').on('data', (line) => (log += line))
  const ended = once(chromium, 'close')
  return {
    ended,
    log: () => log,
    async close() {
      chromium.kill()
      await ended
      await rm(profile, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
