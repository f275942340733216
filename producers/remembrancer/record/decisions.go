package record

import (
	"context"
	"errors"
	"fmt"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// decisions is what the log says about numbers. It is read on from where it
// stands, so each decision is read once. The lock named decisionsLock guards it.
type decisions struct {
	next  uint64           // leaf index to read on from
	owner map[int64]uint64 // number → leaf index of the first decision that has it
	last  int64            // the largest number
}

const decisionsLock = "decisions"

// maxRenumber bounds how often a decision whose number another node took
// meanwhile is recorded again.
const maxRenumber = 5

// errNumberTaken means that another node recorded the number first. The log
// holds both; the first in the log owns it.
var errNumberTaken = errors.New("another node took the number")

// readDecisions takes in the decisions that the ledger got since the last call.
func (r *Recorder) readDecisions() error {
	d := &r.decisions
	if d.owner == nil {
		d.owner = map[int64]uint64{}
	}
	for {
		const page = 256
		found, err := r.o.Log.ByType(remembrancer.DecisionRecordedType, d.next, page)
		if err != nil {
			return err
		}
		for _, index := range found {
			e, err := r.o.Log.Entry(index)
			if err != nil {
				return err
			}
			d.next = index + 1
			p, err := r.o.Registry.Decode(&e.Event)
			if err != nil {
				continue // it fits no schema: it has no number
			}
			if p, ok := p.(*remembrancer.DecisionRecorded); ok {
				if _, taken := d.owner[p.Number]; !taken {
					d.owner[p.Number] = index
				}
				d.last = max(d.last, p.Number)
			}
		}
		if len(found) < page {
			return nil
		}
	}
}

// check refuses a decision that contradicts the log: a number that is
// taken, or one that supersedes what is not there.
func (d *decisions) check(p *remembrancer.DecisionRecorded) error {
	if index, taken := d.owner[p.Number]; taken {
		return fmt.Errorf("%w: number %d is the decision at leaf %d; leave number out to get the next, %d", ErrConflict, p.Number, index, d.last+1)
	}
	for _, n := range p.Supersedes {
		if _, ok := d.owner[n]; !ok {
			return fmt.Errorf("%w: supersedes: there is no decision %d", ErrSchema, n)
		}
	}
	return nil
}

// Decision records a decision under the next free number, or under the one it
// has if that is free. Private keeps the body back. Numbers are given out one
// after the other in this process. If another node took one at the same moment,
// the first in the log has it, and this decision is recorded again under the
// next; the number's loser stays in the log, as everything does.
func (r *Recorder) Decision(ctx context.Context, o Order, p remembrancer.DecisionRecorded) (Recorded, error) {
	if err := o.check(); err != nil {
		return Recorded{}, err
	}
	private := take(&o, "body", &p.Body)
	if err := boundPrivate(private); err != nil {
		return Recorded{}, err
	}
	within, cancel := context.WithTimeout(ctx, r.o.LeafWait)
	defer cancel()
	unlock, err := r.locks.lock(within, decisionsLock)
	if err != nil {
		return Recorded{}, err
	}
	out, err := r.decide(within, &o, p, private)
	unlock()
	if err == nil {
		err = r.seal(ctx, &o, &out)
	}
	return out, err
}

func (r *Recorder) decide(ctx context.Context, o *Order, p remembrancer.DecisionRecorded, private map[string]string) (Recorded, error) {
	for attempt := range maxRenumber {
		out, err := r.number(ctx, o, p, private, attempt)
		if !errors.Is(err, errNumberTaken) {
			return out, err
		}
	}
	return Recorded{}, fmt.Errorf("%w: other nodes took %d numbers in a row; try again", ErrConflict, maxRenumber)
}

// number records the decision under one number. The attempt is part of an id
// that follows from a key, so that a repeat finds the attempt that won.
func (r *Recorder) number(ctx context.Context, o *Order, p remembrancer.DecisionRecorded, private map[string]string, attempt int) (Recorded, error) {
	if err := r.readDecisions(); err != nil {
		return Recorded{}, err
	}
	chosen := p.Number != 0
	if !chosen {
		p.Number = r.decisions.last + 1
	}
	in, err := r.intend(o, &p, private, attempt)
	if err != nil {
		return Recorded{}, err
	}
	in.adapt = func(stored events.Payload) (events.Payload, error) {
		same := p
		if was, ok := stored.(*remembrancer.DecisionRecorded); ok && !chosen {
			same.Number = was.Number
		}
		return &same, nil
	}
	_, repeated, err := r.find(in)
	if err != nil {
		return Recorded{}, err
	}
	if !repeated {
		if err := r.decisions.check(&p); err != nil {
			return Recorded{}, err
		}
	}
	// The next number is known once the ledger has this one, so the leaf is
	// waited for even if the caller does not.
	waiting := *o
	if o.Wait == WaitNone {
		waiting.Wait = WaitLeaf
	}
	out, err := r.publish(ctx, &waiting, in)
	if err != nil {
		// It may yet come into the log: the next one must not take its number.
		r.decisions.last = max(r.decisions.last, p.Number)
		return out, err
	}
	if err := r.readDecisions(); err != nil {
		return out, err
	}
	d, ok := out.Payload.(*remembrancer.DecisionRecorded)
	if !ok || out.Index == nil || r.decisions.owner[d.Number] == *out.Index {
		return out, nil
	}
	if chosen {
		return out, fmt.Errorf("%w: another node recorded a decision %d before; this one stands at leaf %d", ErrConflict, d.Number, *out.Index)
	}
	return out, errNumberTaken
}

// checkDecisions holds events that others made to the same rules. Those that the
// log already has are not asked again.
func (r *Recorder) checkDecisions(list []*intention) error {
	if err := r.readDecisions(); err != nil {
		return err
	}
	seen := map[int64]bool{}
	for _, in := range list {
		if !isDecision(in) {
			continue
		}
		p, err := r.o.Registry.Decode(in.event)
		if err != nil {
			return schemaError(err)
		}
		d, ok := p.(*remembrancer.DecisionRecorded)
		if !ok {
			continue
		}
		if seen[d.Number] {
			return fmt.Errorf("%w: two events record decision %d", ErrConflict, d.Number)
		}
		seen[d.Number] = true
		if err := r.decisions.check(d); err != nil {
			return err
		}
	}
	return nil
}

func isDecision(in *intention) bool { return in.event.Type == remembrancer.DecisionRecordedType }
