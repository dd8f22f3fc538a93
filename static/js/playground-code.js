// The call on the page, written down for curl, Python and Node. No document in here.

const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const indented = (text, by) => text.replaceAll("\n", `\n${by}`);

// JSON is nearly Python: three words differ, and they only stand outside of strings.
const python = (value) =>
  JSON.stringify(value, null, 4).replaceAll(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (word) =>
    word.startsWith('"') ? word : { true: "True", false: "False", null: "None" }[word],
  );

export function codeOf(site, way, { path, body, headers }) {
  const url = site + path;
  const more = Object.entries(headers);
  const file = way === "speech" ? "speech.mp3" : "";
  return { curl: curl(url, body, more, file), python: inPython(url, body, more, file), node: inNode(url, body, more, file) };
}

function curl(url, body, headers, file) {
  return [
    `curl ${shellQuoted(url)}`,
    `  -H "Authorization: Bearer $HYPEREAL_API_KEY"`,
    ...headers.map(([name, value]) => `  -H "${name}: ${value}"`),
    `  -H "Content-Type: application/json"`,
    ...(file ? [`  -o ${file}`] : []),
    `  -d ${shellQuoted(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n");
}

function inPython(url, body, headers, file) {
  const given = headers.map(([name, value]) => `,\n        "${name}": "${value}"`).join("");
  const end = file
    ? `open("${file}", "wb").write(answer.content)`
    : "print(answer.json())";
  return `import os
import requests

answer = requests.post(
    "${url}",
    headers={
        "Authorization": f"Bearer {os.environ['HYPEREAL_API_KEY']}"${given},
    },
    json=${indented(python(body), "    ")},
    timeout=300,
)
answer.raise_for_status()
${end}`;
}

function inNode(url, body, headers, file) {
  const given = headers.map(([name, value]) => `\n    "${name}": "${value}",`).join("");
  const end = file
    ? `await writeFile("${file}", Buffer.from(await answer.arrayBuffer()));`
    : "console.log(await answer.json());";
  return `${file ? 'import { writeFile } from "node:fs/promises";\n\n' : ""}const answer = await fetch("${url}", {
  method: "POST",
  headers: {
    Authorization: \`Bearer \${process.env.HYPEREAL_API_KEY}\`,${given}
    "Content-Type": "application/json",
  },
  body: JSON.stringify(${indented(JSON.stringify(body, null, 2), "  ")}),
});
if (!answer.ok) throw new Error(await answer.text());
${end}`;
}
