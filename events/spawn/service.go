package spawn

import "vaultmesh.cloud/vaultmesh/events"

// Definitions returns the event types of this layer.
func Definitions() []events.Definition {
	return []events.Definition{
		{Type: ServiceSpawnedType, Schema: "spawn/service.spawned.v1.json", New: func() events.Payload { return new(ServiceSpawned) }},
	}
}

// Bounds of payloads.
const (
	MaxName  = 128     // code points
	MaxFiles = 100_000 // in one service
)

// Kinds of services.
const (
	KindService   = "service"
	KindWorker    = "worker"
	KindAPI       = "api"
	KindTool      = "tool"
	KindInfra     = "infra"
	KindMCPServer = "mcp-server"
)

// ServiceSpawned says that a service was generated, and from what: the same
// template, lock and version of Spawn give the same files.
type ServiceSpawned struct {
	Name           string `json:"name"`
	Kind           string `json:"kind"`
	Language       string `json:"language"`
	Template       string `json:"template"`              // name and version
	TemplateSHA256 string `json:"template_sha256"`       // of the template's files
	LockSHA256     string `json:"lock_sha256"`           // of the lock file, which lists every generated file's digest
	SBOMSHA256     string `json:"sbom_sha256,omitempty"` // of the CycloneDX document
	Files          int64  `json:"files"`                 // how many were generated
}

// ServiceSpawnedType is the type of [ServiceSpawned].
const ServiceSpawnedType events.Type = "cloud.vaultmesh.service.spawned.v1"

// EventType implements events.Payload.
func (*ServiceSpawned) EventType() events.Type { return ServiceSpawnedType }

// Entity is the service's name.
func (p *ServiceSpawned) Entity() string { return events.ClipEntity(p.Name) }

// Check implements events.Payload.
func (p *ServiceSpawned) Check() error {
	var c events.Checker
	c.Name("name", p.Name, 1, MaxName)
	c.OneOf("kind", p.Kind, KindService, KindWorker, KindAPI, KindTool, KindInfra, KindMCPServer)
	c.Name("language", p.Language, 1, 64)
	c.Name("template", p.Template, 1, MaxName)
	c.SHA256("template_sha256", p.TemplateSHA256)
	c.SHA256("lock_sha256", p.LockSHA256)
	if p.SBOMSHA256 != "" {
		c.SHA256("sbom_sha256", p.SBOMSHA256)
	}
	c.Integer("files", p.Files, 1, MaxFiles)
	return c.Err()
}
