package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/consumers/remembrancer/seal"
	"vaultmesh.cloud/vaultmesh/consumers/remembrancer/timestamp"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/internal/dial"
	"vaultmesh.cloud/vaultmesh/producers/remembrancer/record"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/receipts"
)

// Roles of the layer. Every node of it folds: the others read its ledger.
const (
	roleFold      = "fold"
	roleSeal      = "seal"
	roleTimestamp = "timestamp"
	roleServe     = "serve"
)

// epoch is the epoch of the events stream.
const epoch = 1

// tailCheck is how often the stream's tail is compared with the ledger.
const tailCheck = time.Minute

// Layer returns what layer 2 adds to a node.
func Layer() daemon.Layer {
	return daemon.Layer{
		Name:        "remembrancer",
		Definitions: remembrancer.Definitions(),
		Roles:       []string{roleFold, roleSeal, roleTimestamp, roleServe},
		Problems:    problems,
		Start:       start,
	}
}

// A part is the layer on one node.
type part struct {
	n       *daemon.Node
	keys    *keyring
	stream  stream
	created time.Time // of the events stream
	log     *ledger.Ledger
	heads   *receipts.Store
	reader  *reads.Reader
	voices  *voices
	blobs   blobs
	tsa     authority

	recorder *record.Recorder

	// regressed is why the stream does not continue the ledger; sealing has
	// stopped then.
	regressed atomic.Pointer[error]
}

// start opens the stores and starts what the node's roles ask for. The order:
// keys before stores (they name the log), stores before the fold, the fold
// before the sealer, all before the doors.
func start(ctx context.Context, n *daemon.Node) (func(context.Context) error, error) {
	p := &part{n: n}
	keyDir := filepath.Join(n.Dir, "keys")
	var err error
	if n.HasRole(roleSeal) || hasSecrets(keyDir) {
		p.keys, err = openKeys(keyDir, n.Config.Name, hostName(), n.Clock(), n.Rand)
	} else {
		p.keys, err = openPublic(keyDir, n.Config.Name)
	}
	if err != nil {
		return nil, err
	}
	n.SetOrigin(p.keys.Origin)
	if p.tsa, err = openAuthority(keyDir, n); err != nil {
		return nil, err
	}
	info, err := n.Conn.StreamInfo(ctx, events.EventsStream(epoch))
	if err != nil {
		return nil, fmt.Errorf("look at the events stream: %w", err)
	}
	p.created = info.Created
	p.stream = stream{n.Conn, p.created}
	if err := p.open(); err != nil {
		return nil, err
	}
	if err := p.run(ctx); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p.close, nil
}

func (p *part) open() error {
	dir := filepath.Join(p.n.Dir, "ledger")
	if err := ledger.Recover(dir); err != nil {
		return err
	}
	var err error
	if p.blobs.Blobs, err = bus.OpenBlobs(filepath.Join(p.n.Dir, daemon.BlobsDir), nil, 0); err != nil {
		return err
	}
	private, err := record.OpenPrivateDir(bus.Disk(), filepath.Join(p.n.Dir, "private"))
	if err != nil {
		return err
	}
	p.log, err = ledger.Open(dir, ledger.Options{Registry: p.n.Registry, Blobs: p.blobs, Logger: p.n.Logger})
	if err != nil {
		return err
	}
	dir = filepath.Join(p.n.Dir, "projections", "receipts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errors.Join(err, p.log.Close())
	}
	p.heads, err = receipts.Open(dir, receipts.Options{Logger: p.n.Logger, Verify: p.verifyHead})
	if err != nil {
		return errors.Join(err, p.log.Close())
	}
	p.reader = reads.New(reads.Options{Ledger: p.log, Heads: p.heads, Registry: p.n.Registry})
	p.voices = newVoices(p.n)
	p.recorder = record.New(record.Options{
		Registry: p.n.Registry, Log: p.log, Seals: p.reader, Private: private, Clock: p.n.Clock, Rand: p.n.Rand,
		Publisher: func(producer events.Producer) (record.Publisher, error) { return p.voices.of(producer) },
	})
	return nil
}

