package aurora

import "vaultmesh.cloud/vaultmesh/events"

// Latency classes of jobs.
const (
	LatencyBatch       = "batch"       // minutes do not matter
	LatencyStandard    = "standard"    // a person waits
	LatencyInteractive = "interactive" // every request counts
)

// RouteRequested asks for GPUs. The event's subject is the tenant, as for all of
// a route's events: jobs are too many to be subjects, and a tenant's reader can
// be held to the tenant's subjects.
type RouteRequested struct {
	Job          string   `json:"job"` // unique within the tenant
	Tenant       string   `json:"tenant"`
	GPUClass     string   `json:"gpu_class"` // such as h100_80gb
	GPUCount     int64    `json:"gpu_count"`
	Hours        int64    `json:"hours"`                  // at most, per GPU
	Regions      []string `json:"regions,omitempty"`      // any if absent
	PriceCeiling int64    `json:"price_ceiling,omitzero"` // micro-USD per GPU-hour, all-in; 0 is none
	Budget       int64    `json:"budget,omitzero"`        // micro-USD for the job; 0 is none
	MaxLatencyMS int64    `json:"max_latency_ms,omitzero"`
	LatencyClass string   `json:"latency_class"`
	Deadline     string   `json:"deadline,omitempty"` // to start by
	Image        string   `json:"image,omitempty"`    // OCI reference
	Command      []string `json:"command,omitempty"`
}

// RouteRequestedType is the type of [RouteRequested].
const RouteRequestedType events.Type = "cloud.vaultmesh.route.requested.v1"

// EventType implements events.Payload.
func (*RouteRequested) EventType() events.Type { return RouteRequestedType }

// Entity is the tenant.
func (p *RouteRequested) Entity() string { return p.Tenant }

// Check implements events.Payload.
func (p *RouteRequested) Check() error {
	var c events.Checker
	code(&c, "job", p.Job, MaxJob)
	code(&c, "tenant", p.Tenant, MaxTenant)
	code(&c, "gpu_class", p.GPUClass, maxCode)
	c.Integer("gpu_count", p.GPUCount, 1, MaxGPUs)
	c.Integer("hours", p.Hours, 1, MaxHours)
	codes(&c, "regions", p.Regions, MaxRegions, maxRegion)
	c.Integer("price_ceiling", p.PriceCeiling, 0, events.MaxExact)
	c.Integer("budget", p.Budget, 0, events.MaxExact)
	c.Integer("max_latency_ms", p.MaxLatencyMS, 0, 3_600_000)
	c.OneOf("latency_class", p.LatencyClass, LatencyBatch, LatencyStandard, LatencyInteractive)
	optionalTime(&c, "deadline", p.Deadline)
	c.Name("image", p.Image, 0, 512)
	c.Integer("number of command", int64(len(p.Command)), 0, 64)
	for _, s := range p.Command {
		c.Text("each of command", s, 1, 4<<10)
	}
	return c.Err()
}

// A RouteKey names one attempt to run a job.
type RouteKey struct {
	Job     string `json:"job"`
	Tenant  string `json:"tenant"`
	Attempt int64  `json:"attempt"` // from 1
}

// Entity is the tenant.
func (k *RouteKey) Entity() string { return k.Tenant }

func (k *RouteKey) check(c *events.Checker) {
	code(c, "job", k.Job, MaxJob)
	code(c, "tenant", k.Tenant, MaxTenant)
	c.Integer("attempt", k.Attempt, 1, MaxAttempt)
}

// A Candidate is one treaty that was weighed. It has a utility or a refusal.
type Candidate struct {
	Provider string `json:"provider"`
	TreatyID string `json:"treaty_id"`
	Price    int64  `json:"price,omitzero"`    // micro-USD per GPU-hour, all-in
	Utility  int64  `json:"utility,omitzero"`  // in the strategy's own scale
	Refusal  string `json:"refusal,omitempty"` // code
}

