import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [react()],
  base: '/',
  resolve: {
    dedupe: ['graphql', 'monaco-editor', 'react', 'react-compiler-runtime', 'react-dom'],
  },
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    outDir: 'dist',
    assetsDir: 'assets',
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 4000,
    rolldownOptions: {
      onLog(level, log, handler) {
        // GraphiQL's own 'use no memo' lines: harmless.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') handler(level, log)
      },
    },
  },
  // `npx vite` serves the page against a shop that runs beside it.
  server: {
    proxy: { '/graphql': { target: 'http://127.0.0.1:3000', ws: true }, '/images': 'http://127.0.0.1:3000' },
  },
  test: { include: ['src/**/*.test.ts'] },
})
