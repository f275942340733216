package openpgp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Caps on what others send. They stand before any parsing.
const (
	// MaxSignatureBytes caps one detached signature, armored or binary.
	MaxSignatureBytes = 64 << 10
	// MaxKeyRingBytes caps one key ring, armored or binary.
	MaxKeyRingBytes = 1 << 20
	// maxPackets caps the packets of one key ring: each costs memory however
	// short it is.
	maxPackets = 4096
	// maxRSABits caps the work of one RSA verification.
	maxRSABits = 16384
)

// Packet types, RFC 9580, section 5.
const (
	tagSignature     = 2
	tagSecretKey     = 5
	tagPublicKey     = 6
	tagSecretSubkey  = 7
	tagMarker        = 10
	tagTrust         = 12
	tagUserID        = 13
	tagPublicSubkey  = 14
	tagUserAttribute = 17
	tagPadding       = 21
)

// KeyRing is a set of public keys that its reader trusts to some end. It is
// immutable and safe for concurrent use.
type KeyRing struct {
	keys []*PublicKey
}

// PublicKey is one public key with its user ids, subkeys and the signatures on
// them. It is immutable.
type PublicKey struct {
	primary     *packet.PublicKey
	head        *packet.OpaquePacket
	direct      []sigPacket // direct-key signatures and revocations, valid or not
	parts       []*part     // user ids, subkeys and what we do not read, in order
	unreadable  int         // signatures that we cannot read: unknown version, algorithm or critical part
	self        []*packet.Signature
	revocations []*packet.Signature // of the whole key, valid
}

// part is a user id, a subkey or a component that we keep but do not read.
type part struct {
	head *packet.OpaquePacket
	uid  *string
	sub  *packet.PublicKey
	sigs []sigPacket

	self        []*packet.Signature // valid self-signatures (user id) or bindings (subkey)
	revocations []*packet.Signature // valid revocations by the primary key
}

// sigPacket is a signature as read (raw, for export) and as understood (nil if
// it could not be read).
type sigPacket struct {
	raw *packet.OpaquePacket
	sig *packet.Signature
}

// ReadKeyRing reads one armored block or binary public keys, one after the
// other (RFC 9580, section 10.1), of at most [MaxKeyRingBytes]. A key without
// user id or self-signature is accepted; [PublicKey.Warnings] says what it
// lacks. Secret keys, anything that is not a key, and text around the block are
// refused with [ErrMalformed].
func ReadKeyRing(armoredOrBinary []byte) (*KeyRing, error) {
	if len(armoredOrBinary) > MaxKeyRingBytes {
		return nil, fmt.Errorf("key ring of %d bytes, at most %d allowed: %w", len(armoredOrBinary), MaxKeyRingBytes, ErrMalformed)
	}
	data, err := dearmor(armoredOrBinary, armorPublic)
	if err != nil {
		return nil, fmt.Errorf("read key ring: %w", err)
	}
	packets, err := readPackets(data)
	if err != nil {
		return nil, fmt.Errorf("read key ring: %w", err)
	}
	ring := &KeyRing{}
	var key *PublicKey
	var at *part // nil: signatures belong to the primary key
	for i, op := range packets {
		if key == nil && op.Tag != tagPublicKey && op.Tag != tagSecretKey && op.Tag != tagMarker && op.Tag != tagPadding {
			return nil, fmt.Errorf("read key ring: packet %d of type %d before any key: %w", i, op.Tag, ErrMalformed)
		}
		switch op.Tag {
		case tagPublicKey:
			pk, err := parsePublic(op)
			if err != nil {
				return nil, fmt.Errorf("read key ring: key in packet %d: %w", i, err)
			}
			key, at = &PublicKey{primary: pk, head: op}, nil
			ring.keys = append(ring.keys, key)
		case tagUserID:
			id := string(op.Contents)
			at = key.addPart(&part{head: op, uid: &id})
		case tagPublicSubkey:
			p := &part{head: op}
			// A subkey of an unknown kind cannot sign for us; keep it for export.
			if pk, err := parsePublic(op); err == nil {
				p.sub = pk
			}
			at = key.addPart(p)
		case tagUserAttribute:
			at = key.addPart(&part{head: op})
		case tagSignature:
			key.addSig(at, op)
		case tagMarker, tagTrust, tagPadding:
		case tagSecretKey, tagSecretSubkey:
			return nil, fmt.Errorf("read key ring: packet %d is a secret key; export the public part: %w", i, ErrMalformed)
		default:
			return nil, fmt.Errorf("read key ring: packet %d has type %d, which is no part of a key: %w", i, op.Tag, ErrMalformed)
		}
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf("read key ring: no key in it: %w", ErrMalformed)
	}
	return Merge(ring), nil
}

