import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const hub = process.env.WXHUB ?? 'http://127.0.0.1:8080'

// One script and one style sheet, named by their content. `npm run dev` asks the hub at WXHUB for everything else.
export default defineConfig({
  base: '/console/',
  resolve: { alias: { wxhub: fileURLToPath(new URL('../sdk/dist/index.mjs', import.meta.url)) } },
  build: { target: 'es2022', cssCodeSplit: false, modulePreload: false, license: { fileName: 'licenses.md' }, chunkSizeWarningLimit: 1500 },
  server: { host: '127.0.0.1', proxy: { '/api': hub, '/docs': hub, '/ws': { target: hub, ws: true } } },
})
