// Unpacks the Chromium of the package into a folder, with the libraries that a bare system lacks, and prints the program:
//
//     node install.mjs ../../../.local/chromium

import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'

const folder = path.resolve(process.argv[2])
await mkdir(folder, { recursive: true })
process.env.TMPDIR = folder // where the package unpacks to

const { default: chromium, inflate } = await import('@sparticuz/chromium')
const binary = await chromium.executablePath()
const bundle = path.join(import.meta.dirname, 'node_modules/@sparticuz/chromium/bin/al2023.tar.br')
const libraries = path.join(await inflate(bundle), 'lib')
const program = path.join(folder, 'run')
await writeFile(program, `#!/bin/sh\nLD_LIBRARY_PATH='${libraries}' exec '${binary}' "$@"\n`, { mode: 0o755 })
console.log(program)
