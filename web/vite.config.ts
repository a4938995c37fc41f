import { defineConfig } from "vitest/config";

// Names without hashes and no dates: the same sources give the same bytes, and the server's ETag says when they change.
export default defineConfig({
  base: "/",
  server: { proxy: { "/api": { target: "http://127.0.0.1:8188", ws: true } } },
  build: {
    outDir: "bundle",
    emptyOutDir: true,
    assetsDir: "",
    target: "es2022",
    modulePreload: { polyfill: false },
    license: { fileName: "LICENSES.md" },
    rollupOptions: {
      output: {
        entryFileNames: "assets/editor.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/editor[extname]",
      },
    },
  },
  worker: { format: "es", rollupOptions: { output: { entryFileNames: "assets/[name].js" } } },
  // A chain of 5,000 nodes takes seconds on a machine that is busy.
  test: { include: ["test/**/*.test.ts"], environment: "node", testTimeout: 30_000 },
});
