// Copies what the API reference needs from swagger-ui-dist into dist/: the bundle, its styles and its licences.
// The reference to the source map goes, because the map (2 MB) is not shipped.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

const from = new URL('node_modules/swagger-ui-dist/', import.meta.url)
const to = new URL('dist/', import.meta.url)
mkdirSync(to, { recursive: true })
for (const name of ['swagger-ui-bundle.js', 'swagger-ui.css']) {
  const text = readFileSync(new URL(name, from), 'utf8').replace(/\n?(\/\/#|\/\*#) sourceMappingURL=\S+( \*\/)?\s*$/, '\n')
  writeFileSync(new URL(name, to), text)
}
for (const [name, as] of [['LICENSE', 'LICENSE.txt'], ['NOTICE', 'NOTICE.txt'], ['swagger-ui-bundle.js.LICENSE.txt', 'swagger-ui-bundle.js.LICENSE.txt']]) {
  writeFileSync(new URL(as, to), readFileSync(new URL(name, from)))
}