func (p *part) close(context.Context) error {
	p.voices.close()
	return errors.Join(p.heads.Close(), p.log.Close())
}

// blobs is the blob store, for those who know digests as text.
type blobs struct{ *bus.Blobs }

// Put implements ledger.Blobs and timestamp.Blobs.
func (b blobs) Put(ctx context.Context, data []byte) (string, error) {
	d, err := b.Blobs.Put(ctx, data)
	return string(d), err
}

// verifyHead refuses a head of HEADS that the log's key did not sign.
func (p *part) verifyHead(h remembrancer.Head) error {
	c, err := proof.OpenCheckpoint([]byte(h.Checkpoint), p.keys.VKey)
	if err != nil {
		return err
	}
	if c.Size != h.Size || c.Root.String() != h.Root || c.Origin != h.Origin {
		return fmt.Errorf("the head of size %d says something else than its checkpoint", h.Size)
	}
	return nil
}

func (p *part) run(ctx context.Context) error {
	n := p.n
	n.Go("fold", p.fold)
	n.Go("tail", p.watchTail)
	n.Go("heads", func(ctx context.Context) error {
		return p.followHeads(ctx, events.HeadsStream, events.HeadSubject(p.keys.Origin))
	})
	n.Go("seals", func(ctx context.Context) error {
		return p.followHeads(ctx, events.SealsStream, events.SealSubject(p.keys.Origin))
	})
	if n.HasRole(roleSeal) {
		n.Go("seal", p.seal)
		// Who reads the log right after the ready line finds a checkpoint.
		n.Ready("checkpoint", func(context.Context) error {
			if _, ok := p.heads.Latest(); !ok {
				return errors.New("none is published yet")
			}
			return nil
		})
		if err := p.bindKeys(ctx); err != nil {
			return err
		}
	}
	if n.HasRole(roleTimestamp) {
		n.Go("timestamp", p.timestamp)
	}
	n.Ready("ledger", func(context.Context) error { return p.healthy() })
	n.Metrics.MustRegister(reads.NewCollector(p.log, p.heads))
	p.info()
	if n.HasRole(roleServe) {
		p.mount()
	}
	return nil
}

func (p *part) healthy() error {
	if why := p.regressed.Load(); why != nil {
		return *why
	}
	return p.log.Stopped()
}

// fold runs until the layer stops. A stream that does not continue the ledger,
// or a store that failed, needs a person.
func (p *part) fold(ctx context.Context) error {
	err := p.log.Fold(ctx, epoch, p.created, p.stream)
	return p.judge(ctx, err)
}

func (p *part) judge(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, ledger.ErrRegressed), errors.Is(err, bus.ErrGap), errors.Is(err, bus.ErrRegressed):
		p.regressed.CompareAndSwap(nil, &err)
		p.n.Logger.Error("ALARM: the stream does not continue the ledger; nothing is sealed any more. "+
			"Stop the node, keep the data directory, and run `vaultmesh doctor`", "err", err)
		return fmt.Errorf("%w: %w", daemon.ErrFatal, err)
	case errors.Is(err, ledger.ErrStopped):
		return fmt.Errorf("%w: %w", daemon.ErrFatal, err)
	}
	return err
}

// watchTail compares the stream's tail with the ledger every minute and after
// each reconnect, which starts the fold anew.
func (p *part) watchTail(ctx context.Context) error {
	t := time.NewTicker(tailCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		info, err := p.n.Conn.StreamInfo(ctx, events.EventsStream(epoch))
		if err == nil {
			err = p.log.CheckTail(ctx, info.Created, p.stream)
		}
		if err := p.judge(ctx, err); errors.Is(err, daemon.ErrFatal) {
			return err
		}
	}
}

func (p *part) seal(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := seal.New(seal.Options{
		Origin: p.keys.Origin, Log: sealable{p.log, &p.regressed},
		Heads:    seal.Stream{Conn: p.n.Conn, Origin: p.keys.Origin},
		Receipts: seal.Stream{Conn: p.n.Conn, Origin: p.keys.Origin},
		State:    seal.FileState{Path: filepath.Join(p.n.Dir, "keys", "signed.json")},
		Signer:   p.keys.Log, PGP: p.keys.signCheckpoint, Clock: p.n.Clock, Logger: p.n.Logger,
	})
	err := s.Run(ctx)
	if errors.Is(err, seal.ErrFork) {
		return fmt.Errorf("%w: %w", daemon.ErrFatal, err)
	}
	return err
}

