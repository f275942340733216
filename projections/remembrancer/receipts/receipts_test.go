package receipts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

var (
	root = base64.StdEncoding.EncodeToString(make([]byte, 32))
	at   = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
)

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := canon.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func head(size uint64) remembrancer.Head {
	return remembrancer.NewHead("log.test", size, root, size, fmt.Sprintf("checkpoint %d", size), "asc", at)
}

func token(h remembrancer.Head) remembrancer.Seal {
	return remembrancer.NewTokenSeal(h, "AAAA", fmt.Sprintf("%064x", h.Size), "tsa", at)
}

func TestStore(t *testing.T) {
	fs := vfs.NewMem()
	opts := Options{FS: fs, Verify: func(h remembrancer.Head) error {
		if h.Size == 13 {
			return errors.New("forged")
		}
		return nil
	}}
	s, err := Open("receipts", opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Latest(); ok {
		t.Error("an empty store has a head")
	}
	changed := s.Changed()
	apply := func(stream string, from uint64, values ...any) {
		var msgs []Message
		for i, v := range values {
			msgs = append(msgs, Message{from + uint64(i), encode(t, v)})
		}
		if err := s.Apply(stream, msgs); err != nil {
			t.Fatal(err)
		}
	}
	apply(events.HeadsStream, 1, head(2), head(10), "junk", head(13), head(20), head(30))
	apply(events.SealsStream, 1, token(head(20)), "junk", token(head(40)))
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	check := func() {
		t.Helper()
		if h, ok := s.Latest(); !ok || h.Size != 30 {
			t.Errorf("latest %d", h.Size)
		}
		for _, c := range []struct {
			index   uint64
			stamped bool
			want    uint64
		}{{0, false, 2}, {1, false, 2}, {2, false, 10}, {10, false, 20}, {29, false, 30}, {30, false, 0}, {0, true, 20}, {19, true, 20}, {20, true, 0}} {
			h, ok, err := s.Covering(c.index, c.stamped)
			if err != nil || ok != (c.want > 0) || h.Size != c.want {
				t.Errorf("Covering(%d, %v) = %d, %v, %v; want %d", c.index, c.stamped, h.Size, ok, err, c.want)
			}
		}
		if seals, err := s.Seals(20); err != nil || len(seals) != 1 || seals[0] != token(head(20)) {
			t.Errorf("seals %v, %v", seals, err)
		}
		if seals, err := s.Seals(10); err != nil || len(seals) != 0 {
			t.Errorf("seals %v, %v", seals, err)
		}
		if h, ok, err := s.At(10); err != nil || !ok || h != head(10) {
			t.Errorf("At(10) = %v, %v, %v", h, ok, err)
		}
		if _, ok, err := s.At(13); ok || err != nil {
			t.Errorf("a forged head was kept: %v", err)
		}
		if n, err := s.Position(events.HeadsStream); n != 6 || err != nil {
			t.Errorf("position %d, %v", n, err)
		}
		var sizes []uint64
		err := s.Heads(func(h remembrancer.Head) error { sizes = append(sizes, h.Size); return nil })
		if fmt.Sprint(sizes) != "[2 10 20 30]" || err != nil {
			t.Errorf("heads %v, %v", sizes, err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("receipts", opts); err != nil {
		t.Fatal(err)
	}
	check()
	// Its head comes after the token.
	apply(events.HeadsStream, 7, head(40))
	if h, ok, err := s.Covering(20, true); !ok || h.Size != 40 || err != nil {
		t.Errorf("covering with a late head: %d, %v, %v", h.Size, ok, err)
	}
	if err := s.Apply("OTHER", []Message{{1, nil}}); err == nil {
		t.Error("another stream was folded")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
