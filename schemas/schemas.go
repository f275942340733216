// Package schemas holds the JSON Schema (2020-12) of every event and message,
// by layer, and the AsyncAPI document of the bus. Nothing on the hot path reads
// it: the payload types check the same rules, and tests hold the two together.
package schemas

import "embed"

// Files are the schemas, by path: "remembrancer/deploy.recorded.v1.json" is the
// one with that path below events.SchemaBase. The document of the bus is
// "asyncapi.yaml".
//
//go:embed */*.json asyncapi.yaml
var Files embed.FS
