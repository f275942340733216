package bus

import "fmt"

// trim removes leading segments in which nothing is live. Only leading ones: a
// later one may hold the record that an event of an earlier one is done.
func (b *Outbox) trim() error {
	for len(b.segments) > 1 && b.segments[0].live == 0 {
		s := b.segments[0]
		if err := b.o.FS.Remove(b.path(s.number)); err != nil {
			return fmt.Errorf("remove a finished segment: %w", err)
		}
		b.segments = b.segments[1:]
		b.total -= s.size
		s.removed = true
		_ = s.file.Close()
	}
	if len(b.order) > 64 && len(b.order) > 2*len(b.live) {
		kept := b.order[:0]
		for _, k := range b.order {
			if !k.gone {
				kept = append(kept, k)
			}
		}
		clear(b.order[len(kept):])
		b.order = kept
	}
	return nil
}

// compact moves the live events of leading segments that are mostly done to the
// end, so that one event without a receipt does not hold the whole outbox.
func (b *Outbox) compact() error {
	for range len(b.segments) {
		s := b.segments[0]
		if s.live*2 > s.size {
			break
		}
		if len(b.segments) == 1 {
			if err := b.newSegment(s.number + 1); err != nil {
				return err
			}
		}
		target := b.segments[len(b.segments)-1]
		var buf []byte
		var moved []*kept
		for _, k := range b.order {
			if k.gone || k.segment != s {
				continue
			}
			r, err := b.read(k)
			if err != nil {
				return err
			}
			buf = r.append(buf, target.synced)
			moved = append(moved, k)
		}
		offset := target.size
		if err := b.write(target, buf); err != nil {
			return err
		}
		for _, k := range moved {
			_, length, err := parseRecord(buf)
			if err != nil {
				return err
			}
			b.apply(target, offset, int64(length), record{kind: recordPut, id: k.id})
			offset, buf = offset+int64(length), buf[length:]
		}
		if err := target.file.Sync(); err != nil {
			b.failed = fmt.Errorf("a sync failed, nothing more is written: %w", err)
			return b.failed
		}
		target.synced = target.size
		if err := b.trim(); err != nil {
			return err
		}
	}
	return nil
}
