// Bundle the scripts of the report and of `sightline serve`, and write the licenses of the bundled packages.
// `node build.mjs FOLDER` writes to FOLDER instead; a test compares that with the committed files.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const package_ = join(here, "..", "src", "sightline");
const [out, served] = process.argv[2]
  ? [process.argv[2], process.argv[2]]
  : [join(package_, "report", "assets"), join(package_, "serve", "assets")];
for (const folder of [out, served]) mkdirSync(folder, { recursive: true });

// The first line has a digest of the sources, by which a test without Node.js detects a stale build.
const files = readdirSync(join(here, "src"), { recursive: true }).map((name) => `src/${name.replaceAll("\\", "/")}`);
const sources = ["package.json", ...files.filter((name) => name.endsWith(".ts")).sort()];
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\n`).update(readFileSync(join(here, name)));

const common = {
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome100", "firefox100", "safari15"],
  charset: "ascii",
  legalComments: "none",
  banner: { js: `/* built from web/, sources ${digest.digest("hex")}; licenses in licenses.txt */` },
  metafile: true,
};
const { metafile } = await build({
  ...common,
  entryPoints: [join(here, "src", "main.ts")],
  outfile: join(out, "report.js"),
});
await build({ ...common, entryPoints: [join(here, "src", "serve", "main.ts")], outfile: join(served, "serve.js") });

copyFileSync(join(here, "node_modules/uplot/dist/uPlot.min.css"), join(out, "uplot.css"));

const packages = [...new Set(Object.keys(metafile.inputs).map((path) => path.match(/node_modules\/([^/]+)\//)?.[1]))]
  .filter(Boolean)
  .sort();
const licenses = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(out, "licenses.txt"), `The report's script contains these packages:\n\n${licenses.join("\n----\n\n")}`);
