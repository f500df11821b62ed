// Builds the client: dist/index.mjs (ES module, for browsers and Node) with its types, and
// miniprogram_dist/index.js (CommonJS, for mini-programs). `node build.mjs DIR` builds below DIR instead,
// which is how a test finds out whether the committed files are those of the sources.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const out = process.argv[2] ?? here
const common = {
  absWorkingDir: here,
  entryPoints: ['src/index.ts'],
  bundle: true,
  charset: 'utf8',
  legalComments: 'none',
  banner: { js: '// wxhub client. Built from web/sdk/src by `npm run build`; do not edit.' },
}

await build({ ...common, format: 'esm', target: 'es2018', outfile: join(out, 'dist/index.mjs') })
// Async functions become generators: devtools may lower ES6 to ES5, but not always what came later.
await build({ ...common, format: 'cjs', target: 'es2016', outfile: join(out, 'miniprogram_dist/index.js') })

execFileSync(process.execPath, [
  join(here, 'node_modules/typescript/bin/tsc'), '-p', here, '--noEmit', 'false', '--declaration', '--emitDeclarationOnly',
  '--rootDir', join(here, 'src'), '--outDir', join(out, 'dist'),
], { stdio: 'inherit' })
mkdirSync(join(out, 'miniprogram_dist'), { recursive: true })
writeFileSync(join(out, 'miniprogram_dist/index.d.ts'), "export * from '../dist/index'\n")
