package ledger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/mod/sumdb/tlog"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// A message is folded, and its leaf proven below the root.
func ExampleLedger() {
	l, err := ledger.Open("ledger", ledger.Options{FS: vfs.NewMem()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = l.Close() }()
	var msgs []ledger.Message
	for i := range 3 {
		e := &events.Event{
			ID: events.ID(fmt.Sprint("build-", i)), Source: "/ci", Type: "cloud.vaultmesh.deploy.recorded.v1", Subject: "api",
			Data: json.RawMessage(`{"component":"api"}`),
		}
		b, err := e.Canonical()
		if err != nil {
			fmt.Println(err)
			return
		}
		msgs = append(msgs, ledger.Message{Subject: e.NATSSubject(), Sequence: uint64(i + 1), Data: b})
	}
	created := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	head, err := l.Apply(context.Background(), l.Prepare(1, created, msgs))
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := l.Lookup("/ci", "build-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	path, err := l.Inclusion(index, head.Size)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(head.Size, index, len(path))
	fmt.Println(tlog.CheckRecord(path, int64(head.Size), head.Root, int64(index), tlog.RecordHash(msgs[1].Data)))
	// Output:
	// 3 1 2
	// <nil>
}
