package aurora

import "vaultmesh.cloud/vaultmesh/events"

// A TreatySignature is one party's word for a treaty.
type TreatySignature struct {
	Role        string `json:"role"` // operator, provider
	Fingerprint string `json:"fingerprint"`
	Signature   string `json:"signature"` // armored, detached, over the bytes of the YAML file
}

// Roles of who signs a treaty.
const (
	RoleOperator = "operator"
	RoleProvider = "provider"
)

// A GPUPrice is what a treaty asks for one class of GPU.
type GPUPrice struct {
	GPUClass string `json:"gpu_class"`
	Price    int64  `json:"price"` // micro-USD per GPU-hour, all-in
}

// A TreatySLO is what a provider promises.
type TreatySLO struct {
	AvailabilityPPM     int64 `json:"availability_ppm,omitzero"` // parts per million of time
	MaxProvisionSeconds int64 `json:"max_provision_seconds,omitzero"`
	MaxLatencyMS        int64 `json:"max_latency_ms,omitzero"`
}

// A TreatyQuota bounds what goes out under a treaty; 0 is no bound.
type TreatyQuota struct {
	ConcurrentJobs   int64 `json:"concurrent_jobs,omitzero"`
	GPUHoursPerMonth int64 `json:"gpu_hours_per_month,omitzero"` // calendar months, UTC
}

// A PolicyModule is a rule of vault law that a route must pass.
type PolicyModule struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of the module, which stands in blobs
}

// TreatyApplied says that a treaty is in force from its effective date, in place
// of any earlier one with its id. The terms are those of the YAML file, in units
// that need no rounding.
type TreatyApplied struct {
	TreatyID           string            `json:"treaty_id"`
	Provider           string            `json:"provider"`
	SHA256             string            `json:"sha256"`                // of the YAML file, which stands in blobs
	EffectiveDate      string            `json:"effective_date"`        // the first day, UTC
	ExpiryDate         string            `json:"expiry_date,omitempty"` // the first day after it, UTC
	Regions            []string          `json:"regions"`
	Prices             []GPUPrice        `json:"prices"` // one for each class, ordered by it
	SLO                TreatySLO         `json:"slo,omitzero"`
	Quota              TreatyQuota       `json:"quota,omitzero"`
	ReputationFloorPPM int64             `json:"reputation_floor_ppm,omitzero"` // 1,000,000 is a reputation of 1
	Policies           []PolicyModule    `json:"policies,omitempty"`            // all must agree
	Governance         string            `json:"governance,omitempty"`          // who agreed to it, such as a vote
	Signatures         []TreatySignature `json:"signatures"`
}

// TreatyAppliedType is the type of [TreatyApplied].
const TreatyAppliedType events.Type = "cloud.vaultmesh.treaty.applied.v1"

// EventType implements events.Payload.
func (*TreatyApplied) EventType() events.Type { return TreatyAppliedType }

// Entity is the treaty.
func (p *TreatyApplied) Entity() string { return p.TreatyID }

// Check implements events.Payload.
func (p *TreatyApplied) Check() error {
	var c events.Checker
	treatyID(&c, p.TreatyID)
	code(&c, "provider", p.Provider, MaxProvider)
	c.SHA256("sha256", p.SHA256)
	date(&c, "effective_date", p.EffectiveDate)
	if p.ExpiryDate != "" {
		date(&c, "expiry_date", p.ExpiryDate)
	}
	codes(&c, "regions", p.Regions, MaxRegions, maxRegion)
	if len(p.Regions) == 0 {
		c.Fail("regions", "must name at least one")
	}
	c.Integer("number of prices", int64(len(p.Prices)), 1, maxPrices)
	for _, g := range p.Prices {
		code(&c, "prices.gpu_class", g.GPUClass, maxCode)
		c.Integer("prices.price", g.Price, 1, events.MaxExact)
	}
	p.SLO.check(&c)
	c.Integer("quota.concurrent_jobs", p.Quota.ConcurrentJobs, 0, events.MaxExact)
	c.Integer("quota.gpu_hours_per_month", p.Quota.GPUHoursPerMonth, 0, events.MaxExact)
	c.Integer("reputation_floor_ppm", p.ReputationFloorPPM, 0, ppm)
	c.Integer("number of policies", int64(len(p.Policies)), 0, maxPolicies)
	for _, m := range p.Policies {
		c.Name("policies.name", m.Name, 1, 255)
		c.SHA256("policies.sha256", m.SHA256)
	}
	c.Text("governance", p.Governance, 0, MaxReason)
	c.Integer("number of signatures", int64(len(p.Signatures)), 1, 8)
	for _, s := range p.Signatures {
		c.OneOf("signatures.role", s.Role, RoleOperator, RoleProvider)
		c.Fingerprint("signatures.fingerprint", s.Fingerprint)
		c.Text("signatures.signature", s.Signature, 1, MaxSignature)
	}
	return c.Err()
}

func (s TreatySLO) check(c *events.Checker) {
	c.Integer("slo.availability_ppm", s.AvailabilityPPM, 0, ppm)
	c.Integer("slo.max_provision_seconds", s.MaxProvisionSeconds, 0, 86_400)
	c.Integer("slo.max_latency_ms", s.MaxLatencyMS, 0, 3_600_000)
}

// treatyID checks the name of a treaty, which is an event's subject: ASCII
// letters, digits, "_", "-" and ".", such as "AURORA-AKASH-001".
func treatyID(c *events.Checker, s string) {
	ok := s != "" && len(s) <= MaxTreatyID
	for i := 0; ok && i < len(s); i++ {
		b := s[i]
		ok = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || i > 0 && (b == '_' || b == '-' || b == '.')
	}
	if !ok {
		c.Fail("treaty_id", "must be 1 to %d letters, digits, _, - and ., beginning with a letter or digit", MaxTreatyID)
	}
}

// A TreatyChange is why a treaty's standing changed. The signature is over the
// JCS bytes of the payload without it.
type TreatyChange struct {
	TreatyID  string `json:"treaty_id"`
	Reason    string `json:"reason"`
	Signature string `json:"signature,omitempty"` // armored, detached
}

// Entity is the treaty.
func (p *TreatyChange) Entity() string { return p.TreatyID }

// Check implements events.Payload.
func (p *TreatyChange) Check() error {
	var c events.Checker
	treatyID(&c, p.TreatyID)
	c.Text("reason", p.Reason, 1, MaxReason)
	c.Text("signature", p.Signature, 0, MaxSignature)
	return c.Err()
}

type (
	// TreatySuspended says that no new job goes out under a treaty.
	TreatySuspended struct{ TreatyChange }
	// TreatyResumed ends a suspension.
	TreatyResumed struct{ TreatyChange }
	// TreatyRevoked ends a treaty for ever; another needs another id.
	TreatyRevoked struct{ TreatyChange }
)

// Types of changes to a treaty.
const (
	TreatySuspendedType events.Type = "cloud.vaultmesh.treaty.suspended.v1"
	TreatyResumedType   events.Type = "cloud.vaultmesh.treaty.resumed.v1"
	TreatyRevokedType   events.Type = "cloud.vaultmesh.treaty.revoked.v1"
)

// EventType implements events.Payload.
func (*TreatySuspended) EventType() events.Type { return TreatySuspendedType }

// EventType implements events.Payload.
func (*TreatyResumed) EventType() events.Type { return TreatyResumedType }

// EventType implements events.Payload.
func (*TreatyRevoked) EventType() events.Type { return TreatyRevokedType }
