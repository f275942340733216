package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/internal/dial"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger/bare"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Options of a measurement.
type Options struct {
	Dir        string // an empty directory on the disk to measure; removed by the caller
	Events     int    // to publish as fast as possible
	Size       int    // bytes of a canonical event, about
	Rate       int    // events a second in the latency phase
	Seconds    int    // of the latency phase; 0 skips it
	NoBaseline bool
	Layers     []daemon.Layer
	// Progress is called with what is being done; done and total are events.
	Progress func(phase string, done, total int)
}

// Result is what was measured. Rates are from the first event's publication to
// the last one's being there.
type Result struct {
	Events              int     `json:"events"`
	Size                int     `json:"event_bytes"`
	Rate                int     `json:"latency_rate_per_second"`
	Settings            string  `json:"settings"`
	PublishedPerSecond  float64 `json:"published_per_second"`
	FoldedPerSecond     float64 `json:"folded_per_second"`
	SealedPerSecond     float64 `json:"sealed_per_second"`
	BaselinePerSecond   float64 `json:"baseline_per_second"`
	SealedToBaseline    float64 `json:"sealed_to_baseline"`
	ReceiptP50Seconds   float64 `json:"receipt_p50_seconds"`
	ReceiptP99Seconds   float64 `json:"receipt_p99_seconds"`
	ReceiptsVerified    int     `json:"receipts_verified"`
	AchievedLatencyRate float64 `json:"latency_achieved_per_second"`
	PeakRSSBytes        int64   `json:"peak_rss_bytes"` // of this process with the node in it, before the baseline
}

const settings = "embedded JetStream with SyncAlways over loopback TCP, atomic batches of 1,000, typed schema checks at publish and fold, duplicate index, one synced Pebble batch, signed heads every 200 ms, signed receipts"

// Run measures.
func Run(ctx context.Context, o Options) (res Result, err error) {
	res = Result{Events: o.Events, Size: o.Size, Rate: o.Rate, Settings: settings}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	dir := filepath.Join(o.Dir, "node")
	node, err := daemon.Start(ctx, daemon.Options{
		Config: daemon.Config{Data: dir, HTTP: "127.0.0.1:0", NATS: "127.0.0.1:0"},
		Layers: o.Layers, Listen: true, Logger: slog.New(slog.DiscardHandler), Version: "bench",
	})
	if err != nil {
		return res, fmt.Errorf("start a node to measure: %w", err)
	}
	stop := sync.OnceValue(func() error { return node.Stop(context.WithoutCancel(ctx)) })
	defer func() { err = errors.Join(err, stop()) }()
	if err := node.AwaitReady(ctx); err != nil {
		return res, err
	}
	m, err := newMeasure(ctx, node, dir, &o)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.throughput(ctx, &res); err != nil {
		return res, fmt.Errorf("measure throughput: %w", err)
	}
	if o.Seconds > 0 {
		if err := m.latency(ctx, &res); err != nil {
			return res, fmt.Errorf("measure receipts: %w", err)
		}
	}
	res.PeakRSSBytes = peakRSS()
	if err := stop(); err != nil {
		return res, err
	}
	if !o.NoBaseline {
		err = m.baseline(ctx, &res)
	}
	return res, err
}

// A measure is a producer beside the node, over TCP like any other.
type measure struct {
	o        *Options
	base     string
	http     *http.Client
	conn     *bus.Conn
	vkey     string
	registry *events.Registry
	producer events.Producer
}

func newMeasure(ctx context.Context, node *daemon.Running, dir string, o *Options) (*measure, error) {
	base, natsURL, _ := node.Addresses()
	hc, err := dial.NewClient(dial.Options{URL: base, Operator: true})
	if err != nil {
		return nil, err
	}
	m := &measure{o: o, base: base, http: hc, producer: "producer"}
	vkey, err := m.get(ctx, "/v1/keys/log.vkey")
	if err != nil {
		return nil, err
	}
	m.vkey = strings.TrimSpace(string(vkey))
	if m.registry, err = events.NewRegistry(remembrancer.Definitions()); err != nil {
		return nil, err
	}
	m.conn, err = bus.Connect(ctx, bus.Options{URLs: []string{natsURL}, CredsFile: filepath.Join(dir, daemon.CredsDir, "producer.creds"), Name: "bench"})
	return m, err
}

