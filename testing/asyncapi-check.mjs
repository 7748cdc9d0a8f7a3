// Checks the AsyncAPI document of a running server against the official schema, and the events that
// can be read there against what the document says of them. Usage: node asyncapi-check.mjs URL
import Ajv from "ajv";
import formats from "ajv-formats";
import specs from "@asyncapi/specs";

const url = process.argv[2];

async function get(path, headers = {}) {
  const answer = await fetch(url + path, { headers });
  if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
  return answer.json();
}

// What the schemas say is trusted: they are the official ones.
const ajv = new Ajv({ strict: false, allErrors: true, meta: false, validateSchema: false });
formats(ajv);

const said = (errors) => errors.map((error) => `${error.instancePath || "/"}: ${error.message}`);

const document = await get("/asyncapi.json");
const schema = specs.schemasWithoutId[document.asyncapi];
if (!schema) throw new Error(`there is no official schema of AsyncAPI ${document.asyncapi}`);
const isValid = ajv.compile(schema);
const wrong = isValid(document) ? [] : said(isValid.errors);

// A check that refuses nothing is none.
for (const spoil of [(d) => delete d.info.title, (d) => (Object.values(d.channels)[0].adress = "x")]) {
  const spoilt = structuredClone(document);
  spoil(spoilt);
  if (isValid(spoilt)) wrong.push("a document that is spoilt passes too");
}

// What it refers to is there.
function at(reference) {
  const steps = reference.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((value, step) => value?.[step], document);
}
(function walk(value) {
  if (value === null || typeof value !== "object") return;
  if (typeof value.$ref === "string" && at(value.$ref) === undefined) wrong.push(`${value.$ref}: is not there`);
  Object.values(value).forEach(walk);
})(document);

// What can be read is as it says.
let count = 0;
for (const channel of Object.values(document.channels)) {
  const accept = { accept: "application/cloudevents-batch+json" };
  const messages = Object.values(channel.messages).map((message) => at(message.$ref));
  const fits = messages.map((message) => ajv.compile(message.payload));
  for (const event of await get(channel.address, accept)) {
    count += 1;
    if (fits.filter((fits) => fits(event)).length !== 1) {
      wrong.push(`event ${event.id} of ${event.subject}, ${event.type}: fits not one message of its channel`);
    }
  }
}
if (count === 0) wrong.push("there are no events to check");

if (wrong.length > 0) {
  console.log(wrong.slice(0, 20).join("\n"));
  process.exit(1);
}
console.log(`${Object.keys(document.channels).length} channels, ${count} events of them as described`);