// sealable is a ledger that shows nothing new once the stream has regressed.
type sealable struct {
	*ledger.Ledger
	regressed *atomic.Pointer[error]
}

// Root fails once the stream has regressed: every round of the sealer proves its
// prefix first.
func (s sealable) Head() ledger.Head {
	if s.regressed.Load() != nil {
		return ledger.Head{}
	}
	return s.Ledger.Head()
}

func (p *part) timestamp(ctx context.Context) error {
	// The seed only spreads retries.
	jitter := rand.New(rand.NewPCG(uint64(p.n.Clock().UnixNano()), uint64(os.Getpid())))
	return timestamp.New(timestamp.Options{
		Authority: p.tsa.stamp, Checkpoints: p.heads, Seals: seals{p.n.Conn, p.keys.Origin},
		Blobs: p.blobs, Log: housekeeper{p}, Logger: p.n.Logger, Rand: jitter,
	}).Run(ctx)
}

// bindKeys records once which keys speak for this log, signed by the operator.
func (p *part) bindKeys(ctx context.Context) error {
	id := events.DerivedID(events.SourceOf(events.NodeProducer), events.ID(p.keys.VKey), "key-bound", 1)
	if done, err := (housekeeper{p}).Recorded(id); err != nil || done {
		return err
	}
	at := p.n.Clock().UTC().Truncate(time.Second)
	b := &remembrancer.LedgerKeyBound{
		Origin: p.keys.Origin, LogKey: p.keys.VKey, Operator: p.keys.Operator.Fingerprint(), Node: p.keys.Node.Fingerprint(),
		Serial: 1, NotBefore: events.FormatTime(at),
	}
	if err := p.keys.signBinding(b, at); err != nil {
		return err
	}
	return housekeeper{p}.Record(ctx, b, id, at)
}

// An authority is who stamps checkpoints and the operator's files.
type authority struct {
	stamp       timestamp.Several
	exchange    func(ctx context.Context, request []byte) ([]byte, error)
	names       []string
	chain       []byte // PEM of what the operator trusts
	development bool
}

// openAuthority takes the configured authorities, or a development one made here.
func openAuthority(dir string, n *daemon.Node) (authority, error) {
	var a authority
	if len(n.Config.TSA) == 0 {
		dev, err := openTSA(dir, hostName(), n.Clock(), n.Rand)
		if err != nil {
			return a, err
		}
		roots := x509.NewCertPool()
		roots.AddCert(dev.Root())
		local := timestamp.Local{Name: dev.Certificate().Subject.CommonName, Respond: dev.Respond, Roots: roots, Clock: n.Clock}
		return authority{timestamp.Several{local}, local.Exchange, []string{local.Name}, dev.RootPEM(), true}, nil
	}
	roots, chain, err := readRoots(n.Config.TSACA)
	if err != nil {
		return a, err
	}
	if len(n.Config.TSACA) == 0 {
		if roots, err = x509.SystemCertPool(); err != nil {
			return a, fmt.Errorf("read the system's roots; name the TSA's with --tsa-ca: %w", err)
		}
	}
	a.chain = chain
	var clients []timestamp.Client
	for _, url := range n.Config.TSA {
		hc, err := dial.NewClient(dial.Options{URL: url, Operator: true, MaxBody: timestamp.MaxReply + 1})
		if err != nil {
			return a, fmt.Errorf("--tsa %s: %w", url, err)
		}
		c := timestamp.Client{URL: url, HTTP: hc, Roots: roots, Clock: n.Clock}
		clients = append(clients, c)
		a.stamp, a.names = append(a.stamp, c), append(a.names, url)
	}
	a.exchange = func(ctx context.Context, request []byte) ([]byte, error) {
		var errs []error
		for _, c := range clients {
			der, err := c.Exchange(ctx, request)
			if err == nil {
				return der, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return a, nil
}
