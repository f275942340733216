package aurora

import (
	"encoding/json"
	"fmt"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
)

// MaxDocument is how many canonical bytes of a treaty its parties should write,
// so that it fits an event beside its signatures. A schema cannot say this: the
// producer does, and the bound of every event holds anyway.
const MaxDocument = 40 << 10

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

// TreatyApplied says that a treaty is in force from its effective date, in place
// of any earlier one with its id.
type TreatyApplied struct {
	TreatyID      string            `json:"treaty_id"`
	Provider      string            `json:"provider"`
	SHA256        string            `json:"sha256"`                // of the YAML file
	Document      json.RawMessage   `json:"document"`              // the YAML file as a JSON object
	EffectiveDate string            `json:"effective_date"`        // the first day, UTC
	ExpiryDate    string            `json:"expiry_date,omitempty"` // the first day after it, UTC
	Signatures    []TreatySignature `json:"signatures"`
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
	if err := checkDocument(p.Document); err != nil {
		c.Fail("document", "%v", err)
	}
	date(&c, "effective_date", p.EffectiveDate)
	if p.ExpiryDate != "" {
		date(&c, "expiry_date", p.ExpiryDate)
	}
	c.Integer("number of signatures", int64(len(p.Signatures)), 1, 8)
	for _, s := range p.Signatures {
		c.OneOf("signatures.role", s.Role, RoleOperator, RoleProvider)
		c.Fingerprint("signatures.fingerprint", s.Fingerprint)
		c.Text("signatures.signature", s.Signature, 1, MaxSignature)
	}
	return c.Err()
}

func checkDocument(raw json.RawMessage) error {
	b, err := canon.Canonicalize(raw)
	if err != nil {
		return err
	}
	if b[0] != '{' {
		return fmt.Errorf("must be an object")
	}
	return events.RefuseNothing(b)
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
