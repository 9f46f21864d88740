// Bundles src/main.ts into the report's script and gathers the licenses of what is bundled.
// `node build.mjs FOLDER` writes there instead, for the test that compares.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "src", "sightline", "report", "assets");
mkdirSync(out, { recursive: true });

// A digest of the sources in the first line lets a test without Node.js tell a stale build.
const sources = ["package.json", ...readdirSync(join(here, "src")).sort().map((name) => `src/${name}`)];
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\n`).update(readFileSync(join(here, name)));

const { metafile } = await build({
  entryPoints: [join(here, "src", "main.ts")],
  outfile: join(out, "report.js"),
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome100", "firefox100", "safari15"],
  charset: "ascii",
  legalComments: "none",
  banner: { js: `/* built from web/, sources ${digest.digest("hex")}; licenses in licenses.txt */` },
  metafile: true,
});

copyFileSync(join(here, "node_modules/uplot/dist/uPlot.min.css"), join(out, "uplot.css"));

const packages = [...new Set(Object.keys(metafile.inputs).map((path) => path.match(/node_modules\/([^/]+)\//)?.[1]))]
  .filter(Boolean)
  .sort();
const licenses = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(out, "licenses.txt"), `The report's script holds these packages:\n\n${licenses.join("\n----\n\n")}`);
