package openpgp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func newTestKey(t testing.TB, name string) *Key {
	t.Helper()
	k, err := NewKey(name, "test", name+"@example.org", t0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign signs data with the entity's primary key, edited by edit before.
func sign(t testing.TB, k *Key, data string, at time.Time, edit func(*packet.Signature)) []byte {
	t.Helper()
	s := newSignature(k.entity.PrimaryKey, packet.SigTypeBinary, at)
	if edit != nil {
		edit(s)
	}
	h := s.Hash.New()
	h.Write([]byte(data))
	if err := s.Sign(h, k.entity.PrivateKey, config(at)); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := s.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// reread makes a Key of k's entity after the test changed it.
func reread(t testing.TB, k *Key) *Key {
	t.Helper()
	out, err := newKey(k.entity)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ringOf(keys ...*Key) *KeyRing {
	r := &KeyRing{}
	for _, k := range keys {
		r.keys = append(r.keys, k.Public())
	}
	return Merge(r)
}

func TestKeySurvivesItsArmor(t *testing.T) {
	k := newTestKey(t, "operator")
	sec, err := k.Armor()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadKey(sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.Fingerprint() != k.Fingerprint() || len(k.Fingerprint()) != 40 {
		t.Errorf("fingerprint %s became %s", k.Fingerprint(), again.Fingerprint())
	}
	a, err := k.SignDetached(strings.NewReader("x"), t0)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := again.SignDetached(strings.NewReader("x"), t0.Add(999*time.Millisecond))
	if !bytes.Equal(a, b) {
		t.Error("same data, key and second give different signatures")
	}
	got, err := VerifyDetached(ringOf(k), strings.NewReader("x"), a, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash != "SHA-512" || !got.CreatedAt.Equal(t0) || !got.Certified || got.CertifiedBy != nil || got.KeyID != k.Fingerprint()[24:] {
		t.Errorf("%+v", got)
	}
	if n := len(k.entity.Subkeys); n != 0 {
		t.Errorf("%d subkeys", n)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	k := newTestKey(t, "operator")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, k); got != "openpgp key "+k.Fingerprint() {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestReadersErrorComesBack(t *testing.T) {
	k := newTestKey(t, "operator")
	boom := errors.New("boom")
	if _, err := k.SignDetached(iotest.ErrReader(boom), t0); !errors.Is(err, boom) {
		t.Errorf("sign: %v", err)
	}
	sig, _ := k.SignDetached(strings.NewReader("x"), t0)
	if _, err := VerifyDetached(ringOf(k), iotest.ErrReader(boom), sig, time.Time{}); !errors.Is(err, boom) || Reason(err) != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestWhatIsRefusedAndWhy(t *testing.T) {
	k, other := newTestKey(t, "operator"), newTestKey(t, "other")
	good := sign(t, k, "x", t0, nil)
	armored, _ := k.SignDetached(strings.NewReader("x"), t0)
	pub, _ := k.PublicArmor()
	day := uint32(86400)
	cases := []struct {
		name string
		ring *KeyRing
		sig  []byte
		at   time.Time
		want error
	}{
		{"good", ringOf(k), good, time.Time{}, nil},
		{"no ring", nil, good, time.Time{}, ErrUnknownKey},
		{"unknown key", ringOf(other), good, time.Time{}, ErrUnknownKey},
		{"two signatures", ringOf(k), append(bytes.Clone(good), good...), time.Time{}, ErrMalformed},
		{"one by an unknown", ringOf(k), append(bytes.Clone(good), sign(t, other, "x", t0, nil)...), time.Time{}, ErrMalformed},
		{"trailing byte", ringOf(k), append(bytes.Clone(good), 0), time.Time{}, ErrMalformed},
		{"cut", ringOf(k), good[:len(good)-1], time.Time{}, ErrMalformed},
		{"empty", ringOf(k), nil, time.Time{}, ErrMalformed},
		{"text", ringOf(k), []byte("hello"), time.Time{}, ErrMalformed},
		{"two blocks", ringOf(k), append(bytes.Clone(armored), armored...), time.Time{}, ErrMalformed},
		{"text before the block", ringOf(k), append([]byte("see: \n"), armored...), time.Time{}, ErrMalformed},
		{"text after the block", ringOf(k), append(bytes.Clone(armored), "bye\n"...), time.Time{}, ErrMalformed},
		{"a key, not a signature", ringOf(k), pub, time.Time{}, ErrMalformed},
		{"oversize", ringOf(k), append(bytes.Repeat([]byte("\n"), MaxSignatureBytes), armored...), time.Time{}, ErrMalformed},
		{"checksum", ringOf(k), bytes.Replace(armored, []byte("\n="), []byte("\n=A"), 1)[:len(armored)], time.Time{}, ErrMalformed},
		{"a certification as document signature", ringOf(k), sign(t, k, "x", t0, func(s *packet.Signature) { s.SigType = packet.SigTypeGenericCert }), time.Time{}, ErrMalformed},
		{"older than its key", ringOf(k), sign(t, k, "x", t0.Add(-time.Second), nil), time.Time{}, ErrKeyExpired},
		{"trusted time before the key", ringOf(k), good, t0.Add(-time.Second), ErrKeyExpired},
		{"its own expiry", ringOf(k), sign(t, k, "x", t0, func(s *packet.Signature) { s.SigLifetimeSecs = &day }), t0.AddDate(0, 0, 2), ErrKeyExpired},
		{"within its own expiry", ringOf(k), sign(t, k, "x", t0, func(s *packet.Signature) { s.SigLifetimeSecs = &day }), t0.Add(time.Hour), nil},
		{"critical notation", ringOf(k), sign(t, k, "x", t0, func(s *packet.Signature) {
			s.Notations = []*packet.Notation{{Name: "a@example.org", IsCritical: true, Value: []byte("1"), IsHumanReadable: true}}
		}), time.Time{}, ErrBadSignature},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := VerifyDetached(c.ring, strings.NewReader("x"), c.sig, c.at)
			if Reason(err) != c.want || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestRevocationReasonsReachBackOrNot(t *testing.T) {
	sigAt, revAt := t0.Add(time.Hour), t0.Add(48*time.Hour)
	for _, c := range []struct {
		reason packet.ReasonForRevocation
		at     time.Time
		want   error
	}{
		{packet.KeySuperseded, sigAt, nil},
		{packet.KeyRetired, sigAt, nil},
		{packet.KeyRetired, revAt, ErrKeyRevoked},
		{packet.KeyRetired, revAt.Add(time.Hour), ErrKeyRevoked},
		{packet.KeyCompromised, sigAt, ErrKeyRevoked},
		{packet.NoReason, sigAt, ErrKeyRevoked},
	} {
		k := newTestKey(t, "operator")
		sig := sign(t, k, "x", sigAt, nil)
		if err := k.entity.RevokeKey(c.reason, "", config(revAt)); err != nil {
			t.Fatal(err)
		}
		k = reread(t, k)
		if _, err := VerifyDetached(ringOf(k), strings.NewReader("x"), sig, c.at); Reason(err) != c.want {
			t.Errorf("reason %d at %s: %v, want %v", c.reason, c.at, err, c.want)
		}
		if _, err := k.SignDetached(strings.NewReader("x"), revAt.Add(time.Hour)); Reason(err) != ErrKeyRevoked {
			t.Errorf("reason %d: signs after its revocation: %v", c.reason, err)
		}
	}
}

func TestForgedRevocationAndSelfSignatureCountForNothing(t *testing.T) {
	k, enemy := newTestKey(t, "operator"), newTestKey(t, "operator")
	sig := sign(t, k, "x", t0, nil)
	// The enemy's revocation, attached to k's key, claiming k as its issuer.
	rev := newSignature(k.entity.PrimaryKey, packet.SigTypeKeyRevocation, t0)
	reason := packet.KeyCompromised
	rev.RevocationReason = &reason
	if err := rev.RevokeKey(k.entity.PrimaryKey, enemy.entity.PrivateKey, config(t0)); err != nil {
		t.Fatal(err)
	}
	k.entity.Revocations = append(k.entity.Revocations, rev)
	ring := ringOf(reread(t, k))
	got, err := VerifyDetached(ring, strings.NewReader("x"), sig, time.Time{})
	if err != nil || !got.Certified {
		t.Errorf("%+v, %v", got, err)
	}
	// The enemy's user id on k's key is no user id of k's.
	for id, ident := range enemy.entity.Identities {
		ident.Name = id + " forged"
		ident.UserId = packet.NewUserId("mallory", "", "")
		k.entity.Identities = map[string]*pgp.Identity{"mallory": ident}
	}
	k.entity.Revocations = nil
	forged := reread(t, k)
	if forged.Public().SelfSigned() || len(forged.Public().Warnings()) == 0 {
		t.Errorf("a foreign signature certifies the key: %v", forged.Public().Warnings())
	}
	if err := CertifiedBy(forged.Public(), enemy.Public(), time.Time{}); Reason(err) != ErrNotCertified {
		t.Errorf("a user id that the key does not bind is certified: %v", err)
	}
}

func TestCertification(t *testing.T) {
	operator, node, other := newTestKey(t, "operator"), newTestKey(t, "node"), newTestKey(t, "other")
	at := t0.Add(time.Hour)
	armored, err := operator.Certify(node.Public(), at)
	if err != nil {
		t.Fatal(err)
	}
	certified := mustRing(t, armored).Keys()[0]
	if certified.Fingerprint() != node.Fingerprint() {
		t.Fatal("another key came back")
	}
	check := func(name string, key, by *PublicKey, at time.Time, want error) {
		t.Helper()
		if err := CertifiedBy(key, by, at); Reason(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	check("then", certified, operator.Public(), at, nil)
	check("later", certified, operator.Public(), at.AddDate(1, 0, 0), nil)
	check("before", certified, operator.Public(), at.Add(-time.Second), ErrNotCertified)
	check("by another", certified, other.Public(), at, ErrNotCertified)
	check("plain node", node.Public(), operator.Public(), at, ErrNotCertified)
	check("by itself", certified, node.Public(), at, ErrNotCertified)

	// The signature's result lists who certifies the key.
	sig := sign(t, node, "x", at, nil)
	ring := Merge(ringOf(operator, other), mustRing(t, armored))
	got, err := VerifyDetached(ring, strings.NewReader("x"), sig, at)
	if err != nil || len(got.CertifiedBy) != 1 || got.CertifiedBy[0] != operator.Fingerprint() {
		t.Errorf("%+v, %v", got, err)
	}

	// A certifier revoked for compromise certifies nothing.
	if err := operator.entity.RevokeKey(packet.KeyCompromised, "", config(at)); err != nil {
		t.Fatal(err)
	}
	check("revoked operator", certified, reread(t, operator).Public(), at, ErrKeyRevoked)
	if _, err := reread(t, operator).Certify(node.Public(), at); Reason(err) != ErrKeyRevoked {
		t.Errorf("a revoked key certifies: %v", err)
	}
}

func TestSecretKeyIsNoTrustAnchor(t *testing.T) {
	k := newTestKey(t, "operator")
	sec, _ := k.Armor()
	if _, err := ReadKeyRing(sec); Reason(err) != ErrMalformed {
		t.Errorf("armored: %v", err)
	}
	raw, err := dearmor(sec, armorPrivate)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyRing(raw); Reason(err) != ErrMalformed {
		t.Errorf("binary: %v", err)
	}
	if _, err := ReadKey(mustArmor(t, k), nil); Reason(err) != ErrMalformed {
		t.Errorf("public as secret: %v", err)
	}
}

func TestKeyRingsAreCapped(t *testing.T) {
	pub, err := dearmor(mustArmor(t, newTestKey(t, "operator")), armorPublic)
	if err != nil {
		t.Fatal(err)
	}
	many := bytes.Clone(pub)
	for i := range maxPackets {
		many = append(many, 0xcd, 2, byte(i>>8), byte(i)) // user ids
	}
	for name, in := range map[string][]byte{
		"too many packets": many,
		"too many bytes":   append(bytes.Clone(pub), make([]byte, MaxKeyRingBytes)...),
		"no key":           {0xcd, 1, 'x'},
		"trailing byte":    append(bytes.Clone(pub), 0),
	} {
		if _, err := ReadKeyRing(in); Reason(err) != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ring, err := ReadKeyRing(append(bytes.Clone(pub), pub...)); err != nil || len(ring.Keys()) != 1 {
		t.Errorf("one key twice is one key: %v", err)
	}
}

func mustArmor(t testing.TB, k *Key) []byte {
	t.Helper()
	b, err := k.PublicArmor()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryFlippedBitOfOurSignatureIsRefused(t *testing.T) {
	k := newTestKey(t, "operator")
	ring := ringOf(k)
	good := sign(t, k, "x", t0, nil)
	unhashed := unhashedBytes(t, good)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, err := VerifyDetached(ring, strings.NewReader("x"), bad, time.Time{})
			if err == nil && !unhashed[i] {
				t.Errorf("bit %d of byte %d flipped and accepted", bit, i)
			}
			if err != nil && Reason(err) == nil {
				t.Errorf("byte %d: no reason: %v", i, err)
			}
		}
	}
}

// unhashedBytes marks what a version 4 signature does not cover: its packet
// header, the unhashed subpackets, the two check bytes and the MPI bit counts.
func unhashedBytes(t testing.TB, sig []byte) []bool {
	t.Helper()
	out := make([]bool, len(sig))
	head := 2
	if sig[0]&0x40 == 0 {
		head = 1 + 1<<(sig[0]&3)
	} else if sig[1] >= 192 {
		head = 3
	}
	mark := func(from, to int) {
		for i := from; i < to; i++ {
			out[i] = true
		}
	}
	mark(0, head)
	at := head + 6 + int(sig[head+4])<<8 + int(sig[head+5])
	n := 2 + int(sig[at])<<8 + int(sig[at+1])
	mark(at, at+n+2)
	for at += n + 2; at < len(sig); {
		mark(at, at+2)
		at += 2 + (int(sig[at])<<8+int(sig[at+1])+7)/8
	}
	return out
}
