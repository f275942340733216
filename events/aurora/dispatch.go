package aurora

import "vaultmesh.cloud/vaultmesh/events"

// intentEntity begins the subject of intents. No tenant's name holds a colon, so
// that a provider's intents and a tenant's routes never share a subject.
const intentEntity = "provider:"

// RouteIntended says that a dispatcher is about to ask a provider to run a job.
// It is recorded before the call. Its subject is the provider, not the tenant:
// dispatchers that publish with an expected last sequence take turns there, and
// none goes past the provider's quota.
type RouteIntended struct {
	Placement
	Price         int64  `json:"price,omitzero"` // micro-USD per GPU-hour, all-in
	GPUCount      int64  `json:"gpu_count"`
	RequestSHA256 string `json:"request_sha256"` // of what is sent, without secrets; it stands in blobs
	IntendedAt    string `json:"intended_at"`    // by the dispatcher's clock
}

// RouteIntendedType is the type of [RouteIntended].
const RouteIntendedType events.Type = "cloud.vaultmesh.route.intended.v1"

// EventType implements events.Payload.
func (*RouteIntended) EventType() events.Type { return RouteIntendedType }

// Entity is "provider:" and the provider.
func (p *RouteIntended) Entity() string { return intentEntity + p.Provider }

// Check implements events.Payload.
func (p *RouteIntended) Check() error {
	var c events.Checker
	p.check(&c)
	c.Integer("price", p.Price, 0, events.MaxExact)
	c.Integer("gpu_count", p.GPUCount, 1, MaxGPUs)
	c.SHA256("request_sha256", p.RequestSHA256)
	c.Time("intended_at", p.IntendedAt)
	return c.Err()
}

// RouteAdopted says that a dispatcher found a job that it had asked for without
// hearing the answer, and took it over. RouteStarted follows when it runs.
type RouteAdopted struct {
	Placement
	AdoptedAt string `json:"adopted_at"`
}

// RouteAdoptedType is the type of [RouteAdopted].
const RouteAdoptedType events.Type = "cloud.vaultmesh.route.adopted.v1"

// EventType implements events.Payload.
func (*RouteAdopted) EventType() events.Type { return RouteAdoptedType }

// Check implements events.Payload.
func (p *RouteAdopted) Check() error {
	var c events.Checker
	p.check(&c)
	c.Time("adopted_at", p.AdoptedAt)
	return c.Err()
}

// Stages of an attempt that has not ended.
const (
	StageQueued       = "queued"       // the provider has it
	StageProvisioning = "provisioning" // machines are being found
	StagePulling      = "pulling"      // images are on their way
	StageRunning      = "running"
	StageEnding       = "ending"
)

// RouteProgressed says that an attempt reached another stage. Readings within a
// stage are telemetry.
type RouteProgressed struct {
	Placement
	Stage  string `json:"stage"`
	Detail string `json:"detail,omitempty"` // for people
	Since  string `json:"since"`            // by the provider's clock
}

// RouteProgressedType is the type of [RouteProgressed].
const RouteProgressedType events.Type = "cloud.vaultmesh.route.progressed.v1"

// EventType implements events.Payload.
func (*RouteProgressed) EventType() events.Type { return RouteProgressedType }

// Check implements events.Payload.
func (p *RouteProgressed) Check() error {
	var c events.Checker
	p.check(&c)
	c.OneOf("stage", p.Stage, StageQueued, StageProvisioning, StagePulling, StageRunning, StageEnding)
	c.Text("detail", p.Detail, 0, MaxReason)
	c.Time("since", p.Since)
	return c.Err()
}

// RouteUnknown says that nobody can tell whether a provider runs an attempt. It
// is not tried elsewhere until another event settles it: not finding a job does
// not prove that there is none.
type RouteUnknown struct {
	Placement
	Reason string `json:"reason"`           // code
	Detail string `json:"detail,omitempty"` // for people
	Since  string `json:"since"`            // of the last certain knowledge
}

// RouteUnknownType is the type of [RouteUnknown].
const RouteUnknownType events.Type = "cloud.vaultmesh.route.unknown.v1"

// EventType implements events.Payload.
func (*RouteUnknown) EventType() events.Type { return RouteUnknownType }

// Check implements events.Payload.
func (p *RouteUnknown) Check() error {
	var c events.Checker
	p.check(&c)
	code(&c, "reason", p.Reason, maxCode)
	c.Text("detail", p.Detail, 0, MaxReason)
	c.Time("since", p.Since)
	return c.Err()
}

// RouteReaped says that the reaper ended what ran at a provider without a route
// that wanted it.
type RouteReaped struct {
	Placement
	Reason   string `json:"reason"`           // code
	Detail   string `json:"detail,omitempty"` // for people
	ReapedAt string `json:"reaped_at"`
	Cost     int64  `json:"cost,omitzero"` // micro-USD, of what had run
}

// RouteReapedType is the type of [RouteReaped].
const RouteReapedType events.Type = "cloud.vaultmesh.route.reaped.v1"

// EventType implements events.Payload.
func (*RouteReaped) EventType() events.Type { return RouteReapedType }

// Check implements events.Payload.
func (p *RouteReaped) Check() error {
	var c events.Checker
	p.check(&c)
	code(&c, "reason", p.Reason, maxCode)
	c.Text("detail", p.Detail, 0, MaxReason)
	c.Time("reaped_at", p.ReapedAt)
	c.Integer("cost", p.Cost, 0, events.MaxExact)
	return c.Err()
}
