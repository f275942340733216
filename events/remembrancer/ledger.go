package remembrancer

import "vaultmesh.cloud/vaultmesh/events"

// logEntity is the subject of the ledger's own events.
const logEntity = "log"

// LedgerStamped says that a checkpoint got a token: what follows in the log is
// later than GenTime.
type LedgerStamped struct {
	Origin      string `json:"origin"`
	Size        int64  `json:"size"` // leaves of the checkpoint
	Root        string `json:"root"` // hex
	TokenSHA256 string `json:"token_sha256"`
	TSA         string `json:"tsa"` // URL, or name in the certificate
	GenTime     string `json:"gen_time"`
}

// LedgerStampedType is the type of [LedgerStamped].
const LedgerStampedType events.Type = "cloud.vaultmesh.ledger.stamped.v1"

// EventType implements events.Payload.
func (*LedgerStamped) EventType() events.Type { return LedgerStampedType }

// Entity is "log" for all of the ledger's events.
func (*LedgerStamped) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerStamped) Check() error {
	var c events.Checker
	c.Name("origin", p.Origin, 1, maxOrigin)
	c.Integer("size", p.Size, 1, events.MaxExact)
	c.SHA256("root", p.Root)
	c.SHA256("token_sha256", p.TokenSHA256)
	c.Name("tsa", p.TSA, 1, maxTSA)
	c.Time("gen_time", p.GenTime)
	return c.Err()
}

// LedgerKeyBound binds the keys of a log to its operator, who signs the JCS
// bytes of the payload without the signature. The highest serial wins.
type LedgerKeyBound struct {
	Origin    string `json:"origin"`
	LogKey    string `json:"log_key"`  // C2SP verifier key
	Operator  string `json:"operator"` // fingerprint
	Node      string `json:"node"`     // fingerprint
	Serial    int64  `json:"serial"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after,omitempty"`
	Signature string `json:"signature,omitempty"` // armored, detached
}

// LedgerKeyBoundType is the type of [LedgerKeyBound].
const LedgerKeyBoundType events.Type = "cloud.vaultmesh.ledger.key-bound.v1"

// EventType implements events.Payload.
func (*LedgerKeyBound) EventType() events.Type { return LedgerKeyBoundType }

// Entity is "log" for all of the ledger's events.
func (*LedgerKeyBound) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerKeyBound) Check() error {
	var c events.Checker
	c.Name("origin", p.Origin, 1, maxOrigin)
	c.Name("log_key", p.LogKey, 1, maxKey)
	c.Fingerprint("operator", p.Operator)
	c.Fingerprint("node", p.Node)
	c.Integer("serial", p.Serial, 1, events.MaxExact)
	c.Time("not_before", p.NotBefore)
	optionalTime(&c, "not_after", p.NotAfter)
	c.Text("signature", p.Signature, 0, MaxSignature)
	return c.Err()
}

// LedgerKeyRevoked ends a binding: nothing that the log key signed after
// RevokedAt counts. The operator signs as in [LedgerKeyBound], whose serials it
// continues.
type LedgerKeyRevoked struct {
	Origin    string `json:"origin"`
	LogKey    string `json:"log_key"`  // C2SP verifier key
	Operator  string `json:"operator"` // fingerprint
	Serial    int64  `json:"serial"`
	RevokedAt string `json:"revoked_at"`
	Reason    string `json:"reason"`
	Signature string `json:"signature,omitempty"` // armored, detached
}

// LedgerKeyRevokedType is the type of [LedgerKeyRevoked].
const LedgerKeyRevokedType events.Type = "cloud.vaultmesh.ledger.key-revoked.v1"

// EventType implements events.Payload.
func (*LedgerKeyRevoked) EventType() events.Type { return LedgerKeyRevokedType }

// Entity is "log" for all of the ledger's events.
func (*LedgerKeyRevoked) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerKeyRevoked) Check() error {
	var c events.Checker
	c.Name("origin", p.Origin, 1, maxOrigin)
	c.Name("log_key", p.LogKey, 1, maxKey)
	c.Fingerprint("operator", p.Operator)
	c.Integer("serial", p.Serial, 1, events.MaxExact)
	c.Time("revoked_at", p.RevokedAt)
	c.Text("reason", p.Reason, 1, maxReason)
	c.Text("signature", p.Signature, 0, MaxSignature)
	return c.Err()
}

// LedgerRegressed is the alarm that a stream does not continue what was folded.
type LedgerRegressed struct {
	Stream   string `json:"stream"`
	Epoch    int64  `json:"epoch"`
	Expected int64  `json:"expected,omitzero"` // sequence
	Found    int64  `json:"found,omitzero"`    // sequence
	Detail   string `json:"detail"`
}

// LedgerRegressedType is the type of [LedgerRegressed].
const LedgerRegressedType events.Type = "cloud.vaultmesh.ledger.regressed.v1"

// EventType implements events.Payload.
func (*LedgerRegressed) EventType() events.Type { return LedgerRegressedType }

// Entity is "log" for all of the ledger's events.
func (*LedgerRegressed) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerRegressed) Check() error {
	var c events.Checker
	c.Name("stream", p.Stream, 1, MaxName)
	c.Integer("epoch", p.Epoch, 1, events.MaxExact)
	c.Integer("expected", p.Expected, 0, events.MaxExact)
	c.Integer("found", p.Found, 0, events.MaxExact)
	c.Text("detail", p.Detail, 1, MaxNotes)
	return c.Err()
}

// LedgerEpochOpened begins a new stream after a repair.
type LedgerEpochOpened struct {
	Epoch        int64  `json:"epoch"`
	PreviousSize int64  `json:"previous_size,omitzero"` // leaves
	PreviousRoot string `json:"previous_root"`          // hex
}

// LedgerEpochOpenedType is the type of [LedgerEpochOpened].
const LedgerEpochOpenedType events.Type = "cloud.vaultmesh.ledger.epoch-opened.v1"

// EventType implements events.Payload.
func (*LedgerEpochOpened) EventType() events.Type { return LedgerEpochOpenedType }

// Entity is "log" for all of the ledger's events.
func (*LedgerEpochOpened) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerEpochOpened) Check() error {
	var c events.Checker
	c.Integer("epoch", p.Epoch, 2, events.MaxExact)
	c.Integer("previous_size", p.PreviousSize, 0, events.MaxExact)
	c.SHA256("previous_root", p.PreviousRoot)
	return c.Err()
}