func (m *measure) close() error {
	m.conn.Close()
	return nil
}

func (m *measure) get(ctx context.Context, path string) (b []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

// state asks how far the ledger is.
func (m *measure) state(ctx context.Context) (folded, sealed int, err error) {
	b, err := m.get(ctx, "/v1/node")
	if err != nil {
		return 0, 0, err
	}
	var s struct {
		Size   int `json:"size"`
		Sealed int `json:"sealed_size"`
	}
	err = json.Unmarshal(b, &s)
	return s.Size, s.Sealed, err
}

func (m *measure) publisher(receipts bus.ReceiptVerifier) (*bus.Publisher, error) {
	return bus.NewPublisher(m.conn, bus.PublisherOptions{Producer: m.producer, Check: m.registry.Check, Receipts: receipts})
}

// events makes n deployments of about the wanted size.
func (m *measure) events(n int) iter.Seq[*events.Event] {
	return func(yield func(*events.Event) bool) {
		pad := max(0, m.o.Size-430)
		notes := strings.Repeat("x", pad)
		for i := range n {
			p := &remembrancer.DeployRecorded{Component: "bench", Version: "v" + strconv.Itoa(i), Notes: notes}
			now := time.Now()
			id, err := events.NewID(now, rand.Reader)
			if err != nil {
				return
			}
			e, err := m.registry.New(p, events.Origin{ID: id, Source: events.SourceOf(m.producer), Time: now})
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

func (m *measure) throughput(ctx context.Context, res *Result) error {
	pub, err := m.publisher(nil)
	if err != nil {
		return err
	}
	before, _, err := m.state(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	want := before + m.o.Events
	type moment struct{ folded, sealed time.Time }
	seen := make(chan moment, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		var at moment
		t := time.NewTicker(10 * time.Millisecond)
		defer t.Stop()
		for at.sealed.IsZero() {
			select {
			case <-watch.Done():
				seen <- at
				return
			case <-t.C:
			}
			folded, sealed, err := m.state(watch)
			if err != nil {
				continue
			}
			m.o.Progress("publish, fold, seal", max(0, sealed-before), m.o.Events)
			if at.folded.IsZero() && folded >= want {
				at.folded = time.Now()
			}
			if sealed >= want {
				at.sealed = time.Now()
			}
		}
		seen <- at
	}()
	if _, err := pub.PublishAll(ctx, m.events(m.o.Events)); err != nil {
		return errors.Join(err, pub.Close())
	}
	published := time.Now()
	at := <-seen
	if at.sealed.IsZero() {
		return errors.Join(ctx.Err(), pub.Close())
	}
	rate := func(end time.Time) float64 { return float64(m.o.Events) / end.Sub(start).Seconds() }
	res.PublishedPerSecond, res.FoldedPerSecond, res.SealedPerSecond = rate(published), rate(at.folded), rate(at.sealed)
	return pub.Close()
}

// latency publishes at a steady rate and takes the time from each event's
// publication to its verified receipt.
func (m *measure) latency(ctx context.Context, res *Result) error {
	v := &clock{vkey: m.vkey, producer: string(m.producer), sent: map[events.ID]time.Time{}}
	pub, err := m.publisher(v)
	if err != nil {
		return err
	}
	const slice = 10 * time.Millisecond
	total := m.o.Rate * m.o.Seconds
	next, stop := iter.Pull(m.events(total))
	defer stop()
	begin := time.Now()
	t := time.NewTicker(slice)
	defer t.Stop()
	sent := 0
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, 64)
	for sent < total {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		due := min(total, int(time.Since(begin).Seconds()*float64(m.o.Rate)))
		for sent < due {
			var batch []*events.Event
			now := time.Now()
			for len(batch) < 500 && sent < due {
				e, ok := next()
				if !ok {
					return errors.New("no events left")
				}
				batch, sent = append(batch, e), sent+1
			}
			v.note(batch, now)
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if _, err := pub.PublishBatch(ctx, batch); err != nil {
					mu.Lock()
					defer mu.Unlock()
					first = errors.Join(first, err)
				}
			})
		}
		m.o.Progress("receipts at a steady rate", sent, total)
	}
	wg.Wait()
	res.AchievedLatencyRate = float64(sent) / time.Since(begin).Seconds()
	if first != nil {
		return errors.Join(first, pub.Close())
	}
	if err := v.wait(ctx); err != nil {
		return errors.Join(err, pub.Close())
	}
	res.ReceiptP50Seconds, res.ReceiptP99Seconds, res.ReceiptsVerified = v.quantile(0.5), v.quantile(0.99), len(v.took)
	return pub.Close()
}

// A clock verifies receipts and takes their times.
type clock struct {
	vkey, producer string

	mu   sync.Mutex
	sent map[events.ID]time.Time
	took []time.Duration
}

func (c *clock) note(batch []*events.Event, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range batch {
		c.sent[e.ID] = at
	}
}

// VerifyReceipts implements bus.ReceiptVerifier.
func (c *clock) VerifyReceipts(note []byte) ([]bus.Receipt, error) {
	v, err := proof.NewReceiptVerifier(c.vkey, c.producer)
	if err != nil {
		return nil, err
	}
	b, err := v.VerifyReceipts(note)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]bus.Receipt, 0, len(b.Items))
	for _, it := range b.Items {
		id := events.ID(it.EventID)
		if at, ok := c.sent[id]; ok {
			c.took = append(c.took, now.Sub(at))
			delete(c.sent, id)
		}
		out = append(out, bus.Receipt{Origin: b.Origin, Producer: events.Producer(b.Producer), EventID: id, Index: it.Index, Size: b.Size, Leaf: it.Leaf, Root: b.Root})
	}
	return out, nil
}

