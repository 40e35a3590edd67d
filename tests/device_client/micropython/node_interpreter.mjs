// Runs SCRIPT in MicroPython on Node: node node_interpreter.mjs MODULE FOLDER SCRIPT
// MODULE: micropython.mjs of the npm package. FOLDER is copied into the interpreter's file system, as its working folder.
// This port collects garbage only while no Python runs, so the script's parts, split at lines "#%%", run one by one.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [module, folder, script] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(module).href);
const interpreter = await loadMicroPython({
  heapsize: 256 * 1024,
  linebuffer: true,
  stdout: (line) => process.stdout.write(line + "\n"),
});

function copy(from, to) {
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), to + "/" + entry.name];
    if (entry.isDirectory()) {
      interpreter.FS.mkdir(target);
      copy(source, target);
    } else {
      interpreter.FS.writeFile(target, fs.readFileSync(source));
    }
  }
}

interpreter.FS.mkdir("/board");
copy(folder, "/board");
try {
  interpreter.runPython("import os, sys\nos.chdir('/board')\nsys.path.insert(0, '/board')");
  for (const part of fs.readFileSync(path.join(folder, script), "utf8").split(/^#%%$/m)) interpreter.runPython(part);
} catch (error) {
  process.stderr.write(String(error.message ?? error) + "\n");
  process.exit(1);
}