// Merge returns a ring with the keys of all rings. Copies of one key become
// one key with everything that any copy carries: otherwise a copy without its
// revocation would still be good.
func Merge(rings ...*KeyRing) *KeyRing {
	out := &KeyRing{}
	byFpr := map[string]*PublicKey{}
	for _, ring := range rings {
		if ring == nil {
			continue
		}
		for _, k := range ring.keys {
			dst, ok := byFpr[k.Fingerprint()]
			if !ok {
				dst = &PublicKey{primary: k.primary, head: k.head}
				byFpr[k.Fingerprint()] = dst
				out.keys = append(out.keys, dst)
			}
			for _, s := range k.direct {
				dst.addSig(nil, s.raw)
			}
			for _, p := range k.parts {
				q := dst.addPart(&part{head: p.head, uid: p.uid, sub: p.sub})
				for _, s := range p.sigs {
					dst.addSig(q, s.raw)
				}
			}
		}
	}
	for _, k := range out.keys {
		k.judge()
	}
	return out
}

func readPackets(data []byte) ([]*packet.OpaquePacket, error) {
	var out []*packet.OpaquePacket
	r := packet.NewOpaqueReader(bytes.NewReader(data))
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) && op == nil {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("packet %d: %v: %w", len(out), err, ErrMalformed)
		}
		if len(out) == maxPackets {
			return nil, fmt.Errorf("more than %d packets: %w", maxPackets, ErrMalformed)
		}
		out = append(out, op)
	}
}

func parsePublic(op *packet.OpaquePacket) (*packet.PublicKey, error) {
	p, err := op.Parse()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrMalformed)
	}
	pk, ok := p.(*packet.PublicKey)
	if !ok {
		return nil, fmt.Errorf("not a public key: %w", ErrMalformed)
	}
	if bits := rsaBits(pk); bits > maxRSABits {
		return nil, fmt.Errorf("RSA key of %d bits, at most %d allowed: %w", bits, maxRSABits, ErrMalformed)
	}
	// The fingerprint is over what we would write; what we read must be that.
	var buf bytes.Buffer
	if err := pk.Serialize(&buf); err != nil || !bytes.HasSuffix(buf.Bytes(), op.Contents) {
		return nil, fmt.Errorf("public key has bytes that its fingerprint does not cover: %w", ErrMalformed)
	}
	return pk, nil
}

// addPart appends p, or returns the part that p repeats.
func (k *PublicKey) addPart(p *part) *part {
	for _, q := range k.parts {
		if q.head.Tag == p.head.Tag && bytes.Equal(q.head.Contents, p.head.Contents) {
			return q
		}
	}
	k.parts = append(k.parts, p)
	return p
}

func (k *PublicKey) addSig(at *part, op *packet.OpaquePacket) {
	list := &k.direct
	if at != nil {
		list = &at.sigs
	}
	for _, s := range *list {
		if bytes.Equal(s.raw.Contents, op.Contents) {
			return
		}
	}
	s := sigPacket{raw: op}
	if p, err := op.Parse(); err == nil {
		s.sig, _ = p.(*packet.Signature)
	}
	if s.sig == nil {
		k.unreadable++
	}
	*list = append(*list, s)
}

// Keys returns the keys in the order in which they were read.
func (r *KeyRing) Keys() []*PublicKey { return append([]*PublicKey(nil), r.keys...) }

// Find returns the key with the full fingerprint (hex, either case, spaces
// allowed), or nil. Short key ids find nothing: they can be forged.
func (r *KeyRing) Find(fingerprint string) *PublicKey {
	want := strings.ToUpper(strings.ReplaceAll(fingerprint, " ", ""))
	for _, k := range r.keys {
		if k.Fingerprint() == want {
			return k
		}
	}
	return nil
}

// Fingerprint is the full fingerprint of the primary key in upper-case hex: 40
// digits for version 4, 64 for version 6.
func (k *PublicKey) Fingerprint() string { return fingerprint(k.primary) }

// KeyID is the 16-digit key id of the primary key in upper-case hex. It names a
// key; it does not prove one.
func (k *PublicKey) KeyID() string { return keyID(k.primary) }

// CreatedAt is the creation time that the key claims, in UTC.
func (k *PublicKey) CreatedAt() time.Time { return k.primary.CreationTime.UTC() }

// UserIDs returns the user ids in order, certified or not.
func (k *PublicKey) UserIDs() []string {
	var out []string
	for _, p := range k.parts {
		if p.uid != nil {
			out = append(out, *p.uid)
		}
	}
	return out
}

// Armor returns the key with all it was read with, as one armored block.
func (k *PublicKey) Armor() ([]byte, error) {
	var buf bytes.Buffer
	ops := []*packet.OpaquePacket{k.head}
	for _, s := range k.direct {
		ops = append(ops, s.raw)
	}
	for _, p := range k.parts {
		ops = append(ops, p.head)
		for _, s := range p.sigs {
			ops = append(ops, s.raw)
		}
	}
	for _, op := range ops {
		if err := op.Serialize(&buf); err != nil {
			return nil, fmt.Errorf("armor key %s: %w", k.Fingerprint(), err)
		}
	}
	return enarmor(buf.Bytes(), armorPublic)
}

func fingerprint(pk *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(pk.Fingerprint))
}

func keyID(pk *packet.PublicKey) string { return fmt.Sprintf("%016X", pk.KeyId) }