// wait returns once every event has its receipt.
func (c *clock) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		c.mu.Lock()
		left := len(c.sent)
		c.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d receipts did not come: %w", left, ctx.Err())
		case <-t.C:
		}
	}
}

func (c *clock) quantile(q float64) float64 {
	if len(c.took) == 0 {
		return 0
	}
	slices.Sort(c.took)
	return c.took[min(len(c.took)-1, int(q*float64(len(c.took))))].Seconds()
}

// baseline runs the bare pipeline on a broker of its own on the same disk.
func (m *measure) baseline(ctx context.Context, res *Result) (err error) {
	m.o.Progress("bare pipeline", 0, m.o.Events)
	server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(m.o.Dir, "bare-stream"), Addr: "127.0.0.1:0"})
	if err != nil {
		return fmt.Errorf("start a broker for the baseline: %w", err)
	}
	defer server.Shutdown()
	conn, err := bus.Connect(ctx, bus.Options{URLs: []string{server.ClientURL()}, Name: "bare"})
	if err != nil {
		return err
	}
	defer conn.Close()
	took, err := bare.Run(ctx, conn, filepath.Join(m.o.Dir, "bare-store"), m.o.Events, m.o.Size)
	if err != nil {
		return err
	}
	m.o.Progress("bare pipeline", m.o.Events, m.o.Events)
	res.BaselinePerSecond = float64(m.o.Events) / took.Seconds()
	res.SealedToBaseline = res.SealedPerSecond / res.BaselinePerSecond
	return nil
}

// peakRSS is the largest resident set of this process in bytes, 0 where the
// system does not tell.
func peakRSS() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
