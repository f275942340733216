package record

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// Deploy records that a version of a component was deployed. Private keeps the
// notes back.
func (r *Recorder) Deploy(ctx context.Context, o Order, p remembrancer.DeployRecorded) (Recorded, error) {
	private := take(&o, "notes", &p.Notes)
	return r.one(ctx, o, &p, private)
}

// Incident records that something went wrong. Private keeps the body back.
func (r *Recorder) Incident(ctx context.Context, o Order, p remembrancer.IncidentReported) (Recorded, error) {
	private := take(&o, "body", &p.Body)
	return r.one(ctx, o, &p, private)
}

// Signature records that a key signed a file. Whether the signature is good is
// for whoever has the file and the key to say; the digests must be those of what
// is recorded.
func (r *Recorder) Signature(ctx context.Context, o Order, p remembrancer.ArtifactSigned) (Recorded, error) {
	if o.Private {
		return Recorded{}, errNoText
	}
	if sum := sha256.Sum256([]byte(p.Signature)); p.SignatureSHA256 != hex.EncodeToString(sum[:]) {
		return Recorded{}, fmt.Errorf("%w: signature_sha256 is not the digest of signature", ErrSchema)
	}
	return r.one(ctx, o, &p, nil)
}

// Timestamp records that an authority stamped a file. Whether the token is good
// is for whoever has the file and the roots to say; the digests must be those of
// what is recorded.
func (r *Recorder) Timestamp(ctx context.Context, o Order, p remembrancer.ArtifactTimestamped) (Recorded, error) {
	if o.Private {
		return Recorded{}, errNoText
	}
	token, err := base64.StdEncoding.DecodeString(p.Token)
	if sum := sha256.Sum256(token); err != nil || p.TokenSHA256 != hex.EncodeToString(sum[:]) {
		return Recorded{}, fmt.Errorf("%w: token_sha256 is not the digest of what token encodes", ErrSchema)
	}
	return r.one(ctx, o, &p, nil)
}

var errNoText = fmt.Errorf("%w: private: an artifact has no free text to keep back", reads.ErrBadRequest)

// take moves free text out of a payload if the order is private.
func take(o *Order, name string, text *string) map[string]string {
	if !o.Private || *text == "" {
		return nil
	}
	fields := map[string]string{name: *text}
	*text = ""
	return fields
}

// intend makes the intention of a payload, checked by everything that would
// refuse its event later. The text is checked before it is taken out of sight.
func (r *Recorder) intend(o *Order, p events.Payload, private map[string]string, n int) (*intention, error) {
	if err := o.may(p.EventType()); err != nil {
		return nil, err
	}
	source := events.SourceOf(o.Producer)
	id, err := r.id(o, source, n)
	if err != nil {
		return nil, err
	}
	e, err := r.o.Registry.New(p, events.Origin{ID: id, Source: source, Time: r.o.Clock().UTC()})
	if err != nil {
		return nil, schemaError(err)
	}
	if _, err := e.Canonical(); err != nil {
		return nil, refusal(err)
	}
	return &intention{event: e, private: private}, nil
}

// one records a payload whose event depends on nothing else in the log.
func (r *Recorder) one(ctx context.Context, o Order, p events.Payload, private map[string]string) (Recorded, error) {
	if err := o.check(); err != nil {
		return Recorded{}, err
	}
	if err := boundPrivate(private); err != nil {
		return Recorded{}, err
	}
	in, err := r.intend(&o, p, private, 0)
	if err != nil {
		return Recorded{}, err
	}
	within, cancel := context.WithTimeout(ctx, r.o.LeafWait)
	defer cancel()
	unlock, err := r.locks.lock(within, lockName(in.event))
	if err != nil {
		return Recorded{}, err
	}
	out, err := r.publish(within, &o, in)
	unlock()
	if err == nil {
		err = r.seal(ctx, &o, &out)
	}
	return out, err
}

func lockName(e *events.Event) string { return "event " + string(e.Source) + " " + string(e.ID) }

// publish records one intention under its lock, unless the log holds it already.
func (r *Recorder) publish(ctx context.Context, o *Order, in *intention) (Recorded, error) {
	out := Recorded{ID: in.event.ID, Source: in.event.Source, Type: in.event.Type}
	if e, ok, err := r.find(in); err != nil {
		return out, err
	} else if ok {
		out.Repeated = true
		r.place(&out, e)
		return r.withPayload(out, &e.Event)
	}
	publisher, err := r.o.Publisher(o.Producer)
	if err != nil {
		return out, err
	}
	if err := r.commit(in); err != nil {
		return out, err
	}
	before := r.o.Seals.Sealed()
	ack, err := publisher.Publish(ctx, in.event)
	if err != nil {
		return out, refusal(err)
	}
	if o.Wait == WaitNone {
		return r.withPayload(out, in.event)
	}
	e, err := r.settle(ctx, in, ack, before)
	if errors.Is(err, ErrPending) {
		full, decodeErr := r.withPayload(out, in.event)
		return full, errors.Join(err, decodeErr)
	}
	if err != nil {
		return out, err
	}
	r.place(&out, e)
	return r.withPayload(out, &e.Event)
}

func (r *Recorder) withPayload(out Recorded, e *events.Event) (Recorded, error) {
	p, err := r.o.Registry.Decode(e)
	if err != nil {
		return out, fmt.Errorf("read what was recorded: %w", err)
	}
	out.Payload = p
	return out, nil
}

// boundPrivate holds private text to the bound that the payload would have for
// it in the open.
func boundPrivate(private map[string]string) error {
	var c events.Checker
	for name, text := range private {
		most := remembrancer.MaxBody
		if name == "notes" {
			most = remembrancer.MaxNotes
		}
		c.Text(name, text, 1, most)
	}
	if err := c.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return nil
}
