// Prints the number of bytes that a minifier makes of a script:
//
//     node minified.mjs ../../examples/collect.js

import { readFile } from 'node:fs/promises'

import { minify } from 'terser'

const [script] = process.argv.slice(2)
if (!script) throw new Error('usage: node minified.mjs <script>')
const { code } = await minify(await readFile(script, 'utf8'), { ecma: 2020, compress: { passes: 3 } })
console.log(Buffer.byteLength(code))