// Positions are the leaf indexes up to which the inputs had been read.
type Positions struct {
	Treaties int64 `json:"treaties,omitzero"`
	Offers   int64 `json:"offers,omitzero"`
	Jobs     int64 `json:"jobs,omitzero"`
}

// RouteInputs is everything that a decision follows from, so that it can be
// computed again. The digests name blobs.
type RouteInputs struct {
	Strategy        string      `json:"strategy"`
	StrategyVersion string      `json:"strategy_version"`
	PolicySHA256    string      `json:"policy_sha256,omitempty"` // of the policy modules' list
	OffersSHA256    string      `json:"offers_sha256,omitempty"` // of the offer snapshot
	Seed            string      `json:"seed,omitempty"`          // SHA-256 that chooses among near-equals
	Candidates      []Candidate `json:"candidates,omitempty"`    // ordered by treaty id
	Positions       Positions   `json:"positions,omitzero"`
}

func (in *RouteInputs) check(c *events.Checker) {
	code(c, "strategy", in.Strategy, maxStrategy)
	code(c, "strategy_version", in.StrategyVersion, maxStrategy)
	optionalSHA256(c, "policy_sha256", in.PolicySHA256)
	optionalSHA256(c, "offers_sha256", in.OffersSHA256)
	optionalSHA256(c, "seed", in.Seed)
	c.Integer("number of candidates", int64(len(in.Candidates)), 0, MaxCandidates)
	for i := range in.Candidates {
		k := &in.Candidates[i]
		code(c, "candidates.provider", k.Provider, MaxProvider)
		treatyID(c, k.TreatyID)
		c.Integer("candidates.price", k.Price, 0, events.MaxExact)
		c.Integer("candidates.utility", k.Utility, 0, events.MaxExact)
		if k.Refusal != "" {
			code(c, "candidates.refusal", k.Refusal, maxCode)
		}
	}
	c.Integer("positions.treaties", in.Positions.Treaties, 0, events.MaxExact)
	c.Integer("positions.offers", in.Positions.Offers, 0, events.MaxExact)
	c.Integer("positions.jobs", in.Positions.Jobs, 0, events.MaxExact)
}

// RouteDecided says where a job goes, and why.
type RouteDecided struct {
	RouteKey
	Provider string   `json:"provider"`
	TreatyID string   `json:"treaty_id"`
	Price    int64    `json:"price,omitzero"`     // micro-USD per GPU-hour, all-in
	Fallback []string `json:"fallback,omitempty"` // treaty ids, the next best first
	RouteInputs
}

// RouteDecidedType is the type of [RouteDecided].
const RouteDecidedType events.Type = "cloud.vaultmesh.route.decided.v1"

// EventType implements events.Payload.
func (*RouteDecided) EventType() events.Type { return RouteDecidedType }

// Check implements events.Payload.
func (p *RouteDecided) Check() error {
	var c events.Checker
	p.RouteKey.check(&c)
	code(&c, "provider", p.Provider, MaxProvider)
	treatyID(&c, p.TreatyID)
	c.Integer("price", p.Price, 0, events.MaxExact)
	c.Integer("number of fallback", int64(len(p.Fallback)), 0, MaxCandidates)
	for _, s := range p.Fallback {
		treatyID(&c, s)
	}
	p.RouteInputs.check(&c)
	return c.Err()
}

// RouteRefused says that no treaty may run a job, and why each may not.
type RouteRefused struct {
	RouteKey
	Reason string `json:"reason"`           // code
	Detail string `json:"detail,omitempty"` // for people
	RouteInputs
}

// RouteRefusedType is the type of [RouteRefused].
const RouteRefusedType events.Type = "cloud.vaultmesh.route.refused.v1"

// EventType implements events.Payload.
func (*RouteRefused) EventType() events.Type { return RouteRefusedType }

