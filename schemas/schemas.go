package schemas

import (
	"embed"
	"io/fs"
)

// The pattern names no layer, so that removing one leaves the rest building.
//
//go:embed asyncapi.yaml */*.json
var files embed.FS

// AsyncAPI is the path of the document of the bus.
const AsyncAPI = "asyncapi.yaml"

// FS returns the files. A schema's path below the root is that of its $id after
// events.SchemaBase, such as "remembrancer/deploy.recorded.v1.json".
func FS() fs.FS { return files }
