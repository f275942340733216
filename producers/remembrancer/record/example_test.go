package record_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/producers/remembrancer/record"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// direct folds what it is given at once, without a bus between.
type direct struct {
	ledger   *ledger.Ledger
	sequence uint64
}

func (d *direct) Publish(ctx context.Context, e *events.Event) (bus.Ack, error) {
	b, err := e.Canonical()
	if err != nil {
		return bus.Ack{}, err
	}
	d.sequence++
	m := ledger.Message{Subject: e.NATSSubject(), Sequence: d.sequence, Data: b}
	_, err = d.ledger.Apply(ctx, d.ledger.Prepare(1, time.Time{}, []ledger.Message{m}))
	return bus.Ack{Sequence: d.sequence}, err
}

func (d *direct) PublishBatch(ctx context.Context, list []*events.Event) (acks []bus.Ack, err error) {
	for _, e := range list {
		ack, err := d.Publish(ctx, e)
		if err != nil {
			return nil, err
		}
		acks = append(acks, ack)
	}
	return acks, nil
}

// unsealed is a log that nobody signs.
type unsealed struct{}

func (unsealed) Sealed() uint64 { return 0 }
func (unsealed) Receipt(context.Context, reads.ReceiptQuery) (reads.Receipt, error) {
	return reads.Receipt{}, reads.ErrNotYet
}

// A repeat of an intention under the same key is found in the log, and a
// decision gets the next number of it.
func Example() {
	registry, err := events.NewRegistry(remembrancer.Definitions())
	if err != nil {
		fmt.Println(err)
		return
	}
	log, err := ledger.Open("ledger", ledger.Options{FS: vfs.NewMem(), Registry: registry})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	publisher := &direct{ledger: log}
	r := record.New(record.Options{
		Registry: registry, Log: log, Seals: unsealed{}, Clock: time.Now, Rand: rand.Reader,
		Publisher: func(events.Producer) (record.Publisher, error) { return publisher, nil },
	})
	ctx := context.Background()
	for range 2 {
		out, err := r.Deploy(ctx, record.Order{Producer: "ci", Key: "build 17"}, remembrancer.DeployRecorded{Component: "api", Version: "v1.2.0"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("deployment at leaf", *out.Index, "repeated:", out.Repeated)
	}
	out, err := r.Decision(ctx, record.Order{Producer: "operator"}, remembrancer.DecisionRecorded{Title: "Use NATS", Status: "accepted"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("decision", out.Payload.(*remembrancer.DecisionRecorded).Number, "at leaf", *out.Index)
	// Output:
	// deployment at leaf 0 repeated: false
	// deployment at leaf 0 repeated: true
	// decision 1 at leaf 1
}
