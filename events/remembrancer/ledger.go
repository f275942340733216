package remembrancer

import "vaultmesh.cloud/vaultmesh/events"

// logEntity is the subject of the ledger's own events.
const logEntity = "log"

// LedgerStamped says that a checkpoint got a token: what follows in the log is
// later than GenTime.
type LedgerStamped struct {
	Origin      string `json:"origin"`
	Size        int64  `json:"size"` // leaves of the checkpoint
	Root        string `json:"root"` // base64
	TokenSHA256 string `json:"token_sha256"`
	TSA         string `json:"tsa"`
	GenTime     string `json:"gen_time"`
}

// LedgerStampedType is the type of [LedgerStamped].
const LedgerStampedType events.Type = "cloud.vaultmesh.ledger.stamped.v1"

// EventType implements events.Payload.
func (*LedgerStamped) EventType() events.Type { return LedgerStampedType }

// Entity implements events.Payload.
func (*LedgerStamped) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerStamped) Check() error {
	var c events.Checker
	c.Name("origin", p.Origin, 1, 255)
	c.Integer("size", p.Size, 1, events.MaxExact)
	checkRoot(&c, p.Root)
	c.SHA256("token_sha256", p.TokenSHA256)
	c.Name("tsa", p.TSA, 1, 512)
	c.Time("gen_time", p.GenTime)
	return c.Err()
}

// LedgerKeyBound binds the keys of a log to its operator: the statement is
// signed with the operator's OpenPGP key over the JCS bytes of the payload
// without the signature. The highest serial wins.
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

// Entity implements events.Payload.
func (*LedgerKeyBound) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerKeyBound) Check() error {
	var c events.Checker
	c.Name("origin", p.Origin, 1, 255)
	c.Name("log_key", p.LogKey, 1, 512)
	c.Fingerprint("operator", p.Operator)
	c.Fingerprint("node", p.Node)
	c.Integer("serial", p.Serial, 1, events.MaxExact)
	c.Time("not_before", p.NotBefore)
	if p.NotAfter != "" {
		c.Time("not_after", p.NotAfter)
	}
	c.Text("signature", p.Signature, 0, 16<<10)
	return c.Err()
}

// LedgerRegressed is the alarm that a stream does not continue what was folded.
type LedgerRegressed struct {
	Stream   string `json:"stream"`
	Epoch    int64  `json:"epoch"`
	Expected int64  `json:"expected"` // sequence
	Found    int64  `json:"found"`    // sequence
	Detail   string `json:"detail"`
}

// LedgerRegressedType is the type of [LedgerRegressed].
const LedgerRegressedType events.Type = "cloud.vaultmesh.ledger.regressed.v1"

// EventType implements events.Payload.
func (*LedgerRegressed) EventType() events.Type { return LedgerRegressedType }

// Entity implements events.Payload.
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
	PreviousSize int64  `json:"previous_size"`
	PreviousRoot string `json:"previous_root"` // base64
}

// LedgerEpochOpenedType is the type of [LedgerEpochOpened].
const LedgerEpochOpenedType events.Type = "cloud.vaultmesh.ledger.epoch-opened.v1"

// EventType implements events.Payload.
func (*LedgerEpochOpened) EventType() events.Type { return LedgerEpochOpenedType }

// Entity implements events.Payload.
func (*LedgerEpochOpened) Entity() string { return logEntity }

// Check implements events.Payload.
func (p *LedgerEpochOpened) Check() error {
	var c events.Checker
	c.Integer("epoch", p.Epoch, 2, events.MaxExact)
	c.Integer("previous_size", p.PreviousSize, 0, events.MaxExact)
	checkRoot(&c, p.PreviousRoot)
	return c.Err()
}

func checkRoot(c *events.Checker, root string) {
	c.Base64("root", root, 44)
	if len(root) != 44 {
		c.Fail("root", "must be the base64 of 32 bytes")
	}
}
