# SPDX-License-Identifier: MIT OR Apache-2.0
"""Whether a file is what CycloneDX's own schema calls a bill of materials: bill_of_materials.py FILE"""

import importlib.resources
import json
import sys

import jsonschema

folder = importlib.resources.files("cyclonedx") / "schema/_res"
schema, spdx, signature = (
    json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in ["bom-1.6", "spdx", "jsf-0.82"]
)
with open(sys.argv[1]) as file:
    bill = json.load(file)
known = {one["$id"]: one for one in [schema, spdx, signature]}
resolver = jsonschema.RefResolver.from_schema(schema, store=known)
problems = list(jsonschema.Draft7Validator(schema, resolver=resolver).iter_errors(bill))
for problem in problems[:10]:
    print("/".join(map(str, problem.absolute_path)), problem.message[:200])
# What the schema can't say: that whatever is named is there.
components = [bill["metadata"]["component"], *bill["components"], *bill["metadata"]["component"]["components"]]
names = [component["bom-ref"] for component in components]
references = {one for dependency in bill["dependencies"] for one in [dependency["ref"], *dependency["dependsOn"]]}
if len(names) != len(set(names)) or not references <= set(names):
    problems.append(None)
    print("names that are there twice, or not at all:", references - set(names))
sys.exit(1 if problems else 0)
