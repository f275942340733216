package remembrancer

import (
	"fmt"

	"vaultmesh.cloud/vaultmesh/events"
)

// mergedEntity is the subject of events about the merged log.
const mergedEntity = "merged"

// PeerJoined says that this node takes a peer's keys as those of its log: the
// trust anchor's binding, which signs the JCS bytes of the payload without the
// URL and the signature.
type PeerJoined struct {
	Peer        string `json:"peer"`          // origin
	LogKey      string `json:"log_key"`       // C2SP verifier key
	WitnessKey  string `json:"witness_key"`   // C2SP verifier key
	Fingerprint string `json:"fingerprint"`   // of the trust anchor, an OpenPGP key
	URL         string `json:"url,omitempty"` // where it serves its log; not signed
	Serial      int64  `json:"serial"`        // the highest wins
	NotBefore   string `json:"not_before"`
	NotAfter    string `json:"not_after,omitempty"`
	Signature   string `json:"signature"` // armored, detached
}

// PeerJoinedType is the type of [PeerJoined].
const PeerJoinedType events.Type = "cloud.vaultmesh.federation.peer-joined.v1"

// EventType implements events.Payload.
func (*PeerJoined) EventType() events.Type { return PeerJoinedType }

// Entity is the peer.
func (p *PeerJoined) Entity() string { return events.ClipEntity(p.Peer) }

// Check implements events.Payload.
func (p *PeerJoined) Check() error {
	var c events.Checker
	c.Name("peer", p.Peer, 1, maxOrigin)
	c.Name("log_key", p.LogKey, 1, maxKey)
	c.Name("witness_key", p.WitnessKey, 1, maxKey)
	c.Fingerprint("fingerprint", p.Fingerprint)
	c.Name("url", p.URL, 0, 2<<10)
	c.Integer("serial", p.Serial, 1, events.MaxExact)
	c.Time("not_before", p.NotBefore)
	optionalTime(&c, "not_after", p.NotAfter)
	c.Text("signature", p.Signature, 1, MaxSignature)
	return c.Err()
}

// PeerLeft ends what [PeerJoined] began.
type PeerLeft struct {
	Peer        string `json:"peer"`        // origin
	Fingerprint string `json:"fingerprint"` // of the trust anchor
	Reason      string `json:"reason,omitempty"`
}

// PeerLeftType is the type of [PeerLeft].
const PeerLeftType events.Type = "cloud.vaultmesh.federation.peer-left.v1"

// EventType implements events.Payload.
func (*PeerLeft) EventType() events.Type { return PeerLeftType }

// Entity is the peer.
func (p *PeerLeft) Entity() string { return events.ClipEntity(p.Peer) }

// Check implements events.Payload.
func (p *PeerLeft) Check() error {
	var c events.Checker
	c.Name("peer", p.Peer, 1, maxOrigin)
	c.Fingerprint("fingerprint", p.Fingerprint)
	c.Text("reason", p.Reason, 0, maxReason)
	return c.Err()
}

// A MemberCheckpoint is what one member brings into a round.
type MemberCheckpoint struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size,omitzero"` // leaves
	Root   string `json:"root"`          // hex
	SHA256 string `json:"sha256"`        // of the checkpoint's bytes
}

// RoundSealed says that a quorum signed the receipt of a merge round.
type RoundSealed struct {
	Epoch         int64              `json:"epoch"` // of the membership
	Round         int64              `json:"round"`
	Previous      string             `json:"previous,omitempty"` // SHA-256 of the previous round's receipt
	Receipt       string             `json:"receipt"`            // SHA-256 of this round's receipt, which stands in blobs
	Members       []MemberCheckpoint `json:"members"`            // ordered by origin
	MergedSize    int64              `json:"merged_size,omitzero"`
	MergedRoot    string             `json:"merged_root"` // hex
	Signers       []string           `json:"signers"`     // origins
	ProposerIndex int64              `json:"proposer_index,omitzero"`
}

// RoundSealedType is the type of [RoundSealed].
const RoundSealedType events.Type = "cloud.vaultmesh.federation.round-sealed.v1"

// EventType implements events.Payload.
func (*RoundSealed) EventType() events.Type { return RoundSealedType }

// Entity is "merged" for every round.
func (*RoundSealed) Entity() string { return mergedEntity }

// Check implements events.Payload.
func (p *RoundSealed) Check() error {
	var c events.Checker
	c.Integer("epoch", p.Epoch, 1, events.MaxExact)
	c.Integer("round", p.Round, 1, events.MaxExact)
	if p.Previous != "" {
		c.SHA256("previous", p.Previous)
	}
	c.SHA256("receipt", p.Receipt)
	c.Integer("number of members", int64(len(p.Members)), 1, maxMembers)
	for i, m := range p.Members {
		if err := m.check(); err != nil {
			c.Fail(fmt.Sprintf("members[%d]", i), "%v", err)
		}
	}
	c.Integer("merged_size", p.MergedSize, 0, events.MaxExact)
	c.SHA256("merged_root", p.MergedRoot)
	c.Integer("number of signers", int64(len(p.Signers)), 1, maxMembers)
	for _, s := range p.Signers {
		c.Name("each of signers", s, 1, maxOrigin)
	}
	unique(&c, "signers", p.Signers)
	c.Integer("proposer_index", p.ProposerIndex, 0, maxMembers-1)
	return c.Err()
}

func (m *MemberCheckpoint) check() error {
	var c events.Checker
	c.Name("origin", m.Origin, 1, maxOrigin)
	c.Integer("size", m.Size, 0, events.MaxExact)
	c.SHA256("root", m.Root)
	c.SHA256("sha256", m.SHA256)
	return c.Err()
}

// Kinds of equivocation.
const (
	EquivocationCheckpoint = "checkpoint" // two checkpoints that no log can have
	EquivocationRound      = "round"      // two receipts of one round
)

// EquivocationFound keeps the evidence that a peer signed two statements that
// contradict each other.
type EquivocationFound struct {
	Peer   string `json:"peer"` // origin
	Kind   string `json:"kind"`
	Number int64  `json:"number,omitzero"` // size of the smaller checkpoint, or the round
	First  string `json:"first"`           // SHA-256 of a signed statement, which stands in blobs
	Second string `json:"second"`          // SHA-256 of the other
	Detail string `json:"detail,omitempty"`
}

// EquivocationFoundType is the type of [EquivocationFound].
const EquivocationFoundType events.Type = "cloud.vaultmesh.federation.equivocation-found.v1"

// EventType implements events.Payload.
func (*EquivocationFound) EventType() events.Type { return EquivocationFoundType }

// Entity is the peer.
func (p *EquivocationFound) Entity() string { return events.ClipEntity(p.Peer) }

// Check implements events.Payload.
func (p *EquivocationFound) Check() error {
	var c events.Checker
	c.Name("peer", p.Peer, 1, maxOrigin)
	c.OneOf("kind", p.Kind, EquivocationCheckpoint, EquivocationRound)
	c.Integer("number", p.Number, 0, events.MaxExact)
	c.SHA256("first", p.First)
	c.SHA256("second", p.Second)
	c.Text("detail", p.Detail, 0, MaxNotes)
	return c.Err()
}