// Check implements events.Payload.
func (p *RouteRefused) Check() error {
	var c events.Checker
	p.RouteKey.check(&c)
	code(&c, "reason", p.Reason, maxCode)
	c.Text("detail", p.Detail, 0, MaxReason)
	p.RouteInputs.check(&c)
	return c.Err()
}

// A Placement is where an attempt runs.
type Placement struct {
	RouteKey
	Provider string `json:"provider"`
	TreatyID string `json:"treaty_id"`
	Remote   string `json:"remote,omitempty"` // the job's name at the provider
}

func (p *Placement) check(c *events.Checker) {
	p.RouteKey.check(c)
	code(c, "provider", p.Provider, MaxProvider)
	treatyID(c, p.TreatyID)
	c.Name("remote", p.Remote, 0, 256)
}

// RouteStarted says that a provider runs a job.
type RouteStarted struct {
	Placement
	StartedAt string `json:"started_at"` // by the provider's clock
}

// RouteStartedType is the type of [RouteStarted].
const RouteStartedType events.Type = "cloud.vaultmesh.route.started.v1"

// EventType implements events.Payload.
func (*RouteStarted) EventType() events.Type { return RouteStartedType }

// Check implements events.Payload.
func (p *RouteStarted) Check() error {
	var c events.Checker
	p.check(&c)
	c.Time("started_at", p.StartedAt)
	return c.Err()
}

// RouteFinished says that a job ended with exit code 0.
type RouteFinished struct {
	Placement
	StartedAt    string `json:"started_at,omitempty"`
	FinishedAt   string `json:"finished_at"`
	GPUSeconds   int64  `json:"gpu_seconds,omitzero"`
	Cost         int64  `json:"cost,omitzero"`           // micro-USD
	ResultSHA256 string `json:"result_sha256,omitempty"` // of the job's output
}

// RouteFinishedType is the type of [RouteFinished].
const RouteFinishedType events.Type = "cloud.vaultmesh.route.finished.v1"

// EventType implements events.Payload.
func (*RouteFinished) EventType() events.Type { return RouteFinishedType }

// Check implements events.Payload.
func (p *RouteFinished) Check() error {
	var c events.Checker
	p.check(&c)
	optionalTime(&c, "started_at", p.StartedAt)
	c.Time("finished_at", p.FinishedAt)
	c.Integer("gpu_seconds", p.GPUSeconds, 0, events.MaxExact)
	c.Integer("cost", p.Cost, 0, events.MaxExact)
	optionalSHA256(&c, "result_sha256", p.ResultSHA256)
	return c.Err()
}

// RouteFailed says that an attempt did not bring its job to a good end.
type RouteFailed struct {
	Placement
	Reason     string `json:"reason"`             // code
	Detail     string `json:"detail,omitempty"`   // for people
	ExitCode   int64  `json:"exit_code,omitzero"` // 0 if the job never ended by itself
	Retryable  bool   `json:"retryable,omitzero"` // another attempt may succeed
	FailedAt   string `json:"failed_at"`
	GPUSeconds int64  `json:"gpu_seconds,omitzero"`
	Cost       int64  `json:"cost,omitzero"` // micro-USD
}

// RouteFailedType is the type of [RouteFailed].
const RouteFailedType events.Type = "cloud.vaultmesh.route.failed.v1"

// EventType implements events.Payload.
func (*RouteFailed) EventType() events.Type { return RouteFailedType }

// Check implements events.Payload.
func (p *RouteFailed) Check() error {
	var c events.Checker
	p.check(&c)
	code(&c, "reason", p.Reason, maxCode)
	c.Text("detail", p.Detail, 0, MaxReason)
	c.Integer("exit_code", p.ExitCode, -1<<31, 1<<31-1)
	c.Time("failed_at", p.FailedAt)
	c.Integer("gpu_seconds", p.GPUSeconds, 0, events.MaxExact)
	c.Integer("cost", p.Cost, 0, events.MaxExact)
	return c.Err()
}
